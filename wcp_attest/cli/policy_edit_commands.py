"""`wcp-attest policy add-signer` and `remove-signer`: change who is trusted, and nothing else of the file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli.option_groups import GroupedCommand, combine, grouped
from wcp_attest.cli.output import Output, reporting
from wcp_attest.cli.trust import identity_options, public_key_option

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wcp_attest.trust.policy import Policy

_KEYLESS = ("issuer", "identity", "repository", "workflow", "ref")
# The verifier's home and secret need not be here, and their values do not matter to the text of a policy.
_OF_VERIFIER: Final = {"HOME": "/", "WCP_ATTEST_HMAC_KEY": "0" * 64}


class _Named(NamedTuple):
    """The signer that the command line names."""

    public_key: str | None
    hmac: bool
    issuer: str | None
    identity: str | None
    repository: str | None
    workflow: str | None
    ref: str | None


named_signer_options = combine(
    click.argument("file", metavar="FILE", type=click.Path()),
    grouped(
        "Signer",
        click.option("--namespace", metavar="NAME", help="Of this namespace; not needed where there is one alone."),
        public_key_option(help="The signer with this key."),
        click.option("--hmac", is_flag=True, help="The shared secret in WCP_ATTEST_HMAC_KEY."),
        click.option("--threshold", type=click.IntRange(1), help="How many must sign from now on."),
    ),
    identity_options(),
)


@click.command("add-signer", cls=GroupedCommand)
@named_signer_options
@reporting("text", "json")
def add_signer(out: Output, /, file: str, namespace: str | None, threshold: int | None, **named: Any) -> None:
    """Trust one more signer of a namespace in the policy FILE. Comments and order stay.

    To replace a key: add the new one, sign with both, remove the old one.

    \b
      wcp-attest policy add-signer policy.toml --public-key keys/acme-2027.pub
      wcp-attest policy add-signer policy.toml --repository acme/worker --ref "refs/tags/*" --threshold 2
    """
    from wcp_attest.trust import policy_text

    signer = signer_of(_Named(**named), file)
    _change(
        out,
        file,
        namespace,
        threshold,
        lambda text, _, index: policy_text.add_signer(text, index, signer),
        f"added to {file}: {policy_text.signer_line(signer)}\n",
    )


@click.command("remove-signer", cls=GroupedCommand)
@named_signer_options
@grouped(
    "Signer",
    click.option("--key-id", metavar="ID", help="The signer with this key id, sha256:… or hmac-sha256:…."),
)
@reporting("text", "json")
def remove_signer(
    out: Output, /, file: str, namespace: str | None, threshold: int | None, key_id: str | None, **named: Any
) -> None:
    """Remove a signer of a namespace from the policy FILE. Comments and order stay.

    \b
      wcp-attest policy remove-signer policy.toml --public-key keys/acme-2026.pub
      wcp-attest policy remove-signer policy.toml --key-id sha256:4a7c…
    """
    from wcp_attest.trust import policy_text

    given = _Named(**named)
    wanted = _identity_of(given, file, key_id)
    _change(
        out,
        file,
        namespace,
        threshold,
        lambda text, policy, index: policy_text.remove_signer(text, index, _index_of(text, policy, index, wanted)),
        f"removed from {file}: {wanted}\n",
    )


def signer_of(named: _Named, file: str) -> dict[str, object]:
    """Return the signer as the policy writes it.

    Args:
        named: what the command line says.
        file: of the policy; a key is named relative to it.

    Raises:
        UsageError: it names no signer, or several.
    """
    keyless = keyless_fields(named._asdict())
    given = [bool(named.public_key), named.hmac, bool(keyless)]
    if sum(given) != 1:
        raise click.UsageError("name exactly one signer: --public-key, --hmac, --identity or --repository")
    if named.public_key is not None:
        folder = os.path.dirname(os.path.abspath(file))
        return {"key": os.path.relpath(os.path.abspath(named.public_key), folder)}
    return {"sigstore": keyless} if keyless else {"hmac": {"env": "WCP_ATTEST_HMAC_KEY"}}


def keyless_fields(named: Mapping[str, object]) -> dict[str, object]:
    """Return the fields of a keyless signer, with the issuer of its repository's host; empty when none is named.

    Raises:
        UsageError: the issuer is not known.
    """
    fields = {name: named[name] for name in _KEYLESS if named.get(name) is not None}
    if "issuer" not in fields and "repository" in fields:
        from wcp_attest.signing.sigstore.signer_identity import issuer_of

        issuer = issuer_of(str(fields["repository"]))
        if issuer is None:
            raise click.UsageError("--repository is elsewhere than on github.com or gitlab.com; give its --issuer")
        fields = {"issuer": issuer, **fields}
    return fields


def _identity_of(named: _Named, file: str, key_id: str | None) -> str:
    """Return the signer in the spelling that `_labels` gives to each signer of the policy."""
    if key_id is not None:
        if any(value for value in named):
            raise click.UsageError("--key-id names the signer; leave out the other options that name one")
        return key_id.strip().lower().removeprefix("sha256:")
    signer = signer_of(named, file)
    if "sigstore" in signer:
        from wcp_attest.signing.sigstore.signer_identity import SigstoreIdentity

        return SigstoreIdentity(**{name: getattr(named, name) for name in _KEYLESS} | signer["sigstore"]).label  # type: ignore[operator]
    from wcp_attest.cli.trust import TrustFlags, keys_of

    public_key = () if named.public_key is None else (named.public_key,)
    (key,) = keys_of(TrustFlags(public_key=public_key, hmac=named.hmac))
    return key.key_id


def _index_of(text: str, policy: Policy, namespace: int, wanted: str) -> int:
    """Return which signer of the text it is; keys and identities stand mixed there, in the order of the file."""
    from wcp_attest.base import toml_table as stricttoml

    space = policy.namespaces[namespace]
    keys, identities = iter(key.key_id for key in space.keys), iter(identity.label for identity in space.identities)
    written = stricttoml.loads(text.encode(), "the policy")["namespace"][namespace]["signer"]
    labels = [next(identities) if "sigstore" in signer else next(keys) for signer in written]
    if wanted not in labels:
        raise ConfigError(f"{space.name} does not trust {wanted}; it trusts {', '.join(labels)}")
    return labels.index(wanted)


def check_text(text: str, folder: str) -> None:
    """Check the text of a policy before it is written, with the files it names.

    Args:
        text: the whole policy.
        folder: the names of files are relative to it.

    Raises:
        ConfigError: `verify` would refuse the policy.
    """
    from wcp_attest.disk.files import read_bounded
    from wcp_attest.trust.policy_file import parse_policy

    parse_policy(
        text.encode(),
        read=lambda name, limit, what: read_bounded(os.path.join(folder, name), limit=limit, what=what, follow=True),
        environ={**_OF_VERIFIER, **os.environ},
        folder=folder,
    )


def _change(
    out: Output,
    file: str,
    namespace: str | None,
    threshold: int | None,
    change: Callable[[str, Policy, int], str],
    said: str,
) -> None:
    """Read the policy, change its text, check the result as `verify` would read it, replace the file, and say so."""
    from wcp_attest.disk.files import read_bounded, write_atomic
    from wcp_attest.disk.overwrite import check_unchanged, only_writer
    from wcp_attest.trust import policy_text
    from wcp_attest.trust.policy_file import MAX_POLICY_BYTES, load_policy

    if out.file is not None and os.path.realpath(out.file) == os.path.realpath(file):
        raise ConfigError(f"{file!r} is the policy itself; name another place for the result")
    place = os.path.realpath(file)
    folder = os.path.dirname(place)
    environ = {**_OF_VERIFIER, **os.environ}
    with only_writer(folder):
        before = read_bounded(place, limit=MAX_POLICY_BYTES, what="the policy", follow=True)
        policy = load_policy(place, environ)
        names = [space.name for space in policy.namespaces]
        if namespace is None and len(names) > 1:
            raise click.UsageError(f"the policy has several namespaces; add --namespace, one of {', '.join(names)}")
        if namespace is not None and namespace not in names:
            raise ConfigError(f"the policy does not know the namespace {namespace}; it knows {', '.join(names)}")
        index = 0 if namespace is None else names.index(namespace)
        text = change(before.decode(), policy, index)
        if threshold is not None:
            text = policy_text.set_threshold(text, index, threshold)
        check_text(text, folder)
        check_unchanged(place, before)
        write_atomic(place, text.encode(), mode=os.stat(place).st_mode & 0o777)
    if out.format != "json":
        out.decide(said)
    else:
        changed = load_policy(place, environ)
        space = changed.namespaces[index]
        signers = len(space.keys) + len(space.identities)
        out.deliver_json(
            "policy-edit",
            {
                "file": file,
                "namespace": space.name,
                "signers": signers,
                "threshold": space.threshold,
                "sha256": changed.digest,
            },
        )
