"""What must not work: strangers, other tenants, other sites, bombs, slow clients, smuggling, wrong tokens, agents."""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.service.world import HELD, WORKER, World, a_request, token
from wcp_attest import TrustedKey
from wcp_attest.base.errors import ConfigError
from wcp_route.service.principals import Authenticator, OidcVerifier
from wcp_route.service.settings import OidcModel, read_service

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GUARDED = [
    ("POST", "/wcp/route"), ("GET", "/wcp/workers"), ("GET", "/wcp/capabilities"), ("GET", "/wcp/approvals/pending"),
    ("POST", "/wcp/approvals/resolve"), ("POST", "/wcp/approvals/escalate"), ("GET", "/wcp/approvals/x"),
    ("GET", "/wcp/approvals/x/history"),
    ("POST", "/access/v1/evaluation"), ("POST", "/access/v1/evaluations"), ("GET", "/ext-authz/x"),
    ("GET", "/api/v1/verify/org.acme.x"), ("PUT", "/api/v1/workers/org.acme.x/attest"), ("GET", "/api/v1/ban-list"),
    ("GET", "/api/v1/ban-list/reports"), ("POST", "/api/v1/ban-list/reports/x"), ("GET", "/api/v1/ban-lists/soc"),
    ("PUT", "/api/v1/ban-lists/soc"), ("GET", "/receipts/x/proof"), ("POST", "/api/v1/ban-list/report"),
    ("PUT", "/admin/workers/org.acme.x"), ("DELETE", "/admin/workers/org.acme.x"),
    ("PUT", "/admin/quarantine/org.acme.x"), ("DELETE", "/admin/quarantine/org.acme.x"), ("GET", "/receipts"),
    ("GET", "/admin/quarantine"),
    ("GET", "/receipts/head"), ("GET", "/receipts/export"), ("GET", "/receipts/x"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_rejects_a_caller_without_a_token(world: World, method: str, path: str) -> None:
    body: Any = {} if method in {"POST", "PUT"} else None
    answer = world(method, path, None, body)
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    wrong = world(method, path, None, body, headers={"authorization": "Bearer " + "x" * 40})
    assert wrong.status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "who"),
    [
        ("POST", "/wcp/route", "rita"),
        ("POST", "/wcp/approvals/resolve", "acme"),
        ("PUT", "/admin/quarantine/org.acme.x", "acme"),
        ("GET", "/admin/quarantine", "acme"),
        ("DELETE", "/admin/quarantine/org.acme.x", "ada"),
        ("PUT", f"/api/v1/workers/{WORKER}/attest", "acme"),
        ("GET", "/receipts", "acme"),
        ("GET", "/wcp/approvals/pending", "acme"),
    ],
)
def test_rejects_a_caller_without_the_role(world: World, method: str, path: str, who: str) -> None:
    assert world(method, path, who, {} if method in {"POST", "PUT"} else None).status_code == 403


def test_rejects_a_request_for_another_tenant(world: World) -> None:
    answer = world("POST", "/wcp/route", "other", a_request(tenant_id="acme"))
    assert (answer.status_code, answer.json()["code"]) == (403, "other-tenant")


def test_another_tenants_hold_cannot_be_seen(world: World) -> None:
    held = world("POST", "/wcp/route", "acme", a_request(capability_id=HELD, correlation_id=str(uuid.uuid4()))).json()
    assert world("GET", f"/wcp/approvals/{held['pending_approval_id']}", "other").status_code == 404


@pytest.mark.parametrize("who", ["bot", "olga"])
def test_an_agent_and_an_operator_cannot_approve(world: World, who: str) -> None:
    held = world("POST", "/wcp/route", "acme", a_request(capability_id=HELD, correlation_id=str(uuid.uuid4()))).json()
    body = {"pending_approval_id": held["pending_approval_id"], "decision": "approve", "reason": "x"}
    assert world("POST", "/wcp/approvals/resolve", who, body).status_code == 403


def test_headers_of_a_proxy_say_nothing_where_no_proxy_is_named(world: World) -> None:
    headers = {
        "x-forwarded-for": "127.0.0.1",
        "x-client-subject": "ada",
        "x-forwarded-user": "ada",
        "forwarded": "for=ada",
    }
    assert world("GET", "/wcp/approvals/pending", None, headers=headers).status_code == 401


def test_rejects_another_host(world: World) -> None:
    answer = world("GET", "/healthz", headers={"host": "evil.example"})
    assert (answer.status_code, answer.json()["code"]) == (421, "unknown-host")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_rejects_bodies_that_a_page_of_another_site_can_send(world: World, kind: str) -> None:
    data = json.dumps(a_request()).encode()
    answer = world("POST", "/wcp/route", "acme", content=data, headers={"content-type": kind})
    assert answer.status_code == 415


