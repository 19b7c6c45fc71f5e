"""The transport against a server that misbehaves: nothing hangs, grows, leaks a token, or is led elsewhere."""

from __future__ import annotations

import email.utils
import gzip
import os
import socket
import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest
import urllib3

from tests.bad_http import (
    BadServer,
    Certificates,
    cut,
    drip,
    drip_headers,
    endless,
    hang,
    many_headers,
    raw,
    redirect,
    reply,
    reset,
    silent_close,
)
from tests.limits import few_descriptors
from wcp_attest.base.errors import ConfigError, MachineError
from wcp_attest.base.url_origin import UrlOrigin, same_origin
from wcp_attest.net import https as transport_module
from wcp_attest.net.authorities import own_authorities
from wcp_attest.net.https import MAX_ATTEMPTS, HttpReply, Request, Transport
from wcp_attest.net.https_errors import RegistryAnswerError, RegistryError, RegistryRateLimitError, RegistryUnreachable

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bad_http import Answer

SHORT = 0.6  # seconds: a deadline that a good loopback exchange keeps with ease
JSON = frozenset({"application/json"})


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "FIRST_PAUSE", 0.01)


def get(server: BadServer, *answers: Answer, timeout: float = 10.0, max_bytes: int = 1 << 20) -> HttpReply:
    server.route("/x", *answers)
    transport = Transport(server.url, timeout=timeout)
    try:
        return transport.request(Request(server.url + "/x", max_bytes=max_bytes, types=JSON))
    finally:
        transport.close()


def test_a_good_answer_comes_whole_and_the_request_says_who_asks(server: BadServer) -> None:
    answer = get(server, reply(b'{"a":1}', headers={"ETag": '"7"'}))
    assert (answer.status, answer.body, answer.headers["etag"]) == (200, b'{"a":1}', '"7"')
    assert server.requests[0].headers["user-agent"].startswith("wcp-attest/")
    assert server.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "bad",
    [
        hang(),
        drip(b"x" * 10_000, 0.02),
        drip_headers(0.02),
    ],
    ids=["hangs", "slow body", "slow headers"],
)
def test_a_slow_server_costs_the_deadline_and_not_more(server: BadServer, bad: Answer) -> None:
    began = time.monotonic()
    with pytest.raises(RegistryUnreachable):
        get(server, bad, timeout=SHORT)
    assert time.monotonic() - began < SHORT + 20  # each of these servers would go on for minutes


def test_abandoned_requests_do_not_stay_behind(server: BadServer) -> None:
    before = threading.active_count()
    with pytest.raises(RegistryUnreachable):
        get(server, drip_headers(0.02), timeout=SHORT)
    for _ in range(100):
        if not any(thread.name == "wcp-attest request" for thread in threading.enumerate()):
            break
        time.sleep(0.05)
    assert not any(thread.name == "wcp-attest request" for thread in threading.enumerate()), before


@pytest.mark.parametrize(
    "bad",
    [
        cut(b'{"a":1', declared=7),
        cut(b"", declared=1),
        raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        raw(b"SSH-2.0-OpenSSH\r\n"),
        raw(b"HTTP/1.1 two hundred\r\n\r\n"),
        raw(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 100_000 + b"\r\n\r\n"),
        many_headers(200),
        silent_close(),
        reset(),
        reply(b"{}", 500),
        reply(b"{}", 503),
        reply(b"{}", 599),
    ],
)
def test_what_breaks_off_or_fails_is_tried_again_and_then_is_unreachable(server: BadServer, bad: Answer) -> None:
    with pytest.raises(RegistryUnreachable):
        get(server, bad)
    assert len(server.requests) == MAX_ATTEMPTS
    assert get(server, bad, bad, reply(b"{}")).body == b"{}"


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (endless(), "more than 1048576 bytes"),
        (reply(b"x" * ((1 << 20) + 1)), "more than 1048576 bytes"),
        (reply(b"<html>", kind="text/html"), "of type 'text/html'"),
        (reply(b"{}", kind=""), "of type ''"),
        (reply(gzip.compress(b"{}" * 1000), headers={"Content-Encoding": "gzip"}), "compressed"),
        (reply(b"{}", 400), "status 400"),
        (reply(b"{}", 401), "is the token right"),
        (reply(b"{}", 403), "is the token right"),
        (reply(b"{}", 410), "status 410"),
        (reply(b"{}", 206), "status 206"),
        (redirect("http://127.0.0.2:1/x"), "not followed"),
        (redirect("https://127.0.0.1/x"), "not followed"),
        (redirect("https://example.org/x"), "not followed"),
        (redirect("//example.org/x"), "not followed"),
        (redirect("file:///etc/passwd"), "not followed"),
        (redirect("http://user:secret@127.0.0.1/x"), "not followed"),
        (redirect(""), "redirects more than"),
        (redirect("/x"), "redirects more than"),
        (redirect("http://[::1"), "not followed"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}"), "malformed length '-5'"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n{}"), "malformed length '2, 2'"),
    ],
)
def test_an_answer_that_cannot_be_used_is_refused_at_once(server: BadServer, bad: Answer, why: str) -> None:
    with pytest.raises(RegistryAnswerError, match=why):
        get(server, bad)
    assert len(server.requests) == (4 if "more than" in why and "redirects" in why else 1)


