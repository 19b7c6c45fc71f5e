"""`wcp-attest policy`: start a trust policy, check one, say in words whom it believes, fetch what it rests on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli.output import Output, reporting
from wcp_attest.cli.trust import POLICY_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.base.strictjson import JsonObject, JsonValue
    from wcp_attest.signing.sigstore.signer_identity import SigstoreIdentity
    from wcp_attest.trust.policy import Namespace, Policy

_file_argument = click.argument("file", metavar="[FILE]", envvar=POLICY_VARIABLE, type=click.Path(), required=False)


@click.group(no_args_is_help=False)
def policy() -> None:
    """Start, check and show trust policies: who may speak for which namespace."""


@policy.command()
@click.argument("file", metavar="FILE", type=click.Path())
@click.option("--namespace", required=True, metavar="NAME", help="Whose workers: org.<name> or x.<name>.")
@click.option("--public-key", multiple=True, type=click.Path(), metavar="FILE", help="Trust this key.")
@click.option("--hmac", is_flag=True, help="Trust the shared secret in WCP_ATTEST_HMAC_KEY.")
@click.option("--issuer", metavar="URL", help="Keyless: the OIDC issuer; GitHub's with --repository by default.")
@click.option("--identity", metavar="TEXT", help="Keyless: the exact identity.")
@click.option("--repository", metavar="OWNER/NAME", help="Keyless: the repository whose workflow signs.")
@click.option("--workflow", metavar="PATH", help="Keyless: the workflow, .github/workflows/<file>.")
@click.option("--ref", metavar="REF", help="Keyless: the ref, such as refs/tags/*.")
@click.option("--threshold", type=click.IntRange(1), default=1, show_default=True, help="How many of them must sign.")
@click.option("--force", is_flag=True, help="Replace a file that is already there.")
@reporting("text", "json")
def init(
    out: Output,
    /,
    file: str,
    namespace: str,
    public_key: tuple[str, ...],
    hmac: bool,
    threshold: int,
    force: bool,
    **keyless: str | None,
) -> None:
    """Write a policy to FILE that trusts the signers given for one namespace.

    \b
      wcp-attest policy init policy.toml --namespace org.acme --public-key acme.pub
      wcp-attest policy init policy.toml --namespace org.acme --repository acme/worker \\
        --workflow .github/workflows/release.yml --ref "refs/tags/*"
    """
    from wcp_attest.disk.overwrite import OutputKind, check_place, write_file

    if os.path.lexists(file) and not force:
        raise ConfigError(f"{file!r} exists; choose another name, or use --force, which keeps it as {file + '.orig'!r}")
    # An earlier policy may have been edited by hand, so it is always kept, unless it is the very same text.
    kind = OutputKind("the same policy", lambda data: data == text.encode())
    signers = [f"key = {_quoted(_beside(key, file))}" for key in public_key]
    signers += ['hmac = { env = "WCP_ATTEST_HMAC_KEY" }'] if hmac else []
    signers += _keyless_signer(**keyless)
    if not signers:
        raise click.UsageError("nobody to trust: give --public-key, --hmac, --identity or --repository")
    text = _text(namespace, signers, threshold)
    _parse(text, file)
    replaced = os.path.lexists(file) and check_place(os.path.abspath(file), kind, force=force)
    write_file(os.path.abspath(file), text.encode(), kind, force=force)
    if replaced:
        out.note(f"the earlier file is kept beside it as {os.path.basename(file)}.orig")
    if out.format == "json":
        out.deliver_json("policy-init", {"file": file, "namespace": namespace, "signers": len(signers)})
        return
    out.decide(f"wrote {file}\n")
    out.note("keep it where whoever ships packages cannot write, and pass it by --policy or " + POLICY_VARIABLE)


@policy.command()
@_file_argument
@reporting("text", "json")
def check(out: Output, /, file: str | None) -> None:
    """Check that a policy can be used: its text, and every file and secret it names."""
    found = _load(file)
    if out.format == "json":
        out.deliver_json("policy-check", {"file": file, "ok": True, "sha256": found.digest})
        return
    names = ", ".join(namespace.name for namespace in found.namespaces)
    out.decide(f"{out.paint('good', 'OK')}  {file}  (version 1, sha256:{found.digest})\n  namespaces {names}\n")


@policy.command()
@_file_argument
@reporting("text", "json")
def show(out: Output, /, file: str | None) -> None:
    """Say in words whom a policy believes, and what it accepts from them."""
    found = _load(file)
    if out.format == "json":
        out.deliver_json("policy-show", {"file": file, **_as_json(found)})
    else:
        out.deliver(_as_text(found))


@policy.command()
@click.argument("file", metavar="FILE", type=click.Path())
@click.option("--staging", is_flag=True, help="That of Sigstore's public staging instance.")
@reporting("text")
def root(out: Output, /, file: str, staging: bool) -> None:
    """Fetch the trusted root of Sigstore's public instance and write it to FILE, for a policy to pin.

    Pin it with `trusted_root = "FILE"` in the policy's [sigstore] table; verification then needs no network. Fetch it
    again when Sigstore changes its keys: a signature made with newer ones is refused until then.
    """
    from wcp_attest.base.errors import TrustUnusable
    from wcp_attest.disk.overwrite import OutputKind, check_place, write_file
    from wcp_attest.signing.sigstore.trusted_root import public_root

    place, kind = os.path.abspath(file), OutputKind("a trusted root of Sigstore", _is_trusted_root)
    check_place(place, kind)

    try:
        data = public_root("staging" if staging else "production")
    except TrustUnusable as problem:
        raise ConfigError(str(problem)) from None
    write_file(place, data + b"\n", kind)
    out.decide(f"wrote {file}\n")


def _is_trusted_root(data: bytes) -> bool:
    from wcp_attest.base.strictjson import loads_object

    try:
        kind = loads_object(data, what="the trusted root", max_bytes=16 * 1024 * 1024).get("mediaType")
    except ConfigError:
        return False
    return isinstance(kind, str) and kind.startswith("application/vnd.dev.sigstore.trustedroot")


def _load(file: str | None) -> Policy:
    from wcp_attest.trust.policy_file import load_policy

    if file is None:
        raise click.UsageError(f"no policy: give its FILE or set {POLICY_VARIABLE}")
    return load_policy(file)


def _parse(text: str, file: str) -> None:
    """Check the text that is about to be written, with the files it names."""
    from wcp_attest.disk.files import read_bounded
    from wcp_attest.trust.policy_file import parse_policy

    folder = os.path.dirname(file)

    def read(name: str, limit: int, what: str) -> bytes:
        return read_bounded(os.path.join(folder, name), limit=limit, what=what, follow=True)

    # The secret belongs to whoever verifies; it need not be here, and its value does not matter to the text.
    parse_policy(text.encode(), read=read, environ={"WCP_ATTEST_HMAC_KEY": "0" * 64})


def _beside(key: str, file: str) -> str:
    """Return the path of a key as the policy names it: relative to the policy's folder."""
    return os.path.relpath(os.path.abspath(key), os.path.dirname(os.path.abspath(file)))