def test_only_a_named_origin_may_read_answers_and_no_cookie_goes_along(tmp_path: Path) -> None:
    named, world = "https://console.acme.example", World(tmp_path, cors_origins=["https://console.acme.example"])
    for path, who in (("/wcp/workers", "rita"), ("/wcp/workers", None), ("/healthz", None)):
        answer = world("GET", path, who, headers={"origin": named})
        assert answer.headers["access-control-allow-origin"] == named
        assert answer.headers["vary"] == "origin"
        assert "access-control-allow-credentials" not in answer.headers
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    before = world("OPTIONS", "/wcp/route", headers={"origin": named, **asked})
    for path in ("/ext-authz", "/ext-authz/x"):  # any 2xx there would be a yes to a gateway, for whoever asked it
        assert world("OPTIONS", path, headers={"origin": named, **asked}).status_code == 401
    assert (before.status_code, before.content) == (204, b"")
    assert "authorization" in before.headers["access-control-allow-headers"]
    for other in (f"{named}.evil.example", "null", "https://evil.example", named.upper()):
        refused = world("OPTIONS", "/wcp/route", headers={"origin": other, **asked})
        assert refused.status_code in {401, 405}
        assert "access-control-allow-origin" not in refused.headers
    world.close()


@pytest.mark.parametrize("origin", ["*", "https://a.example/", "https://*.example", "null", "https://A.example"])
def test_an_origin_that_is_none_is_refused(origin: str) -> None:
    with pytest.raises(ConfigError, match="cors_origins"):
        read_service({"auth": "none", "cors_origins": [origin]})


def test_each_answer_has_one_id_of_its_own(world: World) -> None:
    for path in ("/healthz", "/style.css", "/wcp/health"):
        ids = [world("GET", path).headers.get_list("x-request-id") for _ in range(3)]
        assert len({one for (one,) in ids}) == 3


def test_the_answer_names_no_origin_and_forbids_frames_and_scripts(world: World) -> None:
    answer = world("GET", "/signin", headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script" not in policy


def test_a_body_is_bounded_before_and_after_the_caller_is_known(world: World) -> None:
    large = json.dumps(a_request(request={"text": "x" * 20_000})).encode()
    kind = {"content-type": "application/json"}
    assert world("POST", "/wcp/route", None, content=large, headers=kind).status_code == 413
    assert world("POST", "/wcp/route", "acme", content=large, headers=kind).status_code == 200
    assert world("POST", "/wcp/route", "acme", content=b"x" * (1 << 20) + b"x", headers=kind).status_code == 413


def test_headers_are_bounded(world: World) -> None:
    assert world("GET", "/healthz", headers={f"x-{i}": "y" for i in range(200)}).status_code == 431
    assert world("GET", "/healthz", headers={"x-long": "y" * 40_000}).status_code in {400, 431}


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b'{"a":1,"a":2}', b'{"a":NaN}', b"[" * 50_000, b'"' + b"\\ud800" + b'"']
)
def test_a_malformed_body_is_400(world: World, body: bytes) -> None:
    answer = world("POST", "/wcp/route", "acme", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


def raw(world: World, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", world.server.port), 20) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    "lengths",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
    ],
)
def test_a_request_of_two_lengths_is_refused(world: World, lengths: bytes) -> None:
    host = f"Host: 127.0.0.1:{world.server.port}\r\n".encode()
    auth = f"Authorization: Bearer {token('rita')}\r\n".encode()
    smuggled = b"0\r\n\r\nGET /receipts HTTP/1.1\r\n" + host + auth + b"\r\n"
    answer = raw(world, b"POST /wcp/route HTTP/1.1\r\n" + host + auth + lengths + b"\r\n" + smuggled)
    assert answer.startswith(b"HTTP/1.1 4")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_slow_body_is_cut_off(tmp_path: Path) -> None:
    world = World(tmp_path, body_seconds=0.3)
    head = f"POST /wcp/route HTTP/1.1\r\nHost: 127.0.0.1:{world.server.port}\r\nContent-Length: 100\r\n\r\n".encode()
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", world.server.port), 20) as connection:
        connection.sendall(head + b"{")
        assert connection.recv(65536).startswith(b"HTTP/1.1 408")
    assert time.monotonic() - began < 15
    world.close()