def test_a_redirect_within_the_origin_is_followed(server: BadServer) -> None:
    server.route("/y", reply(b"[]"))
    assert get(server, redirect("/y", 307)).body == b"[]"
    assert get(server, redirect(server.url + "/y", 301)).url == server.url + "/y"


def test_a_request_that_changes_something_is_not_redirected_or_repeated(server: BadServer) -> None:
    transport = Transport(server.url)
    server.route("/x", reply(b"", 502))
    with pytest.raises(RegistryUnreachable):
        transport.request(Request(server.url + "/x", "POST", body=b"{}"))
    server.route("/x", redirect("/y", 308))
    with pytest.raises(RegistryAnswerError):
        transport.request(Request(server.url + "/x", "PUT", body=b"{}"))
    assert [exchange.method for exchange in server.requests] == ["POST", "PUT"]


def test_429_is_waited_for_as_long_as_the_server_says(server: BadServer) -> None:
    began = time.monotonic()
    assert get(server, reply(b"", 429, headers={"Retry-After": "1"}), reply(b"{}")).body == b"{}"
    assert time.monotonic() - began >= 1
    date = email.utils.formatdate(time.time() + 1.5, usegmt=True)
    assert get(server, reply(b"", 429, headers={"Retry-After": date}), reply(b"{}")).body == b"{}"
    assert get(server, reply(b"", 503, headers={"Retry-After": "0"}), reply(b"{}")).body == b"{}"


@pytest.mark.parametrize(
    "after", ["3600", email.utils.formatdate(4e9, usegmt=True), "99999999999999999999", "", "soon"]
)
def test_429_beyond_the_deadline_is_an_error_of_its_own(server: BadServer, after: str) -> None:
    with pytest.raises(RegistryRateLimitError) as caught:
        get(server, reply(b"", 429, headers={"Retry-After": after}))
    assert len(server.requests) == 1
    assert caught.value.retryable
    assert caught.value.retry_after is None or caught.value.retry_after >= 3600


def test_retries_are_bounded_even_when_the_server_asks_for_more(server: BadServer) -> None:
    with pytest.raises(RegistryRateLimitError):
        get(server, reply(b"", 429, headers={"Retry-After": "0"}))
    assert len(server.requests) == MAX_ATTEMPTS


def test_nobody_listens() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(RegistryUnreachable) as refused:
        Transport(url).request(Request(url + "/x"))
    assert str(refused.value).startswith(f"{url} cannot be reached: Failed to establish a new connection")


def test_a_machine_without_descriptors_says_nothing_of_the_server(server: BadServer, tmp_path: Path) -> None:
    server.route("/x", reply(b"{}"))
    certificates = Certificates.make(tmp_path)
    transport = Transport(server.url)
    with few_descriptors(0), pytest.raises(MachineError, match="nothing was decided"):
        transport.request(Request(server.url + "/x"))
    with few_descriptors(0), pytest.raises(MachineError, match="limit of open files"):
        Transport("https://localhost", ca_file=certificates.authority)
    assert transport.request(Request(server.url + "/x")).body == b"{}"


def test_out_of_memory_in_a_request_is_raised_and_not_printed(
    server: BadServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(urllib3.HTTPConnectionPool, "urlopen", full)
    with pytest.raises(MemoryError):
        get(server, reply(b"{}"))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "data",
    [b"HTTP/1.1 99999 OK\r\n\r\n", b"HTTP/9.9 200 OK\r\n\r\n", b"\0\x1b[31m\x07" * 9 + b"\r\n", b"::error::x\r\n"],
)
def test_what_is_no_http_is_said_on_one_line_without_control_characters(server: BadServer, data: bytes) -> None:
    with pytest.raises(RegistryUnreachable, match=r"cannot be reached: [A-Z]") as refused:
        get(server, *[raw(data)] * MAX_ATTEMPTS)
    assert str(refused.value).isprintable()


def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(RegistryUnreachable):
        Transport("https://nowhere.invalid", timeout=5).request(Request("https://nowhere.invalid/x"))


def test_https_needs_a_certificate_that_is_trusted(tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path)
    with BadServer(certificates) as server:
        server.route("/x", reply(b"{}"))
        good = Transport(server.url, ca_file=certificates.authority)
        assert good.encrypted
        assert good.request(Request(server.url + "/x")).body == b"{}"
        assert good.request(Request(server.url + "/x")).body == b"{}"
        with pytest.raises(RegistryUnreachable, match="certificate"):
            Transport(server.url).request(Request(server.url + "/x"))
    with pytest.raises(ConfigError):
        Transport("https://x.example", ca_file=str(tmp_path / "absent"))


VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR")


