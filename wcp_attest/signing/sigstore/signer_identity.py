"""Who a keyless signer is, and which signer a policy expects: pure values, without the `sigstore` library.

A Fulcio certificate says who signed: the subject alternative name (SAN), the issuer of the OIDC token, and, for CI
systems, claims of the token as extensions (`CertificateClaims`). A policy names the signer it expects
(`SigstoreIdentity`), either by the exact SAN or by the structured claims of a CI run:

    {issuer = "https://accounts.example.com", identity = "release@acme.example"}
    {issuer = "https://token.actions.githubusercontent.com", repository = "acme/worker",
     workflow = ".github/workflows/release.yml", ref = "refs/tags/*"}

Names of repositories are compared as their forge compares them: github.com and gitlab.com ignore case, `.git` and the
default port (`base.forge_name`). Everything else is compared exactly; a `*` has a meaning only as the last character of
`ref`. The issuer is never optional: the same SAN from another issuer is another person.

A `workflow` in the short form is the workflow that the run started with *and* whose job signed. A job that signs
inside a reusable workflow is named in full, `acme/shared/.github/workflows/sign.yml`: then the signing workflow is
compared, and `repository` is still the one that the run belongs to. (The SAN alone names only the reusable workflow,
and any repository could call it.)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from wcp_attest.base.errors import ConfigError, SignerUntrusted
from wcp_attest.base.forge_name import ForgeUri, repository_of, trusted_spelling

GITHUB = "https://github.com/"
WORKFLOW_DIRECTORY = ".github/workflows/"
# Each issuer gives tokens to the runs of one host only, so it can never match a repository of another host.
_HOST_OF_ISSUER = {"https://token.actions.githubusercontent.com": "github.com", "https://gitlab.com": "gitlab.com"}

# Further issuers of Sigstore's public instance (sigstore/fulcio, config/identity), as its certificates spell them.
_ISSUERS = frozenset(
    (
        *_HOST_OF_ISSUER,
        "https://accounts.google.com",
        "https://agent.buildkite.com",
        "https://github.com/login/oauth",
        "https://oauth2.sigstore.dev/auth",
    )
)

# Longer than any SAN, URL or Git ref that Fulcio issues; keeps messages and labels readable.
MAX_FIELD = 1024

_URL = re.compile(r"https?://[!-)+.0-~-]+(/[!-)+-~]*)?\Z")
_REPOSITORY = re.compile(r"([A-Za-z0-9._-]+/|https://[A-Za-z0-9.:-]+/([A-Za-z0-9._-]+/)+)[A-Za-z0-9._-]+\Z")
_WORKFLOW = re.compile(r"([A-Za-z0-9._-]+/[A-Za-z0-9._-]+/)?\.github/workflows/[^/@*]+\.ya?ml\Z")
_GITLAB_FILE = re.compile(r"[^/@*][^@*]*\.ya?ml\Z")  # such as .gitlab-ci.yml, below the project's root
_REF = re.compile(r"refs/(?:[^/*]+/[^*]*[^/.*]|[^*]*\*)\Z")
_NOT_IN_A_REF = re.compile(r"\.\.|@\{|//|/\.|[ ~^:?\[\\]")  # git-check-ref-format(1)
_EXPRESSION = re.compile(r"[\^.]|.*(\\|\$\Z)")  # how only a regular expression begins, goes on or ends
_PULL_REQUEST = "refs/pull/1/merge"
# A workflow claim is the workflow's path, `@`, and a ref or commit. A file name cannot hold a `/`, so `@refs/` ends it.
_WORKFLOW_CLAIM = re.compile(r"(?P<path>.+?)@(refs/.+|[0-9a-f]{40,64})\Z")


@dataclass(frozen=True, slots=True)
class CertificateClaims:
    """What a Fulcio certificate says of its holder, in the words of Fulcio's list of extensions.

    The values are those of a certificate that was verified before; `None` is a claim the certificate does not make.

    Attributes:
        issuer: the OIDC issuer (1.3.6.1.4.1.57264.1.8, or .1).
        san: the subject alternative name: an e-mail address, a URI or an "other name".
        build_signer_uri: the workflow whose job signed, with its ref (.9).
        runner_environment: `github-hosted` or `self-hosted` (.11).
        source_repository_uri: the repository that the run belongs to (.12).
        source_repository_digest: the commit that was built (.13).
        source_repository_ref: the ref that was built (.14).
        build_config_uri: the workflow the run started with, with its ref (.18).
        build_trigger: the event that started the run (.20).
        run_invocation_uri: the page of the run (.21).
    """

    issuer: str
    san: str
    build_signer_uri: str | None = None
    runner_environment: str | None = None
    source_repository_uri: str | None = None
    source_repository_digest: str | None = None
    source_repository_ref: str | None = None
    build_config_uri: str | None = None
    build_trigger: str | None = None
    run_invocation_uri: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Every URI of the certificate that names a repository, a workflow or a run, and the repositories in them."""
        uris = (
            self.san,
            self.source_repository_uri,
            self.build_signer_uri,
            self.build_config_uri,
            self.run_invocation_uri,
        )
        said = [uri for uri in uris if uri]
        return tuple(dict.fromkeys([*said, *filter(None, map(repository_of, said))]))