def _keyless_signer(
    issuer: str | None, identity: str | None, repository: str | None, workflow: str | None, ref: str | None
) -> list[str]:
    if issuer is None and repository is not None:
        from wcp_attest.signing.sigstore.signer_identity import issuer_of

        issuer = issuer_of(repository)
        if issuer is None:
            raise click.UsageError("--repository is elsewhere than on github.com or gitlab.com; give its --issuer")
    fields = {"issuer": issuer, "identity": identity, "repository": repository, "workflow": workflow, "ref": ref}
    given = [f"{name} = {_quoted(value)}" for name, value in fields.items() if value is not None]
    return [f"sigstore = {{ {', '.join(given)} }}"] if given else []


def _quoted(text: str) -> str:
    """Return a TOML basic string."""
    if not text.isprintable():
        raise ConfigError(f"{text[:80]!r} holds characters that are not printable")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _text(namespace: str, signers: Sequence[str], threshold: int) -> str:
    lines = [
        "# Who may speak for which namespace. Whoever can write here decides what is believed.",
        "version = 1",
        "",
        "[[namespace]]",
        f"name = {_quoted(namespace)}",
        f"threshold = {threshold}  # how many of these signers must have signed",
    ]
    for signer in signers:
        lines += ["  [[namespace.signer]]", f"  {signer}"]
    lines += [
        "",
        "[accept]",
        'schemas = ["awp.v2"]',
        "excludes = true  # false: nothing in a package may be left out of its manifest",
        '# max_age = "400d"  # of a signature',
        '# permissions = "strict"  # no entry writable by others',
        "",
    ]
    return "\n".join(lines)