def test_a_problem_shows_nothing_of_our_inside(world: World) -> None:
    for path in ("/wcp/workers/../../etc/passwd", "/api/v1/verify/..%2f..%2fetc", "/receipts/%00", "/decisions/'"):
        answer = world("GET", path, "rita")
        assert answer.status_code in {303, 400, 404}, path
        assert "Traceback" not in answer.text
        assert str(world.folder) not in answer.text


def test_a_grant_is_good_for_its_own_request_and_tenant_once(world: World) -> None:
    request = a_request(capability_id=HELD, correlation_id=str(uuid.uuid4()))
    pending = world("POST", "/wcp/route", "acme", request).json()["pending_approval_id"]
    answer = {"pending_approval_id": pending, "decision": "approve", "reason": "seen"}
    assert world("POST", "/wcp/approvals/resolve", "ada", answer).status_code == 200
    for again in (answer, {**answer, "decision": "deny"}):  # an answer that is sent again changes nothing
        assert world("POST", "/wcp/approvals/resolve", "ada", again).status_code == 409
    polled = world("GET", f"/wcp/approvals/{pending}", "acme").json()
    assert "grant" not in world("GET", f"/wcp/approvals/{pending}", "ada").json()  # the approver is not the requester
    headers = {"x-wcp-grant": polled["grant"]}
    others: list[tuple[str, dict[str, Any]]] = [
        ("acme", {**request, "correlation_id": str(uuid.uuid4())}),
        ("acme", {**request, "data_label": "PUBLIC"}),
        ("other", {name: value for name, value in request.items() if name != "tenant_id"}),
    ]
    for who, body in others:
        assert world("POST", "/wcp/route", who, body, headers=headers).json()["outcome"] != "DISPATCH"
    assert world("POST", "/wcp/route", "acme", request, headers=headers).json()["outcome"] == "DISPATCH"
    assert world("POST", "/wcp/route", "acme", request, headers=headers).json()["outcome"] != "DISPATCH"


def test_a_tenant_learns_no_path_no_hash_and_no_signer(world: World) -> None:
    manifest = (world.folder / "worker" / "manifest.json").read_bytes()
    secret = [
        str(world.folder),
        json.loads(manifest)["package_hash"],
        sha256(manifest).hexdigest(),
        sha256(TrustedKey.from_file_bytes(world.signer.public_pem()).spki).hexdigest(),
    ]
    held = world("POST", "/wcp/route", "acme", a_request(capability_id=HELD, correlation_id=str(uuid.uuid4())))
    answers = [
        held,
        world("GET", f"/wcp/approvals/{held.json()['pending_approval_id']}", "acme"),
        world("POST", "/wcp/route", "acme", a_request(correlation_id=str(uuid.uuid4()))),
        world("POST", "/wcp/route", "acme", a_request(capability_id="cap.none.here", correlation_id=str(uuid.uuid4()))),
        *(world("GET", path, "acme") for path in ("/wcp/workers", f"/wcp/workers/{WORKER}", "/wcp/capabilities")),
        *(world("GET", path) for path in ("/readyz", "/metrics", "/health", "/openapi.json")),
        world("GET", "/ext-authz/x", "acme", headers={"x-wcp-capability": "cap.doc.summarize"}),
    ]
    file = world.folder / "worker" / "code" / "worker_logic.py"
    text = file.read_text()
    try:
        file.write_text(text + "#")  # a denial says that it changed, not where it lies
        answers.append(world("POST", "/wcp/route", "acme", a_request(correlation_id=str(uuid.uuid4()))))
    finally:
        file.write_text(text)
        world("DELETE", f"/admin/quarantine/{WORKER}", "olga")
    assert answers[-1].json()["outcome"] == "DENY"
    for answer in answers:
        assert not [one for one in secret if one in answer.text], answer.text


# Tokens of an OpenID provider ----------------------------------------------------------------------------------------


class Provider:
    """An issuer whose keys can rotate, hang or vanish."""

    def __init__(self) -> None:
        self.keys = {"k1": rsa.generate_private_key(65537, 2048)}
        self.asked, self.down = 0, False

    def fetch(self, place: str) -> bytes:
        del place
        self.asked += 1
        if self.down:
            raise ConfigError("no answer within 5 s")
        rows = []
        for kid, key in self.keys.items():
            rows.append(
                jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "alg": "RS256"}
            )
        return json.dumps({"keys": rows}).encode()

    def token(self, kid: str = "k1", **changes: Any) -> str:
        now = int(time.time())
        claims = {"iss": "https://idp.example", "aud": "hall", "sub": "ada", "iat": now, "exp": now + 60}
        claims |= {"wcp_roles": ["approver"], "wcp_level": "gatekeeper"} | changes
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, self.keys[kid], "RS256", headers={"kid": kid})


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def verifier(provider: Provider) -> OidcVerifier:
    made = OidcVerifier(
        OidcModel(issuer="https://idp.example", audience="hall", jwks="x", algorithms=("RS256",)), provider.fetch
    )
    made.refresh()
    return made


