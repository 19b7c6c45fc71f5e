"""One ban: what it names, why, since when, and who made it.

    {"kind":"package","subject":"sha256:9f86…","reason":"exfiltrates tokens","banned_at":"2026-03-01T12:00:00Z",
     "source":"acme-soc","reference":"https://acme.example/advisories/7"}
    {"kind":"worker","subject":"org.acme.summarizer","versions":">=1.2,<1.4.3","reason":…}
    {"kind":"identity","subject":"https://github.com/acme/worker/*","issuer":"https://token.actions…","reason":…}

Digests are accepted in any case and with or without their `sha256:`; inside and in what is written there is one
spelling, `sha256:` or `blake3:` and 64 lower-case hex digits. No entry allows anything: nothing can override a ban.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from wcp_attest.base.characters import refused_character
from wcp_attest.base.digest import ALGORITHMS
from wcp_attest.base.errors import ConfigError, NamespaceInvalid
from wcp_attest.base.forge_name import NOT_REPOSITORIES, ForgeUri, ban_prefix, ban_spelling
from wcp_attest.base.identity import check_namespace, namespace_of, parse_utc
from wcp_attest.trust.bans.versions import Specifier

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject, JsonValue

MAX_REASON = 1000  # characters; a ban explains itself in a few sentences, the rest is behind `reference`
MAX_SOURCE = 200
MAX_URL = 2000
MAX_IDENTITY = 1024  # longer than any name in a Fulcio certificate
MIN_REPOSITORY: Final = 2  # path segments: an owner or group, and a name

_DIGEST = re.compile(r"(?:([A-Za-z0-9]{1,16}):)?([0-9A-Fa-f]{64})\Z")
_SECRET_ID = re.compile(r"hmac-sha256:[0-9a-f]{16}\Z")
_GITHUB_NAMED: Final = ("/.github/workflows/", "/actions/runs/")  # what follows a repository in a certificate
_URL = re.compile(r"https?://[!-~]+\Z", re.IGNORECASE)
_PRINTABLE = re.compile(r"[!-~]+\Z")
_REMOTE_SCHEME = re.compile(r"(?:git|ssh|ftps?|file|rsync|[a-z]+\+[a-z]+)\Z", re.IGNORECASE)  # of git remotes
_FORGE_PATH = re.compile(r"[A-Za-z0-9._/-]*\Z")
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_SCP = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9._-]+:.")  # git@github.com:acme/worker


class Kind(StrEnum):
    """What a ban names, most specific first."""

    MANIFEST = "manifest"
    PACKAGE = "package"
    FILE = "file"
    WORKER = "worker"
    KEY = "key"
    IDENTITY = "identity"
    NAMESPACE = "namespace"


RANK: Final[dict[Kind, int]] = {kind: rank for rank, kind in enumerate(Kind)}
DIGEST_KINDS: Final = (Kind.MANIFEST, Kind.PACKAGE, Kind.FILE)


@dataclass(frozen=True, slots=True)
class Ban:
    """One ban, in the one spelling; made by `make_ban` or `ban_from_json`.

    Attributes:
        kind: what it names.
        subject: of digests and keys `sha256:<hex>`, of a package also `blake3:<hex>`; of a shared secret
            `hmac-sha256:<16 hex>`; of a worker or namespace its id; of an identity a name in the certificate or its
            beginning and `*`, in the spelling of `base.forge_name.ban_spelling`.
        versions: of a worker, the specifier of the versions hit; empty for all.
        issuer: of an identity, the OIDC issuer; empty for any.
        reason: why, for people.
        banned_at: since when, `2026-03-01T12:00:00Z`. Information only: a ban also hits what was signed before.
        source: who made the ban.
        reference: a URL with more, or empty.
    """

    kind: Kind
    subject: str
    versions: str
    issuer: str
    reason: str
    banned_at: str
    source: str
    reference: str

    def sort_key(self) -> tuple[int, str, str, str]:
        """Return what bans are ordered and held unique by: their subject."""
        return RANK[self.kind], self.subject, self.versions, self.issuer

    def to_json(self) -> JsonObject:
        """Return the entry of a list; empty fields are left out."""
        return {field: str(value) for field in _FIELDS if (value := getattr(self, field))}

    def __str__(self) -> str:
        narrowed = f" {self.versions}" if self.versions else f" of {self.issuer}" if self.issuer else ""
        return f"{self.kind} {self.subject}{narrowed}"


_FIELDS: Final = tuple(field.name for field in fields(Ban))
_OPTIONAL: Final = ("versions", "issuer", "reference")


def make_ban(
    kind: Kind,
    subject: str,
    *,
    reason: str,
    banned_at: str,
    source: str,
    versions: str = "",
    issuer: str = "",
    reference: str = "",
) -> Ban:
    """Make a ban from its parts, in any accepted spelling.

    Args:
        kind: what `subject` is.
        subject: see `Ban`; digests in any case, with or without `sha256:`.
        reason: 1 to 1000 visible characters.
        banned_at: `2026-03-01T12:00:00Z`.
        source: 1 to 200 visible characters.
        versions: only of a worker: see `wcp_attest.trust.bans.versions`; empty for all.
        issuer: only of an identity: the URL of the OIDC issuer; empty for any.
        reference: an http or https URL of at most 2000 characters, or empty.

    Returns:
        The ban, in the one spelling.

    Raises:
        ConfigError: a part is missing, malformed or does not belong to this kind.
    """
    if versions and kind is not Kind.WORKER:
        raise ConfigError(f"only a ban of a worker takes versions, not one of a {kind}")
    if issuer and kind is not Kind.IDENTITY:
        raise ConfigError(f"only a ban of an identity takes an issuer, not one of a {kind}")
    if issuer and (not _is_url(issuer) or "*" in issuer):
        raise ConfigError(f"issuer {issuer[:80]!r} is not a URL without `*`; an issuer is compared exactly")
    if reference and not _is_url(reference):
        raise ConfigError(f"reference {reference[:80]!r} is not an http or https URL of at most {MAX_URL} characters")
    if parse_utc(banned_at) is None:
        raise ConfigError(f"time {banned_at[:40]!r} is not of the form 2026-03-01T12:00:00Z")
    return Ban(
        kind=kind,
        subject=_subject(kind, subject),
        versions=str(Specifier.parse(versions)) if versions else "",
        issuer=ban_spelling(issuer),
        reason=_visible("reason", reason, MAX_REASON),
        banned_at=banned_at,
        source=_visible("source", source, MAX_SOURCE),
        reference=reference,
    )


def ban_from_json(value: JsonValue) -> Ban:
    """Read an entry of a list.

    Args:
        value: the parsed JSON.

    Returns:
        The ban, in the one spelling.

    Raises:
        ConfigError: it is not an object of texts, a field is unknown, missing or malformed.
    """
    if not isinstance(value, dict):
        raise ConfigError("a ban is not an object")
    texts = {key: text for key, text in value.items() if isinstance(text, str) and text}
    if len(texts) != len(value) or not value.keys() <= set(_FIELDS):
        wrong = next(key for key in value if key not in texts or key not in _FIELDS)
        raise ConfigError(f"field {wrong[:80]!r} of a ban is unknown, empty or not a text")
    missing = [field for field in _FIELDS if field not in texts and field not in _OPTIONAL]
    if missing:
        raise ConfigError(f"a ban lacks {', '.join(missing)}")
    try:
        kind = Kind(texts.pop("kind"))
    except ValueError:
        raise ConfigError(f"kind {value['kind']!r} of a ban is unknown; one of {', '.join(Kind)}") from None
    return make_ban(kind, texts.pop("subject"), **texts)


def normal_digest(text: str) -> str:
    """Return a digest in the one spelling, `sha256:<64 lower-case hex digits>` or `blake3:…`.

    Args:
        text: hex in any case, optionally after the algorithm and a colon; without one it is SHA-256.

    Raises:
        ConfigError: it is not a digest of a known algorithm.
    """
    found = _DIGEST.match(text)
    algorithm = (found[1] or "sha256").lower() if found else ""
    if found is None or algorithm not in ALGORITHMS:
        raise ConfigError(f"{text[:100]!r} is not 64 hex digits, optionally after {': or '.join(ALGORITHMS)}:")
    return f"{algorithm}:{found[2].lower()}"


def _subject(kind: Kind, subject: str) -> str:
    if kind in DIGEST_KINDS:
        digest = normal_digest(subject)
        if kind is not Kind.PACKAGE and not digest.startswith("sha256:"):
            raise ConfigError(f"a {kind} is named by its sha256")
        return digest
    if kind is Kind.KEY:
        if _SECRET_ID.match(subject.lower()):
            return subject.lower()
        digest = normal_digest(subject)
        if not digest.startswith("sha256:"):
            raise ConfigError("a key is named by the sha256 of its DER form, or by hmac-sha256:<16 hex digits>")
        return digest
    if kind is Kind.NAMESPACE:
        return check_namespace(subject)
    if kind is Kind.WORKER:
        try:
            namespace_of(subject)
        except NamespaceInvalid as problem:
            raise ConfigError(str(problem)) from None
        return subject
    return _identity(subject)


def _identity(subject: str) -> str:
    """Return the one spelling of a name in certificates, which is read back as itself."""
    spelled = _spelled(subject)
    if spelled != subject and _spelled(spelled) != spelled:
        raise ConfigError(f"identity {subject[:80]!r} has letters with several lower-case forms; end it before them")
    return spelled


def _spelled(subject: str) -> str:
    if not 0 < len(subject) <= MAX_IDENTITY or refused_character(subject) is not None or subject != subject.strip():
        raise ConfigError(
            f"identity {subject[:80]!r} is not 1 to {MAX_IDENTITY} visible characters without blanks at its ends"
        )
    if "*" in subject[:-1] or subject == "*":
        raise ConfigError(f"identity {subject[:80]!r}: `*` may only stand at the end, after a beginning")
    prefix = subject.removesuffix("*")
    problem = _identity_problem(prefix, whole=prefix == subject)
    if problem is not None:
        raise ConfigError(f"identity {subject[:80]!r} {problem}")
    spelled = ban_spelling(subject) if prefix == subject else ban_prefix(prefix) + "*"
    if refused_character(spelled) is not None or spelled != spelled.strip() or _ENCODED.search(spelled):
        raise ConfigError(f"identity {subject[:80]!r} hides characters behind percent signs; write them out")
    return spelled


def _identity_problem(name: str, *, whole: bool) -> str | None:
    """Return why a name, or the beginning of one, would hit nothing or something unexpected; None when it is right."""
    scheme, colon, _ = name.partition("://")
    if "\\" in name:
        return "holds a backslash; no name in a certificate does"
    if colon:
        if _REMOTE_SCHEME.match(scheme):
            return "is the address of a clone; write the repository as https://host/owner/name"
        return _address_problem(name, whole=whole) if scheme.lower() in {"http", "https"} else None
    if "/" in name or _SCP.match(name) or "https://".startswith(name.lower()):
        return "is no name in a certificate; write a repository as https://host/owner/name"
    return _plain_problem(name, whole=whole)


def _plain_problem(name: str, *, whole: bool) -> str | None:
    """Say what is wrong with a name that is no address of a page, or return None."""
    if " " in name:
        return "holds a blank; only the path of a workflow may"
    unlikely = not name.isascii() or (whole and name.endswith("."))
    if name.lower().startswith(("mailto:", "@")) or ("@" in name and unlikely):
        return "is no address as certificates have it; write name@host, without `mailto:` and a dot at its end"
    return None


def _address_problem(name: str, *, whole: bool) -> str | None:
    """Say what is wrong with an http or https address, or with the beginning of one; None when it is right."""
    authority, slash, _ = name.partition("://")[2].partition("/")
    problem = _host_problem(authority, complete=whole or bool(slash))
    if problem is not None:
        return problem
    parts = ForgeUri.parse(name, decode=True)
    if parts is None or "?" in parts.repository or "#" in parts.repository:
        return "carries a query or fragment; leave it out"
    doubled = parts.rest.startswith("//") and (parts.is_github or len(parts.segments) < MIN_REPOSITORY)
    odd = parts.repository.startswith("//"), doubled and parts.rest.strip("/"), {".", ".."} & {*parts.segments}
    if any(odd):
        return "holds empty or dot segments; write the plain path"
    return _repository_problem(parts, whole=whole)


def _host_problem(authority: str, *, complete: bool) -> str | None:
    """Say what is wrong with the host of an address, or return None."""
    if "@" in authority:
        return "carries a user name; leave it out"
    if not authority or not complete:
        return "has no complete host; write https://host/ before the `*`"
    if not _PRINTABLE.match(authority):
        return "has a host that is not ASCII; write it as certificates have it, `xn--…`"
    return None


def _repository_problem(parts: ForgeUri, *, whole: bool) -> str | None:
    """Say why no certificate names such a repository on this host, or return None."""
    host, _, port = parts.host.partition(":")
    if parts.host in NOT_REPOSITORIES or (port and host in {"github.com", "gitlab.com"}):
        named = host if port else "github.com"
        return f"is not where a certificate names a repository; write https://{named}/owner/name"
    if parts.ignores_case and not _FORGE_PATH.match(parts.repository):
        return f"holds characters that no repository on {parts.host} has; write https://{parts.host}/owner/name"
    if whole and parts.ignores_case and len(parts.segments) < MIN_REPOSITORY:
        return f"names no repository; write https://{parts.host}/owner/name, or end it with /*"
    return _rest_problem(parts, whole=whole)


def _rest_problem(parts: ForgeUri, *, whole: bool) -> str | None:
    """Say why no certificate names what follows the repository, or return None."""
    rest = parts.rest.rstrip("/")
    if rest in {"", ".git"} or not (parts.is_github or rest.startswith("/-")):
        return None
    named = _GITHUB_NAMED if parts.is_github else ("/-/jobs/",)
    if not any(rest.startswith(start) or (not whole and start.startswith(rest)) for start in named):
        return "is a page of the forge that no certificate names; write the repository as https://host/owner/name"
    if whole and rest.startswith(_GITHUB_NAMED[0]) and "@" not in rest:
        return "names a workflow without its ref; end it with @* for every ref, or write the ref"
    return None


def _is_url(text: str) -> bool:
    return len(text) <= MAX_URL and _URL.match(text) is not None


def _visible(field: str, text: str, limit: int) -> str:
    if not 0 < len(text) <= limit or not text.strip() or refused_character(text) is not None:
        raise ConfigError(f"{field} {text[:80]!r} is not 1 to {limit} visible characters on one line")
    return text