@dataclass(frozen=True, slots=True)
class SigstoreIdentity:
    """The keyless signer that a policy expects: an exact SAN, or a repository with what narrows it.

    Attributes:
        issuer: the OIDC issuer's URL, exactly as in the certificate.
        identity: the exact SAN; excludes the other fields.
        repository: `owner/name` on github.com, or the full `https://` URL of a repository elsewhere.
        workflow: `.github/workflows/<file>`, or `owner/name/.github/workflows/<file>` of a reusable workflow; of a
            project on GitLab the path of its file, such as `.gitlab-ci.yml`.
        ref: a full Git ref such as `refs/heads/main`; a `*` at its end matches any rest, `refs/tags/*`.

    Raises:
        ConfigError: a field is empty, malformed or has a wildcard where none is allowed, or the fields do not name
            exactly one of an identity and a repository.
    """

    issuer: str
    identity: str | None = None
    repository: str | None = None
    workflow: str | None = None
    ref: str | None = None

    def __post_init__(self) -> None:
        for name in ("issuer", "identity", "repository", "workflow", "ref"):
            value: str | None = getattr(self, name)
            if value is not None or name == "issuer":
                _check_text(name, value)
        if _URL.match(self.issuer) is None:
            raise ConfigError(f"issuer `{self.issuer}` is not a URL; give it as the certificate has it, `https://…`")
        plain = f"https://{self.issuer.lower().partition('://')[2].rstrip('/')}"
        if plain in _ISSUERS and self.issuer != plain:
            raise ConfigError(f"issuer `{self.issuer}` is in no certificate; write `{plain}`")
        if (self.identity is None) == (self.repository is None):
            raise ConfigError("a sigstore signer needs either an `identity` or a `repository`, and not both")
        if self.identity is not None:
            self._check_identity(self.identity)
            object.__setattr__(self, "identity", trusted_spelling(self.identity))
        elif self.repository is not None:
            place = _place_of(self.repository, self.issuer)
            self._check_workflow_and_ref(place)
            self._normalise_claims(place)

    def _check_identity(self, identity: str) -> None:
        if self.workflow is not None or self.ref is not None:
            raise ConfigError("`workflow` and `ref` narrow a `repository`; an `identity` is compared as a whole")
        if "*" in identity:
            raise ConfigError(f"identity `{identity}` has a wildcard; an identity is compared exactly")
        if _EXPRESSION.match(identity):
            raise ConfigError(f"identity `{identity}` is a regular expression; an identity is compared exactly")
        place = ForgeUri.parse(identity)
        if self.issuer in _HOST_OF_ISSUER and place is not None and "@" not in place.rest:
            raise ConfigError(
                f"identity `{identity}` names no workflow with its ref, as certificates of {self.issuer} do; give "
                "`repository`, `workflow` and `ref` instead"
            )
        if identity.lower().startswith("mailto:"):
            raise ConfigError(f"identity `{identity}` begins with `mailto:`; write the address alone")

    def _normalise_claims(self, place: ForgeUri) -> None:
        """Keep one spelling, so that one signer written twice is equal to itself and never counts twice."""
        if not place.ignores_case:
            return
        repository = place.repository.lower().removesuffix(".git")
        short = place.host == "github.com"
        object.__setattr__(self, "repository", repository[1:] if short else f"https://{place.host}{repository}")
        if self.workflow is not None and self.workflow.find(f"/{WORKFLOW_DIRECTORY}") > 0:
            owner, name, path = self.workflow.split("/", 2)
            object.__setattr__(self, "workflow", f"{owner}/{name}".lower() + f"/{path}")

    def _check_workflow_and_ref(self, place: ForgeUri) -> None:
        patterns = (_WORKFLOW,) if place.host == "github.com" else (_WORKFLOW, _GITLAB_FILE)
        if self.workflow is not None and not any(pattern.match(self.workflow) for pattern in patterns):
            raise ConfigError(
                f"workflow `{self.workflow}` is neither `.github/workflows/<file>.yml` "
                "nor `owner/name/.github/workflows/<file>.yml`, without a ref"
            )
        if self.ref is not None and (_REF.match(self.ref) is None or _NOT_IN_A_REF.search(self.ref)):
            raise ConfigError(
                f"ref `{self.ref}` is not a full Git ref such as `refs/tags/v1`; a `*` may stand only at its end, as in"
                " `refs/tags/*`"
            )

    @property
    def label(self) -> str:
        """A name for people and reports, the same for equal values: `acme/worker (https://…)`."""
        if self.identity is not None:
            return f"{self.identity} ({self.issuer})"
        workflow = self._own_workflow
        reusable = f" by {self.workflow}" if self.workflow and not workflow else ""
        ref = f"@{self.ref}" if self.ref else ""
        return f"{self.repository}{workflow}{ref}{reusable} ({self.issuer})"

    @property
    def signs_from_any_branch(self) -> bool:
        """Whether a run of any branch or pull request of the repository may sign."""
        return self.repository is not None and (self.ref is None or _equal(self.ref, _PULL_REQUEST, "ref"))

    @property
    def _own_workflow(self) -> str:
        """What follows the repository in the URI of its own workflow; empty for none and for a reusable one."""
        if self.workflow is None or f"/{WORKFLOW_DIRECTORY}" in self.workflow:
            return ""
        return f"/{self.workflow}" if self.workflow.startswith(WORKFLOW_DIRECTORY) else f"//{self.workflow}"

    def matches(self, claims: CertificateClaims) -> None:
        """Compare the expected signer with the holder of a verified certificate.

        Args:
            claims: what the certificate says.

        Raises:
            SignerUntrusted: any field differs; the message names each one, expected and found.
        """
        compared: list[tuple[str, str, str | None]] = [("issuer", self.issuer, claims.issuer)]
        if self.identity is not None:
            compared.append(("identity", self.identity, claims.san))
        else:
            # 1  The repository that the run belongs to.
            repository = _repository_url(self.repository or "")
            compared.append(("repository", repository, claims.source_repository_uri))
            # 2  The workflows that it began with and that signed, without the refs behind their paths.
            started, signing = (
                claim["path"] if (claim := _WORKFLOW_CLAIM.match(uri or "")) else uri
                for uri in (claims.build_config_uri, claims.build_signer_uri)
            )
            own = f"{repository}{self._own_workflow}"
            if own != repository:
                compared += [("workflow", own, started), ("signing workflow", own, signing)]
            elif self.workflow is not None:
                host = "/".join(repository.split("/", 3)[:3])
                compared.append(("signing workflow", f"{host}/{self.workflow}", signing))
            # 3  The ref that was built.
            if self.ref is not None:
                compared.append(("ref", self.ref, claims.source_repository_ref))
        wrong = [
            f"{name}: expected `{expected}`, found {'nothing in the certificate' if found is None else f'`{found}`'}"
            for name, expected, found in compared
            if not _equal(expected, found, name)
        ]
        if wrong:
            raise SignerUntrusted("the signer is not the expected one; " + "; ".join(wrong))


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"`{name}` of a sigstore signer must be a non-empty text")
    if len(value) > MAX_FIELD or not value.isprintable() or value != value.strip():
        raise ConfigError(
            f"`{name}` of a sigstore signer is longer than {MAX_FIELD}, or holds control characters or blanks at its"
            f" ends: {value!r:.80}"
        )