def test_accepts_a_good_token_and_asks_for_keys_once(provider: Provider, verifier: OidcVerifier) -> None:
    found = verifier.verify(provider.token())
    assert found is not None
    assert (found.name, found.roles, found.level) == ("ada", frozenset({"approver"}), "gatekeeper")
    for _ in range(20):
        assert verifier.verify(provider.token()) is not None
    assert provider.asked == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "other"}, {"iss": "https://evil.example"}, {"exp": 1}, {"exp": 10**400}, {"exp": None}, {"aud": None},
        {"sub": None}, {"wcp_roles": "approver"}, {"sub": ["ada"]}, {"nbf": 4_000_000_000}, {"iat": 4_000_000_000},
        {"sub": ""}, {"sub": "ada\n"}, {"sub": " ada"}, {"sub": "a\u202eda"}, {"sub": "\ud800"}, {"sub": "a" * 129},
    ],
)  # fmt: skip
def test_rejects_a_token_with_a_wrong_claim(
    provider: Provider, verifier: OidcVerifier, changes: dict[str, Any]
) -> None:
    assert verifier.verify(provider.token(**changes)) is None


def test_rejects_a_token_of_the_wrong_algorithm_or_key(provider: Provider, verifier: OidcVerifier) -> None:
    claims = jwt.decode(provider.token(), options={"verify_signature": False})
    assert verifier.verify(jwt.encode(claims, "", "none", headers={"kid": "k1"})) is None
    assert verifier.verify(jwt.encode(claims, "x" * 64, "HS256", headers={"kid": "k1"})) is None
    stranger = rsa.generate_private_key(65537, 2048)
    assert verifier.verify(jwt.encode(claims, stranger, "RS256", headers={"kid": "k1"})) is None
    assert verifier.verify(jwt.encode(claims, stranger, "RS256")) is None
    good = provider.token()
    assert verifier.verify(good[:-4] + ("AAAA" if good[-4:] != "AAAA" else "BBBB")) is None
    assert verifier.verify("a.b.c") is None


def test_unknown_keys_cannot_drive_requests_to_the_issuer(provider: Provider, verifier: OidcVerifier) -> None:
    stranger = rsa.generate_private_key(65537, 2048)
    for number in range(50):
        assert verifier.verify(jwt.encode({"sub": "x"}, stranger, "RS256", headers={"kid": f"k{number}x"})) is None
    assert provider.asked == 1


def test_an_issuer_that_is_down_accepts_nobody_new(provider: Provider) -> None:
    provider.down = True
    verifier = OidcVerifier(OidcModel(issuer="https://idp.example", audience="hall", jwks="x"), provider.fetch)
    verifier.refresh()
    assert verifier.verify(provider.token()) is None
    assert "cannot be had" in verifier.problem


@pytest.mark.parametrize(
    "answer",
    [b"[]", b"null", b"5", b'"x"', b'{"keys": 5}', b'{"keys": []}', b'{"keys": [null, 5]}', b"[" * 99999, b"\xff"],
)
def test_an_answer_that_is_no_key_set_changes_nothing(provider: Provider, answer: bytes) -> None:
    answers = [answer, provider.fetch("")]
    verifier = OidcVerifier(OidcModel(issuer="https://idp.example", audience="hall", jwks="x"), lambda _: answers.pop())
    verifier.refresh()
    verifier.refresh()
    assert "cannot be had" in verifier.problem
    assert verifier.verify(provider.token()) is not None


def test_keys_are_asked_for_again_after_an_answer_that_is_none(provider: Provider) -> None:
    answers = [b"[]"]
    settings = OidcModel(issuer="https://idp.example", audience="hall", jwks="x", jwks_seconds=1)
    verifier = OidcVerifier(settings, lambda place: answers.pop() if answers else provider.fetch(place))
    with verifier.keep_fresh():
        wait_for(lambda: verifier.verify(provider.token()) is not None)
    assert verifier.problem == ""