def _as_text(found: Policy) -> str:
    lines = [f"policy sha256:{found.digest}"]
    for namespace in found.namespaces:
        signers = len(namespace.keys) + len(namespace.identities)
        lines.append(f"  {namespace.name}: {namespace.threshold} of {signers} must sign")
        lines += [f"    {_key_words(key.key_id)}" for key in namespace.keys]
        lines += [f"    keyless {identity.label}" for identity in namespace.identities]
    accept = found.accept
    age = "no limit" if accept.max_age is None else f"at most {_span(accept.max_age)}"
    excludes = "allowed" if accept.excludes else "refused"
    lines += [
        f"  accepts: {', '.join(accept.schemas)}; excludes {excludes}; age {age}; permissions {accept.permissions}",
        f"  sigstore: {_sigstore_words(found)}",
        f"  further conditions (bans, registry): {len(found.conditions) or 'none'}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _span(seconds: int) -> str:
    """Return a span of time as a policy writes it, in the largest unit that leaves no rest."""
    units = (("d", 86_400), ("h", 3600), ("m", 60))
    return next((f"{seconds // length}{unit}" for unit, length in units if seconds % length == 0), f"{seconds}s")


def _key_words(key_id: str) -> str:
    return f"shared secret {key_id}" if key_id.startswith("hmac-") else f"key sha256:{key_id}"


def _sigstore_words(found: Policy) -> str:
    if not found.identities:
        return "nobody is trusted by it"
    if found.sigstore.trusted_root is not None:
        return "pinned root, no network"
    return f"public {found.sigstore.instance} root, fetched when needed"


def _as_json(found: Policy) -> JsonObject:
    accept = found.accept
    return {
        "sha256": found.digest,
        "namespaces": [_namespace_json(namespace) for namespace in found.namespaces],
        "accept": {
            "schemas": [*accept.schemas],
            "excludes": accept.excludes,
            "max_age_seconds": accept.max_age,
            "permissions": accept.permissions,
        },
        "sigstore": {
            "pinned": found.sigstore.trusted_root is not None,
            "instance": found.sigstore.instance,
            "require_timestamp": found.sigstore.require_timestamp,
        },
        "conditions": len(found.conditions),
    }


def _namespace_json(namespace: Namespace) -> JsonObject:
    keys: list[JsonValue] = [
        {"kind": "hmac" if key.key_id.startswith("hmac-") else "key", "key_id": key.key_id} for key in namespace.keys
    ]
    return {
        "name": namespace.name,
        "threshold": namespace.threshold,
        "signers": [*keys, *(_identity_json(identity) for identity in namespace.identities)],
    }


def _identity_json(identity: SigstoreIdentity) -> JsonObject:
    names = ("issuer", "identity", "repository", "workflow", "ref")
    fields: JsonObject = {name: getattr(identity, name) for name in names}
    return {"kind": "sigstore", **fields}
