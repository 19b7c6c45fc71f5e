"""Where requests may go: one scheme, host and port, and https except on loopback."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urljoin, urlsplit

from wcp_attest.base.errors import ConfigError

MAX_URL = 2000  # characters
_VISIBLE = re.compile(rf"[!-\[\]-~]{{1,{MAX_URL}}}\Z")  # printable ASCII without space and backslash
_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class UrlOrigin:
    """A scheme, host and port (RFC 6454); requests and redirects never leave it.

    Attributes:
        scheme: `https`, or `http` on loopback.
        host: lower case, IPv6 without brackets.
        port: 1 to 65535.
    """

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> UrlOrigin:
        """Return the origin of a URL.

        Args:
            url: absolute, of at most `MAX_URL` printable ASCII characters.

        Returns:
            The origin; its port is the scheme's own where the URL names none.

        Raises:
            ConfigError: it is not an absolute http or https URL, carries a user, password or fragment, or is plain
                http to another machine.
        """
        if not _VISIBLE.match(url):
            raise ConfigError(f"{url[:80]!r} is not a URL of at most {MAX_URL} printable ASCII characters")
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            raise ConfigError(f"{url[:80]!r} is not a URL") from None
        if parts.scheme not in _PORTS or not host:
            raise ConfigError(f"{url[:80]!r} is not an https URL")
        if "@" in parts.netloc or parts.fragment:
            raise ConfigError("a URL must not carry a user, a password or a fragment")
        if port == 0:
            raise ConfigError(f"{url[:80]!r} has port 0")
        origin = cls(parts.scheme, host, port or _PORTS[parts.scheme])
        if origin.scheme == "http" and not origin.is_loopback:
            raise ConfigError(f"{url[:80]!r} is plain http: anyone on the way can change it; use https")
        return origin

    @property
    def is_loopback(self) -> bool:
        """Whether the host is `localhost` or a loopback address, so that requests stay on this machine."""
        try:
            return self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:  # a name
            return False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def same_origin(base: str, location: str) -> str | None:
    """Resolve a URL that a server names, as long as it stays at the server.

    Args:
        base: the absolute URL that was asked for.
        location: absolute or relative, as in a `Location` header (RFC 9110, section 10.2.2).

    Returns:
        The absolute URL, or None when it leads to another origin.
    """
    try:
        target = urljoin(base, location)
        return target if UrlOrigin.of(target) == UrlOrigin.of(base) else None
    except (ConfigError, ValueError):
        return None