@pytest.mark.filterwarnings("ignore:The RSA key is 1024 bits")
@pytest.mark.parametrize(
    "changes",
    [{"private": True}, {"use": "enc"}, {"alg": "PS256"}, {"kty": []}, {"n": 5}, {"kid": 5}, {"bits": 1024}],
)
def test_a_key_that_is_not_fit_to_verify_counts_nothing_and_costs_the_others_nothing(
    provider: Provider, changes: dict[str, Any]
) -> None:
    provider.keys["k2"] = rsa.generate_private_key(65537, changes.pop("bits", 2048))
    good, other = json.loads(provider.fetch(""))["keys"]
    if changes.pop("private", False):
        other = jwt.algorithms.RSAAlgorithm.to_jwk(provider.keys["k2"], as_dict=True) | {"kid": "k2"}
    rows = json.dumps({"keys": [other | changes, good]}).encode()
    verifier = OidcVerifier(OidcModel(issuer="https://idp.example", audience="hall", jwks="x"), lambda _: rows)
    verifier.refresh()
    assert verifier.verify(provider.token()) is not None
    assert verifier.verify(provider.token("k2")) is None


class JwksServer:
    """The issuer's keys over HTTP; holds its answers back while `open` is not set."""

    def __init__(self, provider: Provider) -> None:
        self.open, hold = threading.Event(), self
        self.asked = 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hold.asked += 1
                hold.open.wait(60)
                data = provider.fetch("")
                self.send_response(200)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"


def test_keys_that_hang_stop_nobody_else_and_rotated_keys_are_followed(provider: Provider, tmp_path: Path) -> None:
    issuer = JwksServer(provider)
    oidc = {"issuer": "https://idp.example", "audience": "hall", "jwks": issuer.url, "jwks_seconds": 1}
    world = World(tmp_path, oidc=oidc)

    def status(given: str) -> int:
        headers = {"authorization": f"Bearer {given}"}
        return world("GET", "/wcp/approvals/pending", None, headers=headers).status_code

    first = provider.token()
    for _ in range(3):  # the issuer answers nothing: its tokens are refused, and everybody else is served
        assert status(first) == 401
        assert world("POST", "/wcp/route", "acme", a_request()).status_code == 200
    assert "oidc" in world("GET", "/readyz").json()["missing"]
    issuer.open.set()
    wait_for(lambda: status(first) == 200)
    for exp, page in ((60, 200), (-5, 303)):  # a session ends with its token, whose end is allowed 30 s of other clocks
        with httpx.Client(base_url=world.base) as browser:
            given = provider.token(exp=int(time.time()) + exp)
            assert browser.post("/signin", data={"token": given}).headers["location"] == "/"
            assert browser.get("/").status_code == page
    provider.keys = {"k2": rsa.generate_private_key(65537, 2048)}  # rotated: the new one counts, the old one no more
    wait_for(lambda: status(provider.token("k2")) == 200)
    assert status(first) == 401
    issuer.server.shutdown()
    issuer.server.server_close()
    world.close()


def wait_for(found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({}, "nobody can be authenticated"),
        ({"auth": "none", "listen": "0.0.0.0:80"}, "loopback"),
        ({"auth": "none", "listen": "nonsense"}, "loopback|ADDRESS"),
        ({"auth": "none", "surprise": 1}, "surprise"),
        ({"token": [{"name": "a", "sha256": ["x"], "roles": ["router"]}]}, "sha256"),
        ({"token": [{"name": "a", "sha256": ["ab" * 32], "roles": ["root"]}]}, "roles"),
        ({"token": [{"name": name, "sha256": ["ab" * 32], "roles": ["reader"]} for name in "ab"]}, "two owners"),
        ({"proxy": {"peers": ["10.0.0.0/8"], "header": "x-a", "roles": {"a": ["reader"]}}}, "IP address"),
        ({"proxy": {"peers": ["proxy"], "header": "x-a", "roles": {"a": ["reader"]}}}, "IP address"),
    ],
)
def test_settings_that_open_the_service_to_strangers_are_refused(table: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_service(table)


def test_a_proxy_is_heard_from_its_own_address_only() -> None:
    roles = {"ada": ["approver"]}
    table: Any = {"proxy": {"peers": ["10.0.0.7"], "header": "x-client-subject", "roles": roles}}
    authenticator = Authenticator(read_service({"listen": "127.0.0.1:1", **table}))

    def scope(peer: str) -> Any:
        from starlette.requests import Request

        headers = [(b"x-client-subject", b"ada")]
        return Request({"type": "http", "headers": headers, "client": (peer, 1), "method": "GET", "path": "/"})

    assert authenticator.of(scope("10.0.0.7")).name == "ada"
    from wcp_route.service.problems import Problem

    with pytest.raises(Problem):
        authenticator.of(scope("127.0.0.1"))