@pytest.mark.parametrize("variable", VARIABLES[:3])
def test_certificates_of_the_environment_are_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    certificates = Certificates.make(tmp_path)
    monkeypatch.setenv(variable, certificates.authority)
    other = "REQUESTS_CA_BUNDLE" if variable == "SSL_CERT_FILE" else "SSL_CERT_FILE"  # what the other libraries read
    assert own_authorities(os.environ) == {other: certificates.authority}
    with BadServer(certificates) as server:
        server.route("/x", reply(b"{}"))
        assert Transport(server.url).request(Request(server.url + "/x")).body == b"{}"
        (tmp_path / "other").mkdir()
        stranger = Certificates.make(tmp_path / "other")
        with pytest.raises(RegistryUnreachable, match="certificate"):  # what is named in the policy comes first
            Transport(server.url, ca_file=stranger.authority).request(Request(server.url + "/x"))
    monkeypatch.setenv(variable, str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match=variable):
        Transport("https://x.example")


@pytest.mark.parametrize("kind", ["an empty file", "a pipe", "a device", "text"])
@pytest.mark.parametrize("variable", [*VARIABLES, None])
def test_certificates_that_cannot_be_read_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, variable: str | None
) -> None:
    place = tmp_path / "authorities.pem"
    if kind == "an empty file":
        place.touch()
    elif kind == "a pipe":
        os.mkfifo(place)
    elif kind == "a device":
        place.symlink_to("/dev/zero")
    else:
        place.write_text("-----BEGIN CERTIFICATE-----\nnot base64\n-----END CERTIFICATE-----\n")
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    if variable is not None:
        monkeypatch.setenv(variable, str(place))
    with pytest.raises(ConfigError, match=r"authorities\.pem") as refused:
        Transport("https://localhost:1/", ca_file=str(place) if variable is None else None)
    assert variable is None or f"({variable})" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("value", "usable"), [("absent", False), ("absent:folder", True), ("folder:pipe", False)])
def test_of_several_directories_of_certificates_one_must_be_there_and_none_be_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, *, usable: bool
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSL_CERT_DIR", value)
    with nullcontext() if usable else pytest.raises(ConfigError, match=r"\(SSL_CERT_DIR\)"):
        Transport("https://localhost:1/")


def test_a_log_of_tls_keys_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "absent" / "keys"))
    with pytest.raises(ConfigError, match=r"\(SSLKEYLOGFILE\) cannot be written"):
        Transport("https://localhost:1/")


def test_an_empty_directory_of_certificates_trusts_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificates = Certificates.make(tmp_path)
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "empty"))
    with BadServer(certificates) as server, pytest.raises(RegistryUnreachable, match="certificate"):
        Transport(server.url).request(Request(server.url + "/x"))


def test_proxies_of_the_environment_are_not_used(server: BadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert get(server, reply(b"{}")).body == b"{}"


def test_a_flood_of_headers_is_refused(server: BadServer) -> None:
    lines = b"".join(b"X-%d: %b\r\n" % (number, b"x" * 2000) for number in range(50))
    with pytest.raises(RegistryAnswerError, match="headers"):
        get(server, raw(b"HTTP/1.1 200 OK\r\n" + lines + b"Content-Length: 2\r\n\r\n{}"))


def test_a_deadline_that_has_passed_costs_no_request(server: BadServer) -> None:
    server.route("/x", reply(b"{}"))
    with pytest.raises(RegistryUnreachable, match="in time"):
        Transport(server.url).request(Request(server.url + "/x"), until=time.monotonic() - 1)
    assert not server.requests


def test_a_server_that_never_finishes_its_handshake() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(RegistryUnreachable):
            Transport(url, timeout=SHORT).request(Request(url + "/x"))
        assert time.monotonic() - began < SHORT + 20  # each of these servers would go on for minutes


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "x",
        "ftp://x.example",
        "http://x.example",
        "http://127.0.0.1.example",
        "http://localhost.example",
        "http://10.0.0.1/",
        "https://user@x.example",
        "https://u:p@x.example",
        "https://x.example/#f",
        "https://x.example:0/",
        "https://x.example:99999/",
        "https://",
        "https:///x",
        "https://x.example/\n",
        "https://x.example/\\y",
        "https://x example/",
        "https://ü.example/",
        "https://[::1",
        "https://x.example/" + "a" * 2000,
    ],
)
def test_where_requests_must_not_go(bad: str) -> None:
    with pytest.raises(ConfigError):
        UrlOrigin.of(bad)


def test_where_requests_may_go() -> None:
    assert UrlOrigin.of("HTTPS://X.Example./a?b=c") == UrlOrigin("https", "x.example", 443)
    assert str(UrlOrigin.of("http://[::1]:8080")) == "http://[::1]:8080"
    assert UrlOrigin.of("http://localhost") == UrlOrigin("http", "localhost", 80)
    assert same_origin("https://x.example/a/b", "../c?d") == "https://x.example/c?d"
    assert same_origin("https://x.example/a", "https://x.example:444/a") is None
    assert same_origin("https://x.example/a", "http://x.example/a") is None


def test_many_threads_share_one_transport(server: BadServer) -> None:
    server.route("/x", reply(b"{}"))
    transport = Transport(server.url)
    found: list[bytes | RegistryError] = []

    def ask() -> None:
        found.extend(transport.request(Request(server.url + "/x")).body for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"{}"] * 160
