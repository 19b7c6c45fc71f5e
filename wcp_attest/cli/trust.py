"""Which signers a command trusts: a policy file, or the same policy built from flags.

A key given by a flag is trusted for one namespace, never for everything, so flags need `--worker-id` or `--namespace`.
A policy file and flags together are an error: neither may quietly widen the other.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import click

from wcp_attest.base.errors import ConfigError, NamespaceInvalid
from wcp_attest.cli.option_groups import AliasedOption, combine, grouped
from wcp_attest.cli.output import Misplaced

if TYPE_CHECKING:
    from collections.abc import Callable

    from wcp_attest.cli.output import Output
    from wcp_attest.signing import SigstoreTrust, TrustedSigner
    from wcp_attest.signing.sigstore.signer_identity import SigstoreIdentity
    from wcp_attest.trust.policy import Policy

POLICY_VARIABLE = "WCP_ATTEST_POLICY"
KEYLESS = "Keyless signers (Sigstore)"
OWN_LIST_MAX_AGE = 10 * 365 * 86_400  # seconds; a list of your own says itself when it expires


class TrustFlags(NamedTuple):
    """What the command line says of trust, as it was given."""

    policy: str | None = None
    policy_sha256: str | None = None
    public_key: tuple[str, ...] = ()
    hmac: bool = False
    hmac_file: tuple[str, ...] = ()
    identity: str | None = None
    issuer: str | None = None
    repository: str | None = None
    workflow: str | None = None
    ref: str | None = None
    trusted_root: str | None = None
    require_timestamp: bool = False
    staging: bool = False
    accept_schema: tuple[Literal["awp.v2", "awp.v1"], ...] = ()
    namespace: str | None = None
    worker_id: str | None = None
    species_id: str | None = None
    bans: tuple[str, ...] = ()

    @property
    def given(self) -> bool:
        """Whether any flag names a signer, what keyless trust rests on, or loosens what is accepted."""
        texts = (self.identity, self.issuer, self.repository, self.workflow, self.ref, self.trusted_root)
        named = self.public_key or self.hmac or self.hmac_file or any(text is not None for text in texts)
        return bool(named or self.accept_schema or self.require_timestamp or self.staging)


def identity_options(*, multiple: bool = False) -> Callable[[Any], Any]:
    """Return the options that name keyless signers.

    Args:
        multiple: whether `--identity` and `--repository` may be repeated.
    """
    more = "; may be repeated" if multiple else ""
    return grouped(
        KEYLESS,
        click.option(
            "--identity",
            "--certificate-identity",
            "--cert-identity",
            "identity",
            cls=AliasedOption,
            multiple=multiple,
            metavar="SAN",
            help=f"The exact identity in the signer's certificate{more}; needs --issuer.",
        ),
        click.option(
            "--issuer",
            "--certificate-oidc-issuer",
            "--cert-oidc-issuer",
            "--identity-provider",
            "issuer",
            cls=AliasedOption,
            metavar="URL",
            help="The exact OIDC issuer; by default that of the repository's host.",
        ),
        click.option(
            "--repository",
            "--github-repository",
            "--repo",
            "--certificate-github-workflow-repository",
            "repository",
            cls=AliasedOption,
            multiple=multiple,
            metavar="OWNER/NAME",
            help=f"The repository whose workflow signs{more}; narrow it with --workflow and --ref.",
        ),
        click.option(
            "--workflow",
            "--signer-workflow",
            "workflow",
            cls=AliasedOption,
            metavar="PATH",
            help="The workflow that signs: .github/workflows/release.yml.",
        ),
        click.option(
            "--ref",
            "--source-ref",
            "--certificate-github-workflow-ref",
            "ref",
            cls=AliasedOption,
            metavar="REF",
            help="The Git ref that the workflow ran on; refs/tags/* for any tag.",
        ),
    )


def public_key_option(**more: Any) -> Callable[[Any], Any]:
    """Return the option that names a public key by its file."""
    return click.option(
        "--public-key", "--key", "public_key", cls=AliasedOption, type=click.Path(), metavar="FILE", **more
    )


keyless_options = combine(
    identity_options(),
    grouped(
        KEYLESS,
        click.option(
            "--trusted-root",
            "--custom-trusted-root",
            "trusted_root",
            cls=AliasedOption,
            type=click.Path(),
            metavar="FILE",
            help="Pin what keyless verification rests on (JSON); no network and no cache are used then.",
        ),
        click.option(
            "--require-timestamp",
            "--use-signed-timestamps",
            "require_timestamp",
            cls=AliasedOption,
            is_flag=True,
            help="Demand a signed timestamp of keyless signatures.",
        ),
        click.option("--staging", is_flag=True, help="Verify by the root of Sigstore's public staging instance."),
    ),
)

trust_options = combine(
    grouped(
        "Trust",
        click.option(
            "--policy", envvar=POLICY_VARIABLE, show_envvar=True, type=click.Path(), help="The trust policy (TOML)."
        ),
        click.option(
            "--policy-sha256",
            metavar="HEX",
            help="Refuse any policy but this one: a digest that `wcp-attest policy show` prints.",
        ),
        public_key_option(multiple=True, help="Trust this key; may be repeated."),
        click.option("--hmac", is_flag=True, help="Trust the shared secret in WCP_ATTEST_HMAC_KEY."),
        click.option(
            "--hmac-file", multiple=True, type=click.Path(), metavar="FILE", help="Trust the shared secret in a file."
        ),
        click.option(
            "--accept-schema",
            multiple=True,
            type=click.Choice(["awp.v2", "awp.v1"]),
            help="With flags instead of a policy: manifest schemas to accept; by default awp.v2.",
        ),
        click.option(
            "--bans",
            multiple=True,
            type=click.Path(),
            metavar="FILE",
            help="Also refuse what this ban list of your own names. Nobody else may be able to write the file.",
        ),
    ),
    keyless_options,
    grouped(
        "Expected package",
        click.option("--namespace", metavar="NAME", help="The namespace that is expected, such as org.acme."),
        click.option("--worker-id", metavar="ID", help="The worker that is expected, such as org.acme.summarizer."),
        click.option("--species-id", metavar="ID", help="The species that is expected, such as wrk.doc.summarizer."),
    ),
)


def policy_of(flags: TrustFlags, out: Output | None = None) -> Policy:
    """Return the policy that the flags give or name.

    Args:
        flags: the command line.
        out: where the result goes, which may be none of the files that decide.

    Raises:
        ConfigError: it cannot be read, is empty, or contradicts the flags; or the result would overwrite a file of it.
        UsageError: there is none, or there are two.
    """
    if flags.policy is not None and flags.given:
        raise click.UsageError(
            f"a policy (--policy or {POLICY_VARIABLE}) and flags that name signers, what they rest on or what is"
            " accepted exclude each other; put them into the policy"
        )
    if flags.policy is None and flags.policy_sha256 is not None:
        raise click.UsageError(f"--policy-sha256 pins a policy; give --policy or {POLICY_VARIABLE}")
    namespace = expected_namespace(flags)
    policy = _policy_of_flags(flags, namespace) if flags.policy is None else _policy_of_file(flags, namespace)
    policy = _with_bans(policy, flags.bans) if flags.bans else policy
    if out is not None and out.file is not None:
        place = os.path.realpath(out.file)
        if place in map(os.path.realpath, policy.files):
            raise Misplaced(f"{out.file!r} is a file that the policy reads; name another place for the result")
    return policy


def _policy_of_file(flags: TrustFlags, namespace: str | None) -> Policy:
    from wcp_attest.trust.policy_file import load_policy

    policy = load_policy(flags.policy or "", sha256=flags.policy_sha256)
    if namespace is None:
        return policy
    from dataclasses import replace

    try:
        return replace(policy, namespaces=(policy.namespace(namespace),))
    except NamespaceInvalid as problem:
        raise ConfigError(str(problem)) from None


def _with_bans(policy: Policy, files: tuple[str, ...]) -> Policy:
    """Return the policy with further ban lists; a list more can only refuse more."""
    from dataclasses import replace

    from wcp_attest.trust.bans.bans_table import BansCondition, state_directory
    from wcp_attest.trust.bans.feeds.file_feed import FileFeed

    feeds = tuple(FileFeed(os.path.abspath(file), signed=False) for file in files)
    own = BansCondition(feeds, None, OWN_LIST_MAX_AGE, os.path.abspath(state_directory(os.environ)))
    return replace(policy, conditions=(*policy.conditions, own))


def expected_namespace(flags: TrustFlags) -> str | None:
    """Return the namespace that `--namespace` or `--worker-id` demands, None when neither is given.

    Raises:
        ConfigError: one of them is malformed, or they contradict each other.
    """
    from wcp_attest.base.identity import check_namespace, namespace_of

    try:
        of_worker = None if flags.worker_id is None else namespace_of(flags.worker_id)
    except NamespaceInvalid as problem:
        raise ConfigError(f"--worker-id: {problem}") from None
    named = None if flags.namespace is None else check_namespace(flags.namespace)
    if named is not None and of_worker is not None and named != of_worker:
        raise ConfigError(f"--worker-id {flags.worker_id} belongs to {of_worker}, and --namespace says {named}")
    return named or of_worker


def _policy_of_flags(flags: TrustFlags, namespace: str | None) -> Policy:
    from wcp_attest.trust.policy import Accept, Namespace, Policy

    keys, identities = keys_of(flags), identities_of(flags)
    if not keys and not identities:
        raise click.UsageError(
            f"no signer is trusted: give --policy FILE (or {POLICY_VARIABLE}), --public-key FILE,"
            " --identity with --issuer, --repository, --hmac or --hmac-file"
        )
    if namespace is None:
        raise click.UsageError(
            "a signer is trusted for one namespace: add --worker-id org.acme.summarizer or --namespace org.acme"
        )
    accept = Accept(schemas=flags.accept_schema) if flags.accept_schema else Accept()
    return Policy((Namespace(namespace, keys, identities),), accept=accept, sigstore=sigstore_trust_of(flags))


def identities_of(flags: TrustFlags) -> tuple[SigstoreIdentity, ...]:
    """Return the keyless signers that the flags trust: one or none.

    Raises:
        ConfigError: an identity is malformed.
        UsageError: flags are missing or contradict each other.
    """
    if flags.identity is None and flags.repository is None:
        for name in ("issuer", "workflow", "ref"):
            if getattr(flags, name) is not None:
                raise click.UsageError(f"--{name} narrows --identity or --repository; give one of them")
        return ()
    if flags.identity is not None and flags.issuer is None:
        raise click.UsageError("--identity needs --issuer: the same name from another issuer is somebody else")
    from wcp_attest.signing.sigstore.signer_identity import SigstoreIdentity, issuer_of

    issuer = flags.issuer if flags.issuer is not None else issuer_of(flags.repository or "")
    if issuer is None:
        raise click.UsageError("--repository is elsewhere than on github.com or gitlab.com; give its --issuer")
    return (SigstoreIdentity(issuer, flags.identity, flags.repository, flags.workflow, flags.ref),)


def sigstore_trust_of(flags: TrustFlags) -> SigstoreTrust:
    """Return what keyless verification rests on.

    Raises:
        ConfigError: the trusted root cannot be read.
        UsageError: two instances are named.
    """
    from wcp_attest.signing import SigstoreTrust

    if flags.trusted_root is not None and flags.staging:
        raise click.UsageError("--trusted-root and --staging name two different instances")
    root = None
    if flags.trusted_root is not None:
        from wcp_attest.disk.files import read_bounded
        from wcp_attest.signing.sigstore.trusted_root import MAX_TRUSTED_ROOT_BYTES

        root = read_bounded(flags.trusted_root, limit=MAX_TRUSTED_ROOT_BYTES, what="the trusted root", follow=True)
    return SigstoreTrust(
        root, flags.require_timestamp, "staging" if flags.staging else "production", flags.trusted_root or ""
    )


def keys_of(flags: TrustFlags) -> tuple[TrustedSigner, ...]:
    """Return the keys and shared secrets that the flags trust.

    Raises:
        ConfigError: one cannot be read or used.
    """
    keys: list[TrustedSigner] = []
    if flags.public_key:
        from wcp_attest.signing.key import TrustedKey

        for path in flags.public_key:
            keys += TrustedKey.all_from_file(path)
    if flags.hmac or flags.hmac_file:
        from wcp_attest.cli.secrets import hmac_secrets

        keys.extend(hmac_secrets(flags.hmac, flags.hmac_file))
    return tuple(keys)
