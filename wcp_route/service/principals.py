"""Who asks, and what they may do.

A principal is never taken from the body of a request. It comes from a bearer token whose SHA-256 stands in hall.toml,
from an OpenID token that the issuer's key signed for this audience, or from the header of a proxy whose address is
listed. The comparison takes the same time for every token.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import math
import threading
import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from wcp_attest.base.errors import ConfigError
from wcp_attest.disk.files import read_bounded
from wcp_route.service.problems import Problem
from wcp_route.service.settings import ROLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import HTTPConnection

    from wcp_route.domain.values import Level
    from wcp_route.service.settings import OidcModel, Role, ServiceModel

MAX_TOKEN: Final = 8192  # characters; an OpenID token with many claims has 4,000
MAX_JWKS_BYTES: Final = 1 << 20
JWKS_MAX_AGE: Final = 3600.0  # seconds; keys that cannot be fetched again count no longer than this
JWKS_PAUSE: Final = 10.0  # seconds between two attempts at least, however many unknown keys tokens name
FETCH_SECONDS: Final = 5.0
MIN_RSA_BITS: Final = 2048
REGISTRY_PATHS: Final = "/api/v1/"
REGISTRY_COOKIE: Final = "pyhall_session"
LEVELS: Final = ("advisory", "gatekeeper", "executor", "incident_commander")


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who was authenticated.

    Attributes:
        name: the tenant of a router, the person who answers an approval.
        roles: what it may do.
        level: the highest level of approval that it may answer; None for none.
        namespaces: whose packages a publisher may hand in.
        agent: a program that acts for a model; it never approves.
        until: when the token ends that it was authenticated by, seconds since 1970.
    """

    name: str
    roles: frozenset[Role]
    level: Level | None = None
    namespaces: tuple[str, ...] = ()
    agent: bool = False
    until: float = field(default=math.inf, compare=False)

    def require(self, *roles: Role) -> None:
        """Check that the principal has one of the roles.

        Args:
            roles: which of them are enough.

        Raises:
            Problem: 403.
        """
        if self.roles.isdisjoint(roles):
            raise Problem(
                403,
                "not-allowed",
                f"this needs the role {' or '.join(roles)}; you have {', '.join(sorted(self.roles)) or 'none'}",
            )


ANYBODY: Final = Principal("anybody", frozenset())  # without a token, where something is open to all
EVERYBODY: Final = Principal("local", frozenset(ROLES), "incident_commander")  # with auth = "none", on loopback


class Authenticator:
    """Finds out who asks.

    Args:
        service: the settings.
        fetch: gets the issuer's keys; by default over https.
    """

    def __init__(self, service: ServiceModel, fetch: Callable[[str], bytes] | None = None) -> None:
        self._service = service
        self._tokens = [
            (
                bytes.fromhex(digest),
                Principal(token.name, frozenset(token.roles), token.level, tuple(token.namespaces), token.agent),
            )
            for token in service.token
            for digest in token.sha256
        ]
        self.oidc = None if service.oidc is None else OidcVerifier(service.oidc, fetch or _fetch)

    def of(self, request: HTTPConnection) -> Principal:
        """Return who sent a request.

        Args:
            request: the request, or its head alone.

        Raises:
            Problem: 401, it says nothing that can be verified.
        """
        if self._service.auth == "none":
            return EVERYBODY
        proxy = self._service.proxy
        peer = request.client.host if request.client else ""
        if proxy is not None and peer in proxy.peers:
            names = request.headers.getlist(proxy.header)
            if len(names) == 1 and (roles := proxy.roles.get(names[0])):
                return Principal(names[0], frozenset(roles))
        token = _token_of(request)
        found = self.of_token(token) if token else None
        if found is None:
            raise Problem(
                401, "unauthenticated", "send a valid token: Authorization: Bearer …", {"www-authenticate": "Bearer"}
            )
        return found

    def of_token(self, token: str) -> Principal | None:
        """Return whose token it is.

        Args:
            token: as it came, without `Bearer`.

        Returns:
            The principal; None when nobody has the token.
        """
        digest, found = sha256(token.encode("utf-8", "surrogateescape")).digest(), None
        for known, principal in self._tokens:  # all of them, always: the time says nothing about which one is near
            if hmac.compare_digest(known, digest):
                found = principal
        if found is None and self.oidc is not None and token.count(".") == 2:
            return self.oidc.verify(token)
        return found


def _token_of(request: HTTPConnection) -> str:
    """Return the token of a request; empty when it brings none, more than one, or one that is too long."""
    values, token = request.headers.getlist("authorization"), ""
    if len(values) == 1:
        scheme, _, rest = values[0].partition(" ")
        token = rest.strip() if scheme.lower() == "bearer" else ""
    elif not values and request.url.path.startswith(REGISTRY_PATHS):  # how earlier clients send it; no browser has it
        token = request.cookies.get(REGISTRY_COOKIE, "")
    return token if len(token) <= MAX_TOKEN else ""


