"""Names of repositories on a forge, in the one spelling in which they are compared.

For GitHub and GitLab, `Acme/Worker` and `acme/worker` are the same repository, with or without `.git`, a trailing slash
or the default port. A ban must hit also when it is spelled differently from the certificate, so `ban_spelling` removes
all these differences, on every host. A policy must never trust more than it says, so `trusted_spelling` ignores case
only on hosts that are known to ignore it. What follows the repository (the path of the workflow, `@` and the ref) is
compared exactly: there, forges tell `Main` from `main`.

    https://GitHub.com:443/Acme/Worker.git/     ->  https://github.com/acme/worker
    https://gitlab.com/Acme/Tools/Worker//.gitlab-ci.yml@refs/heads/Main
                                                ->  https://gitlab.com/acme/tools/worker//.gitlab-ci.yml@refs/heads/Main
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_URI = re.compile(r"(https?)://([^/?#]*)(/.*|)\Z", re.IGNORECASE | re.DOTALL)
_PORT = re.compile(r":0*([0-9]*)\Z")
_DEFAULT_PORTS: Final = {"https": ("", "443"), "http": ("", "80", "443")}  # empty: the default (RFC 3986)
# Further hosts of GitHub, which show repositories under other paths; no certificate names a repository by them.
NOT_REPOSITORIES: Final = frozenset(
    ("api.github.com", "codeload.github.com", "gist.github.com", "raw.github.com", "raw.githubusercontent.com")
)
_CASE_BLIND: Final = frozenset({"github.com", "gitlab.com"})
_ALIASES: Final = {"www.github.com": "github.com", "www.gitlab.com": "gitlab.com", "ssh.github.com": "github.com"}
# What ends the path of a repository in the URI of a workflow, job or run.
_REST = re.compile(r"//|/-/|/\.(?:github|gitea|forgejo)/|@")
_ENCODED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_GITHUB_REPOSITORY = re.compile(r"(/[^/]+/[^/@]+)(.*)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ForgeUri:
    """A URI on a forge, taken apart.

    Attributes:
        host: lower case, with its port where that is not the default one.
        repository: the path of the repository, `/acme/worker`, as it was written.
        rest: what follows it, such as `/.github/workflows/release.yml@refs/tags/v1`.
        is_github: whether the host is GitHub's, where a repository is `owner/name` and workflows lie in one folder.
        ignores_case: whether the host is known to ignore the case of repository names.
    """

    host: str
    repository: str
    rest: str
    is_github: bool
    ignores_case: bool

    @property
    def segments(self) -> list[str]:
        """The path of the repository in its parts, such as owner and name; without empty ones."""
        return [segment for segment in self.repository.split("/") if segment]

    @classmethod
    def parse(cls, uri: str, *, decode: bool = False) -> ForgeUri | None:
        """Take a URI apart.

        Args:
            uri: any text.
            decode: whether percent-encoding is resolved first (RFC 3986, section 2.1; the bytes are UTF-8), and letters
                that Unicode writes in two ways become one.

        Returns:
            The parts, or None when it is not an http or https URI.
        """
        if decode and uri[:4].lower() == "http":
            uri = _composed(_ENCODED.sub(_decoded, uri))
        found = _URI.match(uri)
        if found is None:
            return None
        name, port = found[2].rpartition("@")[2].lower(), ""
        if (end_of_name := _PORT.search(name)) is not None:
            name, port = name[: end_of_name.start()], end_of_name[1]
        host = _ALIASES.get(name.rstrip("."), name.rstrip("."))
        if port not in _DEFAULT_PORTS[found[1].lower()]:
            host = f"{host}:{port}"
        path = found[3]
        on_github = host == "github.com" or host.endswith(".ghe.com")
        if on_github and (whole := _GITHUB_REPOSITORY.match(path)) is not None:
            length = whole.end(1)
        else:
            length = len(path) if (end := _REST.search(path)) is None else end.start()
        return cls(host, path[:length], path[length:], on_github, on_github or host in _CASE_BLIND)


def ban_spelling(name: str) -> str:
    """Return a name of a certificate in the spelling in which bans are compared.

    Args:
        name: a URI, an e-mail address or another subject name; any text is accepted.

    Returns:
        An http or https URI: with `https`, the host in lower case, the repository in lower case without `.git` and
        trailing slashes, percent-encoding resolved, and the rest as it is. An e-mail address or user name: in lower
        case. Anything else: as it is. All in Unicode's normal form C.
    """
    parts = ForgeUri.parse(name, decode=True)
    if parts is None:
        return _composed(name) if "/" in name else _composed(_composed(name.lower()).casefold())
    repository = parts.repository.lower()
    if parts.rest.strip("/") in {"", ".git"}:
        return f"https://{parts.host}{repository.rstrip('/').removesuffix('.git')}"
    return f"https://{parts.host}{repository.removesuffix('.git')}{parts.rest}"


def ban_prefix(prefix: str) -> str:
    """Return the beginning of a name, as a ban with a `*` has it, in the spelling of `ban_spelling`.

    Args:
        prefix: what stands before the `*`.

    Returns:
        The beginning with which the names that are meant begin, once `ban_spelling` has spelled them.
    """
    if prefix.endswith("/"):
        return ban_spelling(prefix).rstrip("/") + "/"
    parts = ForgeUri.parse(prefix, decode=True)
    if parts is None or parts.rest:
        return ban_spelling(prefix)
    return f"https://{parts.host}{parts.repository.lower()}"


def repository_of(name: str) -> str:
    """Return the repository that a URI names or lies in.

    Args:
        name: any text.

    Returns:
        The repository as `ban_spelling` spells it; empty when there is none.
    """
    parts = ForgeUri.parse(name, decode=True)
    if parts is None or not parts.repository:
        return ""
    return f"https://{parts.host}{parts.repository.lower().rstrip('/').removesuffix('.git')}"


def _decoded(found: re.Match[str]) -> str:
    """Return what a run of percent-encoded bytes says."""
    return bytes.fromhex(found[0].replace("%", "")).decode("utf-8", "surrogateescape")


def _composed(text: str) -> str:
    """Return a text in Unicode's normal form C (UAX #15)."""
    if text.isascii():
        return text
    from unicodedata import normalize  # slow to import, and hardly any name needs it

    return normalize("NFC", text)


def trusted_spelling(uri: str) -> str:
    """Return a URI in the spelling in which a policy compares it with a certificate.

    Args:
        uri: any text.

    Returns:
        An https URI on a host that is known to ignore case: with its repository in lower case. Anything else: as it is.
    """
    parts = ForgeUri.parse(uri) if uri.startswith("https://") else None
    if parts is None or not parts.ignores_case or "@" in uri.partition("://")[2].partition("/")[0]:
        return uri
    return f"https://{parts.host}{parts.repository.lower()}{parts.rest}"
