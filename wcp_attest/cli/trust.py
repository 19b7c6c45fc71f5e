"""Which signers a command trusts: a policy file, or the same policy built from flags.

A key given by a flag is trusted for one namespace, never for everything, so flags need `--worker-id` or `--namespace`.
A policy file and flags together are an error: neither may quietly widen the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from wcp_attest.base.errors import ConfigError, NamespaceInvalid
from wcp_attest.cli.keyless import identities_of, sigstore_trust_of, trusting_options
from wcp_attest.cli.options import AliasedOption, TrustFlags, combine

if TYPE_CHECKING:
    from collections.abc import Callable

    from wcp_attest.signing import TrustedSigner
    from wcp_attest.trust.policy import Policy

POLICY_VARIABLE = "WCP_ATTEST_POLICY"
OWN_LIST_MAX_AGE = 10 * 365 * 86_400  # seconds; a list of your own says itself when it expires


def trust_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the trust options, whose values `TrustFlags` takes."""
    decorated: Callable[..., Any] = combine(
        click.option(
            "--policy", envvar=POLICY_VARIABLE, show_envvar=True, type=click.Path(), help="The trust policy (TOML)."
        ),
        click.option(
            "--policy-sha256",
            metavar="HEX",
            help="Refuse any policy but this one: a digest that `wcp-attest policy show` prints.",
        ),
        click.option(
            "--public-key",
            "--key",
            "public_key",
            cls=AliasedOption,
            multiple=True,
            type=click.Path(),
            metavar="FILE",
            help="Trust this key; may be repeated.",
        ),
        click.option("--hmac", is_flag=True, help="Trust the shared secret in WCP_ATTEST_HMAC_KEY."),
        click.option(
            "--hmac-file", multiple=True, type=click.Path(), metavar="FILE", help="Trust the shared secret in a file."
        ),
        trusting_options,
        click.option("--namespace", metavar="NAME", help="The namespace that is expected, such as org.acme."),
        click.option("--worker-id", metavar="ID", help="The worker that is expected, such as org.acme.summarizer."),
        click.option("--species-id", metavar="ID", help="The species that is expected, such as wrk.doc.summarizer."),
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
            help="Refuse what this ban list of your own names, too; nobody else may be able to write it.",
        ),
    )(command)
    return decorated


def policy_of(flags: TrustFlags) -> Policy:
    """Return the policy that the flags give or name.

    Raises:
        ConfigError: it cannot be read, is empty, or contradicts the flags.
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
    return _with_bans(policy, flags.bans) if flags.bans else policy


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
    import os
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
            " --identity with --issuer, --github-repository, --hmac or --hmac-file"
        )
    if namespace is None:
        raise click.UsageError(
            "a signer is trusted for one namespace: add --worker-id org.acme.summarizer or --namespace org.acme"
        )
    accept = Accept(schemas=flags.accept_schema) if flags.accept_schema else Accept()
    return Policy((Namespace(namespace, keys, identities),), accept=accept, sigstore=sigstore_trust_of(flags))


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