def _place_of(repository: str, issuer: str) -> ForgeUri:
    """Return where the repository of a policy lies, as its forge names it.

    Raises:
        ConfigError: it is malformed, is not a repository alone, or has no runs to which this issuer gives tokens.
    """
    place = ForgeUri.parse(_repository_url(repository))
    if place is None or _REPOSITORY.match(repository) is None:
        raise ConfigError(f"repository `{repository}` is neither `owner/name` nor an https URL of a repository")
    if {".", ".."} & {*repository.split("/")}:
        raise ConfigError(f"repository `{repository}` holds a dot segment; write the plain path")
    host = _HOST_OF_ISSUER.get(issuer)
    if host is not None and place.host != host:
        raise ConfigError(
            f"issuer `{issuer}` gives tokens to runs on {host}, and repository `{repository}` is on "
            f"{place.host}; give the issuer of {place.host}, or the repository's full URL"
        )
    if place.rest:
        raise ConfigError(
            f"repository `{repository}` names something inside a repository; write the repository alone, and "
            "narrow it with `workflow` and `ref`"
        )
    return place


def _repository_url(repository: str) -> str:
    return repository if repository.startswith("https://") else GITHUB + repository


def _equal(expected: str, found: str | None, name: str) -> bool:
    if found is None:
        return False
    if name == "ref" and expected.endswith("*"):
        return found.startswith(expected[:-1])
    if name in {"issuer", "ref"}:
        return found == expected
    if trusted_spelling(found) == trusted_spelling(expected):
        return True
    # A file name may hold blanks and letters that a URI cannot; a CI system encodes them there (RFC 3986).
    from urllib.parse import quote  # slow to import, and only a name beyond ASCII needs it

    encoded = quote(expected, safe="".join(map(chr, range(0x21, 0x7F))))
    return encoded != expected and trusted_spelling(found) == trusted_spelling(encoded)


def issuer_of(repository: str) -> str | None:
    """Return the OIDC issuer that gives tokens to the CI runs of a repository.

    Args:
        repository: `owner/name` on github.com, or a full https URL.

    Returns:
        A URL; None when the host of the repository is neither github.com nor gitlab.com.
    """
    place = ForgeUri.parse(_repository_url(repository))
    hosts = {host: issuer for issuer, host in _HOST_OF_ISSUER.items()}
    return None if place is None else hosts.get(place.host)
