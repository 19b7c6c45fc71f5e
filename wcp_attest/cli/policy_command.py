"""`wcp-attest policy`: start a trust policy, check one, show which signers it trusts, fetch the root it rests on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from wcp_attest.base.errors import ConfigError, Error
from wcp_attest.cli.option_groups import OUTPUT, CommandGroup, grouped
from wcp_attest.cli.output import Output, reporting
from wcp_attest.cli.policy_edit_commands import add_signer, check_text, keyless_fields, remove_signer
from wcp_attest.cli.trust import POLICY_VARIABLE, identity_options, public_key_option
from wcp_attest.trust.policy_text import quoted, signer_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wcp_attest.base.strictjson import JsonObject, JsonValue
    from wcp_attest.trust.policy import Policy

_file_argument = click.argument("file", metavar="[FILE]", envvar=POLICY_VARIABLE, type=click.Path(), required=False)


@click.group(cls=CommandGroup, no_args_is_help=False)
def policy() -> None:
    """Start, check and show trust policies: who may speak for which namespace."""


policy.add_command(add_signer)
policy.add_command(remove_signer)


@policy.command()
@click.argument("file", metavar="FILE", type=click.Path())
@grouped(
    "Trust",
    click.option("--namespace", required=True, metavar="NAME", help="Whose workers: org.<name> or x.<name>."),
    public_key_option(multiple=True, help="Trust this key; may be repeated."),
    click.option("--hmac", is_flag=True, help="Trust the shared secret in WCP_ATTEST_HMAC_KEY."),
    click.option(
        "--threshold", type=click.IntRange(1), default=1, show_default=True, help="How many of the signers must sign."
    ),
)
@identity_options(multiple=True)
@grouped(
    "What is accepted",
    click.option("--max-age", metavar="SPAN", help="Refuse signatures that are older, such as 400d."),
)
@grouped(
    "Ban lists",
    click.option("--bans", multiple=True, metavar="FILE|URL", help="A signed ban list; needs --ban-signer."),
    click.option(
        "--own-bans", multiple=True, type=click.Path(), metavar="FILE", help="A ban list of your own, unsigned."
    ),
    click.option(
        "--ban-signer", multiple=True, type=click.Path(), metavar="FILE", help="The key that signs ban lists."
    ),
    click.option(
        "--bans-max-age", default="24h", show_default=True, metavar="SPAN", help="Refuse ban lists that are older."
    ),
    click.option("--state", type=click.Path(), metavar="DIR", help="Where what was seen of ban lists is kept."),
)
@grouped(
    OUTPUT,
    click.option("--force", is_flag=True, help="Replace a file that is already there; it is kept as FILE.orig."),
)
@reporting("text", "json", force=False)
def init(out: Output, /, file: str, namespace: str, force: bool, **given: Any) -> None:
    """Write a policy to FILE that trusts the signers given for one namespace.

    Ban lists and what is accepted stand before the signers: a file that was cut short then trusts nobody, instead of
    accepting more.

    \b
      wcp-attest policy init policy.toml --namespace org.acme --public-key acme.pub
      wcp-attest policy init policy.toml --namespace org.acme --repository acme/worker \\
        --workflow .github/workflows/release.yml --ref "refs/tags/*" \\
        --bans https://acme.example/bans.json --ban-signer soc.pub --state /var/lib/wcp-attest
    """
    from wcp_attest.disk.overwrite import OutputKind, write_file

    if os.path.lexists(file) and not force:
        raise ConfigError(f"{file!r} exists; choose another name, or use --force, which keeps it as {file + '.orig'!r}")
    signers = _signers(given, file)
    text = _text(namespace, signers, given, file)
    check_text(text, os.path.dirname(file))
    # An earlier policy may have been edited by hand, so it is always kept, unless it is the very same text.
    kind = OutputKind("the same policy", text.encode().__eq__)
    kept = write_file(os.path.abspath(file), text.encode(), kind, force=force)
    if kept is not None:
        out.note(f"the earlier file is kept beside it, as {os.path.basename(kept)}")
    if out.format == "json":
        out.deliver_json("policy-init", {"file": file, "namespace": namespace, "signers": len(signers)})
        return
    out.decide(f"wrote {file}\n")
    out.note("keep it where the authors of packages cannot write, and pass it by --policy or " + POLICY_VARIABLE)


@policy.command()
@_file_argument
@reporting("text", "json")
def check(out: Output, /, file: str | None) -> None:
    """Check that `verify` can use a policy: its text, and every file, secret, root, ban list and state that it names.

    Run it as the user that verifies: ban lists are fetched, and their state is read and written, as `verify` does.
    """
    import time

    from wcp_attest.base.errors import VerificationError
    from wcp_attest.net.authorities import tls_context

    found = _load(file)
    try:
        if found.sigstore.trusted_root is not None:
            from wcp_attest.signing.sigstore.trusted_root import parse_root

            parse_root(found.sigstore.trusted_root)
        for condition in found.conditions:
            condition.open(now=time.time())
            if getattr(condition, "remote", False):
                tls_context(getattr(condition, "ca_file", None))
    except VerificationError as problem:
        raise ConfigError(f"{file}: {problem}") from None
    if out.format == "json":
        out.deliver_json(
            "policy-check",
            {"file": file, "ok": True, "sha256": found.digest, "content_sha256": found.content_digest},
        )
        return
    names = ", ".join(namespace.name for namespace in found.namespaces)
    out.decide(f"{out.paint('good', 'OK')}  {file}  (version 1, sha256:{found.digest})\n  namespaces {names}\n")
    for identity in found.identities:
        if identity.signs_from_any_branch:
            out.note(f"{identity.label}: everybody who may push a branch may sign; narrow it with `ref`")
    if found.fetches_root:
        out.note(
            "not checked: the root of Sigstore's public instance, which `verify` fetches; pin one to need no network:"
            " `wcp-attest policy root --help`"
        )


@policy.command()
@_file_argument
@reporting("text", "json")
def show(out: Output, /, file: str | None) -> None:
    """Show which signers a policy trusts, what it accepts from them, and which ban lists it asks."""
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


def _signers(given: Mapping[str, Any], file: str) -> list[dict[str, object]]:
    """Return the signers as the policy writes them.

    Raises:
        UsageError: there is none, or an option narrows nothing.
    """
    folder = os.path.dirname(os.path.abspath(file))
    signers: list[dict[str, object]] = [
        {"key": os.path.relpath(os.path.abspath(key), folder)} for key in given["public_key"]
    ]
    signers += [{"hmac": {"env": "WCP_ATTEST_HMAC_KEY"}}] if given["hmac"] else []
    narrowing = {name: given[name] for name in ("workflow", "ref")}
    if not given["repository"] and narrowing != {"workflow": None, "ref": None}:
        raise click.UsageError("--workflow and --ref narrow a --repository, which is not given")
    if given["issuer"] is not None and not given["repository"] and not given["identity"]:
        raise click.UsageError("--issuer belongs to --identity or --repository, which are not given")
    if given["identity"] and not given["issuer"]:
        raise click.UsageError("--identity needs --issuer: the same name from another issuer is somebody else")
    keyless = [{"issuer": given["issuer"], "identity": identity} for identity in given["identity"]]
    keyless += [{"issuer": given["issuer"], "repository": name, **narrowing} for name in given["repository"]]
    signers += [{"sigstore": keyless_fields(fields)} for fields in keyless]
    if not signers:
        raise click.UsageError("nobody to trust: give --public-key, --hmac, --identity or --repository")
    return signers


def _text(namespace: str, signers: Sequence[Mapping[str, object]], given: Mapping[str, Any], file: str) -> str:
    lines = [
        "# Who may sign for which namespace. Everybody who can write here decides what is trusted.",
        "version = 1",
        "",
        "[accept]",
        'schemas = ["awp.v2"]',
        "excludes = true  # false: nothing in a package may be left out of its manifest",
        f"max_age = {quoted(given['max_age'])}  # of a signature"
        if given["max_age"] is not None
        else '# max_age = "400d"  # of a signature',
        '# permissions = "strict"  # no entry writable by others',
        "",
        *_bans_lines(given, file),
        "[[namespace]]",
        f"name = {quoted(namespace)}",
        f"threshold = {given['threshold']}  # how many of these signers must have signed",
    ]
    for signer in signers:
        lines += ["  [[namespace.signer]]", f"  {signer_line(signer)}"]
    return "\n".join([*lines, ""])


def _bans_lines(given: Mapping[str, Any], file: str) -> list[str]:
    """Return the `[bans]` table with its sources, or nothing.

    Raises:
        UsageError: a signed list without anybody who signs it, or the other way round.
    """
    folder = os.path.dirname(os.path.abspath(file))

    def beside(path: str) -> str:
        return quoted(path and os.path.relpath(os.path.abspath(path), folder))

    if bool(given["bans"]) != bool(given["ban_signer"]):
        raise click.UsageError("--bans and --ban-signer go together; an unsigned list of your own is --own-bans")
    if not given["bans"] and not given["own_bans"]:
        if given["state"] is not None:
            raise click.UsageError("--state is where what was seen of ban lists is kept; give --bans or --own-bans")
        return []
    lines = ["[bans]", f"max_age = {quoted(given['bans_max_age'])}  # since a list was issued"]
    if given["state"] is not None:
        lines.append(f"state = {quoted(given['state'] and os.path.abspath(given['state']))}")
    for key in given["ban_signer"]:
        lines += ["  [[bans.signer]]", f"  key = {beside(key)}"]
    for source in given["bans"]:
        named = f"url = {quoted(source)}" if "://" in source else f"file = {beside(source)}"
        lines += ["  [[bans.source]]", f"  {named}"]
    for source in given["own_bans"]:
        lines += ["  [[bans.source]]", f"  file = {beside(source)}", "  signed = false"]
    return [*lines, ""]


def _as_text(found: Policy) -> str:
    lines = [f"policy sha256:{found.digest}", f"  with the files it reads: sha256:{found.content_digest}"]
    for namespace in found.namespaces:
        signers = len(namespace.keys) + len(namespace.identities)
        lines.append(f"  {namespace.name}: {namespace.threshold} of {signers} must sign")
        lines += [f"    {_key_words(key.key_id)}" for key in namespace.keys]
        lines += [f"    keyless {identity.label}" for identity in namespace.identities]
    accept = found.accept
    age = "no limit" if accept.max_age is None else f"at most {_span(accept.max_age)}"
    excludes = "allowed" if accept.excludes else "refused"
    root = f"public {found.sigstore.instance} root, fetched when needed"
    if found.sigstore.trusted_root is not None:
        root = "pinned root, no network"
    if not found.identities:
        root = "no keyless signer is trusted"
    lines += [
        f"  accepts: {', '.join(accept.schemas)}; excludes {excludes}; age {age}; permissions {accept.permissions}",
        f"  sigstore: {root}",
        *(f"  {line}" for condition in found.conditions for line in condition_lines(condition)),
        *([] if found.conditions else ["  ban lists and registry: none"]),
    ]
    return "".join(f"{line}\n" for line in lines)


def condition_lines(condition: object) -> list[str]:
    """Return a condition in words: each ban list with its source, its signers and how old it is."""
    from wcp_attest.trust.archive_provenance import ProvenanceCondition
    from wcp_attest.trust.bans.bans_table import BansCondition
    from wcp_attest.trust.registry.registry_table import RegistryCondition

    if isinstance(condition, RegistryCondition):
        return [f"registry {condition.url} must call the worker active"]
    if isinstance(condition, ProvenanceCondition):
        who = [_key_words(key.key_id) for key in condition.keys]
        who += [f"keyless {identity.label}" for identity in condition.identities]
        builder = f" naming the builder {condition.builder}" if condition.builder else ""
        return [f"archives only, with a {condition.kind} provenance{builder} by {' or '.join(who)}"]
    if not isinstance(condition, BansCondition):
        return [f"condition {type(condition).__name__}"]
    lines = [f"ban lists, each at most {_span(condition.max_age)} old; state in {condition.state}"]
    lines += [f"  {feed.name}{_age_of(feed)}" for feed in condition.feeds]
    if condition.signers is not None:
        who = [_key_words(key.key_id) for key in condition.signers.keys]
        who += [f"keyless {identity.label}" for identity in condition.signers.identities]
        lines.append(f"  signed by {condition.signers.threshold} of: {', '.join(who)}")
    return lines


def _age_of(feed: object) -> str:
    """Say how old a list in a file is; one that comes from elsewhere is not fetched for this."""
    import time

    from wcp_attest.disk.files import read_bounded

    path = getattr(feed, "path", None)
    if path is None:
        return ""
    try:
        from wcp_attest.trust.bans.document import MAX_LIST_BYTES, BanList

        data = read_bounded(path, limit=MAX_LIST_BYTES, what="the ban list", follow=True)
        issued = BanList.from_bytes(data).head.issued_at
    except Error as problem:
        return f" (cannot be read: {problem})"
    return f" (issued {_span(max(0, int(time.time() - issued)) // 60 * 60)} ago)"


def _span(seconds: int) -> str:
    """Return a span of time as a policy writes it, in the largest unit that leaves no rest."""
    units = (("d", 86_400), ("h", 3600), ("m", 60))
    return next((f"{seconds // length}{unit}" for unit, length in units if seconds % length == 0), f"{seconds}s")


def _key_words(key_id: str) -> str:
    return f"shared secret {key_id}" if key_id.startswith("hmac-") else f"key sha256:{key_id}"


def _as_json(found: Policy) -> JsonObject:
    accept = found.accept
    namespaces: list[JsonValue] = []
    for namespace in found.namespaces:
        signers: list[JsonValue] = [
            {"kind": "hmac" if key.key_id.startswith("hmac-") else "key", "key_id": key.key_id}
            for key in namespace.keys
        ]
        names = ("issuer", "identity", "repository", "workflow", "ref")
        signers += [
            {"kind": "sigstore", **{name: getattr(identity, name) for name in names}}
            for identity in namespace.identities
        ]
        namespaces.append({"name": namespace.name, "threshold": namespace.threshold, "signers": signers})
    return {
        "sha256": found.digest,
        "content_sha256": found.content_digest,
        "namespaces": namespaces,
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