class OidcVerifier:
    """Verifies OpenID tokens: issuer, audience, time, algorithm, key (RFC 7519, RFC 8725).

    No verification waits for the issuer: `keep_fresh` gets its keys in the background. A token of a key that is not
    known is refused, and makes it look again.

    Args:
        settings: the `[service.oidc]` table.
        fetch: gets the issuer's keys.
    """

    def __init__(self, settings: OidcModel, fetch: Callable[[str], bytes]) -> None:
        self._settings, self._fetch = settings, fetch
        self._wanted = threading.Event()
        self._keys: dict[str, tuple[Any, str | None]] = {}
        self._fetched = float("-inf")
        self.problem = "the keys of the issuer are not there yet"

    def verify(self, token: str) -> Principal | None:
        """Return whose token it is.

        Args:
            token: a JWT.

        Returns:
            The principal; None when anything about the token is wrong.
        """
        import jwt

        settings = self._settings
        fresh = time.monotonic() - self._fetched < JWKS_MAX_AGE  # keys that were revoked must not count for longer
        try:
            header = jwt.get_unverified_header(token)
            key, algorithm = self._keys.get(str(header.get("kid", "")), (None, None)) if fresh else (None, None)
            named = header.get("alg")
            if key is None or named not in settings.algorithms or (algorithm is not None and named != algorithm):
                self._wanted.set()
                return None
            claims = jwt.decode(
                token, key, algorithms=[*settings.algorithms], audience=settings.audience, issuer=settings.issuer,
                options={"require": ["exp", "iat", "iss", "aud", settings.principal_claim]}, leeway=30,
            )  # fmt: skip
            return self._principal_of(claims)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, RecursionError, OverflowError):
            return None

    def _principal_of(self, claims: dict[str, Any]) -> Principal | None:
        settings = self._settings
        name, roles = claims.get(settings.principal_claim), claims.get(settings.roles_claim)
        level = claims.get(settings.level_claim)
        if not isinstance(name, str) or not isinstance(roles, list) or not 0 < len(name) <= 128:
            return None
        if not name.isprintable() or name != name.strip():  # it stands in receipts, and two must not look the same
            return None
        return Principal(
            name,
            frozenset(role for role in ROLES if role in roles),
            level if level in LEVELS else None,
            agent=claims.get("wcp_agent") is not False and "wcp_agent" in claims,
            until=float(claims["exp"]),
        )

    def refresh(self) -> None:
        """Get the keys now; what is wrong is kept as `problem`, and the earlier keys stay until they are too old."""
        try:
            self._keys = _keys_of(json.loads(self._fetch(self._settings.jwks)))
        except Exception as problem:  # noqa: BLE001  # no answer may end the thread that asks for the next one
            self.problem = f"the keys of the issuer cannot be had: {str(problem)[:200]}"
            return
        self._fetched, self.problem = time.monotonic(), ""

    @contextlib.contextmanager
    def keep_fresh(self) -> Iterator[None]:
        """Get the keys in the background until the block ends: at once, in time, and when one is unknown.

        However many tokens name unknown keys, the issuer is asked once in `JWKS_PAUSE` at most.
        """
        ended = threading.Event()

        def work() -> None:
            while not ended.is_set():
                self._wanted.clear()
                self.refresh()
                ended.wait(min(JWKS_PAUSE, self._settings.jwks_seconds))
                self._wanted.wait(self._settings.jwks_seconds)

        worker = threading.Thread(target=work, name="wcp-jwks", daemon=True)
        worker.start()
        try:
            yield
        finally:
            ended.set()
            self._wanted.set()
            worker.join(2 * FETCH_SECONDS)


def _keys_of(document: object) -> dict[str, tuple[Any, str | None]]:
    """Return the keys of a JWK Set (RFC 7517) by their ids, each with the algorithm that it is for, if it names one.

    A key that cannot verify signatures safely is left out: one for encryption, a secret, a private key that is no
    secret any more, an RSA key of less than 2048 bits (RFC 7518, section 3.3), or one that cannot be read.

    Raises:
        ConfigError: it is no JWK Set, or has no such key.
    """
    rows = document.get("keys") if isinstance(document, dict) else None
    found: dict[str, tuple[Any, str | None]] = {}
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and (key := _safe_key(row)) is not None:
            found[row["kid"]] = key, row.get("alg")
    if not found:
        raise ConfigError("the answer has no public key with an id that can verify signatures")
    return found


def _safe_key(row: dict[str, Any]) -> Any:
    """Return the public key of one JWK; None when it has no id or cannot verify signatures safely."""
    import jwt
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    name = row.get("kid")
    if not isinstance(name, str) or not name or row.get("use", "sig") != "sig" or row.keys() & {"d", "k"}:
        return None
    try:
        key = jwt.PyJWK(row).key
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError):
        return None
    weak = isinstance(key, RSAPublicKey) and key.key_size < MIN_RSA_BITS
    return None if weak else key


def _fetch(place: str) -> bytes:
    """Read the issuer's keys from a URL or from a file.

    Raises:
        ConfigError: the URL cannot be used, or the file cannot be read or is too large.
        MachineError: this machine is at fault that the file cannot be read.
        RegistryError: no complete answer came in time, or it is none.
    """
    if "://" not in place:
        return read_bounded(place, limit=MAX_JWKS_BYTES, what="the keys", follow=True)
    from wcp_attest.net.https import Request, Transport

    with contextlib.closing(Transport(place, timeout=FETCH_SECONDS)) as transport:
        reply = transport.request(Request(place, max_bytes=MAX_JWKS_BYTES))
    if reply.status != 200:
        raise ConfigError(f"the issuer answered {reply.status}")
    return reply.body
