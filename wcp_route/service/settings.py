"""The `[service]` table of hall.toml: where the service listens, and who may ask.

[service]
listen = "127.0.0.1:7777"            # or "unix:/run/wcp/hall.sock"
hosts = ["hall.acme.example"]        # names that a request may use beside the address itself
auth = "required"                    # "none" only on a loopback address or a Unix socket
[[service.token]]
name = "platform"                    # the principal, and the tenant of a router
sha256 = ["9f86…"]                   # of the token; two may be valid at a time, for rotation
roles = ["router"]
[service.oidc]
issuer = "https://idp.acme.example"
audience = "wcp-hall"
jwks = "https://idp.acme.example/keys"     # or a file
[service.proxy]
peers = ["10.0.0.7"]                 # only these addresses may set the header
header = "x-client-subject"
[service.tls]                        # optional: a proxy may encrypt instead
certificate = "hall.pem"             # names of files are relative to hall.toml
key = "hall.key"
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from wcp_attest.base.errors import ConfigError
from wcp_route.domain.values import Level
from wcp_route.domain.wire_model import Model, Token, read

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonValue

Role = Literal["router", "reader", "publisher", "approver", "banner", "operator"]
Open = Literal["standing", "bans"]
ROLES: Final[tuple[Role, ...]] = ("router", "reader", "publisher", "approver", "banner", "operator")


def _fits(pattern: str, advice: str) -> AfterValidator:
    """Return a check of a text that says what to write. It does not repeat the text, which may be a token."""

    def check(given: str) -> str:
        if re.fullmatch(pattern, given) is None:
            raise ValueError(advice)
        return given

    return AfterValidator(check)


Sha256 = Annotated[str, _fits("[0-9a-f]{64}", "write the SHA-256 of the token, 64 lower-case hex digits")]
Host = Annotated[
    str, _fits(r"[a-z0-9.:\[\]-]{1,255}", "write what stands in Host, in lower case: hall.acme.example, or with :8443")
]
UNIX: Final = "unix:"


class TokenModel(Model):
    """One bearer token, or two while it is rotated."""

    name: Token
    sha256: Annotated[list[Sha256], Field(min_length=1, max_length=2)]
    roles: Annotated[list[Role], Field(min_length=1)]
    level: Level | None = None
    namespaces: list[str] = Field(default_factory=list)
    agent: bool = False


class OidcModel(Model):
    """Bearer tokens of an OpenID provider."""

    issuer: Annotated[str, Field(min_length=1, max_length=512)]
    audience: Annotated[str, Field(min_length=1, max_length=256)]
    jwks: Annotated[str, Field(min_length=1, max_length=1024)]
    jwks_seconds: Annotated[int, Field(ge=1, le=3600)] = 300  # how long keys are used before they are fetched again
    algorithms: tuple[Literal["RS256", "ES256", "EdDSA", "PS256"], ...] = ("RS256", "ES256")
    principal_claim: str = "sub"
    roles_claim: str = "wcp_roles"
    level_claim: str = "wcp_level"


def check_address(text: str) -> str:
    """Return an IP address in its usual form.

    Raises:
        ValueError: it is a name, a network or nonsense.
    """
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError("is not the IP address of one proxy") from None


class ProxyModel(Model):
    """A proxy that authenticates by mutual TLS and says whom."""

    peers: Annotated[list[Annotated[str, AfterValidator(check_address)]], Field(min_length=1)]
    header: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,63}$")]
    roles: Annotated[dict[Token, list[Role]], Field(min_length=1)]


class TlsModel(Model):
    """The service's own certificate (PEM); without it a proxy in front encrypts."""

    certificate: Annotated[str, Field(min_length=1, max_length=4096)]
    key: Annotated[str, Field(min_length=1, max_length=4096)]


class ServiceModel(Model):
    """The wire form of the table; what is left out has the value that refuses."""

    listen: str = "127.0.0.1:7777"
    hosts: list[Host] = Field(default_factory=list)
    auth: Literal["required", "none"] = "required"
    token: Annotated[list[TokenModel], Field(max_length=10_000)] = Field(default_factory=list)
    oidc: OidcModel | None = None
    proxy: ProxyModel | None = None
    tls: TlsModel | None = None
    open_to_all: list[Open] = Field(default_factory=list)
    cors_origins: list[Annotated[str, Field(pattern=r"^https?://[a-z0-9.-]{1,253}(:[0-9]{1,5})?$")]] = Field(
        default_factory=list
    )
    concurrent: Annotated[int, Field(ge=1, le=10_000)] = 64
    waiting: Annotated[int, Field(ge=0, le=100_000)] = 256
    connections: Annotated[int, Field(ge=1, le=100_000)] = 4096
    head_seconds: Annotated[float, Field(gt=0, le=300)] = 10.0
    body_seconds: Annotated[float, Field(gt=0, le=300)] = 10.0
    grace_seconds: Annotated[float, Field(ge=0, le=3600)] = 10.0
    threads: Annotated[int, Field(ge=1, le=256)] = 16
    ban_lists: dict[Token, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _open_only_to_this_machine(self) -> ServiceModel:
        if self.auth == "none" and not self.is_local:
            raise ValueError('auth = "none" is for a loopback address or a Unix socket only')
        if self.auth == "required" and not (self.token or self.oidc or self.proxy):
            raise ValueError("nobody can be authenticated: name a [[service.token]], [service.oidc] or [service.proxy]")
        names = [token.name for token in self.token]
        if len(set(names)) != len(names):
            raise ValueError("two tokens have one name; put both digests into one [[service.token]]")
        digests = [digest for token in self.token for digest in token.sha256]
        if len(set(digests)) != len(digests):
            raise ValueError("one digest stands there twice, so a token would have two owners")
        return self

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        if self.listen.startswith(UNIX):
            return True
        try:
            return ipaddress.ip_address(self.address[0]).is_loopback
        except ValueError:
            return False

    @property
    def host(self) -> str:
        """The host as it stands in a URL: an IPv6 address in brackets (RFC 3986, 3.2.2)."""
        host = self.address[0]
        return f"[{host}]" if ":" in host else host

    @property
    def address(self) -> tuple[str, int]:
        """Host and port.

        Raises:
            ValueError: `listen` is no address with a port.
        """
        host, _, port = self.listen.rpartition(":")
        if not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
            raise ValueError(f"listen {self.listen!r} is not ADDRESS:PORT or unix:PATH")
        return host.strip("[]"), int(port)


def read_service(table: JsonValue, folder: str = "") -> ServiceModel:
    """Read the table.

    Args:
        table: `[service]`.
        folder: of the settings; names of files are relative to it.

    Raises:
        ConfigError: a key is unknown or malformed, or the service would be open to strangers.
    """
    found = read(ServiceModel, table, what="[service]", max_bytes=1 << 22)
    try:
        if not found.listen.startswith(UNIX) or found.listen == UNIX:  # an empty path would be a socket without a name
            _ = found.address
    except ValueError as problem:
        raise ConfigError(str(problem)) from None
    tls, oidc = found.tls, found.oidc
    if tls is not None:
        tls = TlsModel(certificate=os.path.join(folder, tls.certificate), key=os.path.join(folder, tls.key))
    if oidc is not None and "://" not in oidc.jwks:
        oidc = oidc.model_copy(update={"jwks": os.path.join(folder, oidc.jwks)})
    lists = {name: os.path.join(folder, path) for name, path in found.ban_lists.items()}
    return found.model_copy(update={"tls": tls, "oidc": oidc, "ban_lists": lists})
