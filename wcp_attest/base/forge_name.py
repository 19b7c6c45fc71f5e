"""Names of repositories on a forge, in the one spelling in which they are compared.

GitHub and GitLab take `Acme/Worker` and `acme/worker` for the same repository, with or without `.git`, a trailing slash
or the default port. A ban that is spelled differently from the certificate must still hit, so `ban_spelling` folds all
of this for every host. A policy must never trust more than it says, so `trusted_spelling` folds case only on hosts that
are known to ignore it. What follows the repository (the workflow's path, `@` and the ref) is compared exactly: forges
tell `Main` from `main` there.

    https://GitHub.com:443/Acme/Worker.git/     ->  https://github.com/acme/worker
    https://gitlab.com/Acme/Tools/Worker//.gitlab-ci.yml@refs/heads/Main
                                                ->  https://gitlab.com/acme/tools/worker//.gitlab-ci.yml@refs/heads/Main
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_URI = re.compile(r"(https?)://([^/?#]*)(/.*)?\Z", re.IGNORECASE | re.DOTALL)
_DEFAULT_PORTS: Final = {"https": ":443", "http": ":80"}
_NOT_REPOSITORIES: Final = frozenset(
    ("api.github.com", "codeload.github.com", "gist.github.com", "raw.github.com", "raw.githubusercontent.com")
)
_CASE_BLIND: Final = frozenset({"github.com", "gitlab.com"})
_ALIASES: Final = {"www.github.com": "github.com", "www.gitlab.com": "gitlab.com", "ssh.github.com": "github.com"}
# What ends the path of a repository in the URI of a workflow, job or run.
_REST = re.compile(r"//|/-/|/\.(?:github|gitea|forgejo)/|@")
_ENCODED = re.compile(r"%([0-9A-Fa-f]{2})")
_GITHUB_REPOSITORY = re.compile(r"(/[^/]+/[^/@]+)(.*)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ForgeUri:
    """A URI on a forge, taken apart.

    Attributes:
        host: lower case, with its port where that is not the default one.
        repository: the path of the repository, `/acme/worker`, as it was written.
        rest: what follows it, such as `/.github/workflows/release.yml@refs/tags/v1`.
    """

    host: str
    repository: str
    rest: str

    @property
    def ignores_case(self) -> bool:
        """Whether the host is known to ignore the case of repository names."""
        return self.host in _CASE_BLIND or self.is_github

    @property
    def is_github(self) -> bool:
        """Whether the host is GitHub's, where a repository is `owner/name` and workflows lie in one folder."""
        return self.host == "github.com" or self.host.endswith(".ghe.com")

    @property
    def holds_repositories(self) -> bool:
        """Whether certificates name repositories by this host; GitHub's further hosts show them under other paths."""
        return self.host not in _NOT_REPOSITORIES

    @classmethod
    def parse(cls, uri: str) -> ForgeUri | None:
        """Take a URI apart.

        Args:
            uri: any text.

        Returns:
            The parts, or None when it is no http or https URI.
        """
        found = _URI.match(uri)
        if found is None:
            return None
        host = found[2].rpartition("@")[2].lower().removesuffix(_DEFAULT_PORTS[found[1].lower()]).rstrip(".")
        host = _ALIASES.get(host, host)
        path = found[3] or ""
        on_github = cls(host, path, "").is_github
        whole = _GITHUB_REPOSITORY.match(path) if on_github else None
        if whole is not None:
            return cls(host, whole[1], whole[2])
        end = _REST.search(path)
        return cls(host, path, "") if end is None else cls(host, path[: end.start()], path[end.start() :])


def ban_spelling(name: str) -> str:
    """Return a name of a certificate in the spelling in which bans are compared.

    Args:
        name: a URI, an e-mail address or another subject name; anything is taken.

    Returns:
        Of an http or https URI: `https`, the host in lower case, the repository in lower case without `.git` and
        trailing slashes, percent-encoding resolved, the rest as it is. Of an e-mail address or user name: lower case.
        All else as it is.
    """
    parts = ForgeUri.parse(_plain(name))
    if parts is None:
        return name if "/" in name else name.lower()
    repository = parts.repository.lower()
    if parts.rest.strip("/") in {"", ".git"}:
        return f"https://{parts.host}{_bare(repository)}"
    return f"https://{parts.host}{repository.removesuffix('.git')}{parts.rest}"


def ban_prefix(prefix: str) -> str:
    """Return the beginning of a name, as a ban with a `*` has it, in the spelling of `ban_spelling`.

    Args:
        prefix: what stands before the `*`.
    """
    if prefix.endswith("/"):
        return ban_spelling(prefix).rstrip("/") + "/"
    parts = ForgeUri.parse(_plain(prefix))
    if parts is None or parts.rest:
        return ban_spelling(prefix)
    return f"https://{parts.host}{parts.repository.lower()}"


def repository_of(name: str) -> str:
    """Return the repository that a URI names or lies in, as `ban_spelling` spells it; empty when there is none."""
    parts = ForgeUri.parse(_plain(name))
    return "" if parts is None or not parts.repository else f"https://{parts.host}{_bare(parts.repository.lower())}"


def trusted_spelling(uri: str) -> str:
    """Return a URI in the spelling in which a policy compares it with a certificate.

    Args:
        uri: any text.

    Returns:
        Of an https URI on a host that is known to ignore case: its repository in lower case. All else as it is.
    """
    parts = ForgeUri.parse(uri) if uri.startswith("https://") else None
    if parts is None or not parts.ignores_case or "@" in uri.partition("://")[2].partition("/")[0]:
        return uri
    return f"https://{parts.host}{parts.repository.lower()}{parts.rest}"


def _plain(uri: str) -> str:
    """Resolve the percent-encoding of an http or https URI, byte by byte (RFC 3986, section 2.1)."""
    return _ENCODED.sub(lambda found: chr(int(found[1], 16)), uri) if uri[:4].lower() == "http" else uri


def _bare(repository: str) -> str:
    return repository.rstrip("/").removesuffix(".git")
