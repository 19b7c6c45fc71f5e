"""`wcp-attest registry`: ask a worker registry, and report to it. No answer is an error, never an all-clear."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from wcp_attest.base.errors import ConfigError, VerificationError
from wcp_attest.cli.failure_report import REFUSED
from wcp_attest.cli.option_groups import CommandGroup, grouped
from wcp_attest.cli.output import Output, reporting
from wcp_attest.cli.shared_options import root_argument
from wcp_attest.cli.text import count, one_line

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonValue
    from wcp_attest.package.manifest import Manifest
    from wcp_attest.trust.registry.answers import VerifyResponse
    from wcp_attest.trust.registry.client import Credentials, RegistryClient

TOKEN_VARIABLE = "PYHALL_TOKEN"  # noqa: S105  # the name of a variable
SESSION_VARIABLE = "PYHALL_SESSION_TOKEN"


@click.group(cls=CommandGroup, no_args_is_help=False)
def registry() -> None:
    """Ask a worker registry, and report to it.

    The registry is that of --registry-url, else of PYHALL_REGISTRY_URL, else the public one.
    """


_where = grouped(
    "Registry",
    click.option(
        "--registry-url", metavar="URL", help="Which registry; https, or http on loopback where no token is sent."
    ),
    click.option("--ca-file", metavar="FILE", type=click.Path(), help="Certificates to trust instead of the system's."),
    click.option("--timeout", type=click.FloatRange(0.1, 600), default=10.0, show_default=True, metavar="SECONDS"),
)
_token = grouped(
    "Registry",
    click.option(
        "--token-file",
        metavar="FILE",
        type=click.Path(),
        help=f"Take the bearer token from a file; else {TOKEN_VARIABLE}, or a session from {SESSION_VARIABLE}.",
    ),
)


@registry.command()
@click.argument("worker_id", metavar="WORKER-ID")
@grouped(
    "Trust",
    click.option("--policy", type=click.Path(), metavar="FILE", help="Check the signed manifest that it keeps."),
)
@_where
@reporting("text", "json")
def status(out: Output, /, worker_id: str, policy: str | None, **where: Any) -> int:
    """Tell what the registry knows of a worker.

    With --policy, the manifest and signatures that the registry keeps are checked under that policy, so that its answer
    rests on more than its word.

    Exit status 0: it is active. Exit status 1: it is revoked, banned or unknown, or what is kept of it is refused.
    """
    answer = _client(where).verify(worker_id)
    active = answer.status == "active"
    signers = _check_kept_pair(answer, policy) if policy is not None else ()
    if out.format == "json":
        out.deliver_json(
            "registry-status",
            {
                "worker_id": worker_id,
                "status": answer.status,
                "current_hash": answer.current_hash,
                "ban_reason": answer.ban_reason,
                "attested_at": answer.attested_at,
                "ai_generated": answer.ai_generated,
                "signers": list(signers),
            },
        )
    else:
        lines = [f"{out.paint('good' if active else 'bad', answer.status.upper())}  {worker_id}\n"]
        lines += [f"  package hash  sha256:{answer.current_hash}\n"] if answer.current_hash else []
        lines += [f"  signed by     {one_line(signer)}\n" for signer in signers]
        lines += [f"  attested at   {one_line(answer.attested_at)}\n"] if answer.attested_at else []
        lines += [f"  banned for    {one_line(answer.ban_reason)}\n"] if answer.ban_reason else []
        out.decide("".join(lines))
    return 0 if active else REFUSED


@registry.command()
@root_argument
@grouped(
    "What is sent",
    click.option("--label", metavar="TEXT", help="For people, such as a release name."),
    click.option("--no-pair", is_flag=True, help="Send what the manifest says, not manifest.json and manifest.sig."),
)
@_token
@_where
@reporting("text", "json")
def submit(
    out: Output, /, package: str, label: str | None, no_pair: bool, token_file: str | None, **where: Any
) -> None:
    """Tell the registry which package the worker in ROOT is now: the one that its manifest.json describes.

    The two files are sent as well, so that the registry and those who ask it can check the signatures; without
    manifest.sig, or with --no-pair, they get only a claim. Nothing is verified here; verify the package before.
    """
    from wcp_attest.package.provenance import AiOrigin
    from wcp_attest.trust.registry.answers import Submission

    manifest, data, signatures = _pair(package)
    paired = not no_pair and signatures is not None
    if not paired:
        why, advice = ("--no-pair", "") if no_pair else ("not signed", "; sign the package first")
        out.note(f"{why}: the registry gets a bare claim, which a Hall never calls active{advice}")
    if manifest.hash_algorithm != "sha256":
        raise ConfigError("a registry keeps SHA-256 package hashes; build the package with --algorithm sha256")
    if manifest.excludes:
        out.note(f"the package hash does not cover what {', '.join(map(repr, manifest.excludes))} excludes")
    ai = manifest.ai or AiOrigin(generated=False)
    answer = _client(where, _credentials(token_file)).submit_attestation(
        Submission(
            worker_id=manifest.worker_id,
            worker_species_id=manifest.worker_species_id,
            worker_version=manifest.worker_version,
            package_hash=manifest.package_hash,
            label=label,
            ai_generated=ai.generated,
            ai_service=ai.service,
            ai_model=ai.model,
            ai_session_fingerprint=ai.session_fingerprint,
            manifest=data if paired else None,
            signatures=signatures if paired else None,
        )
    )
    if out.format == "json":
        value = {"worker_id": answer.worker_id, "package_hash": answer.package_hash, "id": answer.id}
        out.deliver_json("registry-submit", {**value, "status": answer.status, "attested_at": answer.attested_at})
        return
    out.decide(f"{out.paint('good', 'SUBMITTED')}  {answer.worker_id}  sha256:{answer.package_hash}\n")


@registry.command("ban-list")
@_where
@reporting("text", "json")
def ban_list(out: Output, /, **where: Any) -> None:
    """Print the registry's whole ban list, or fail when only a part of it arrives."""
    entries, lines = _client(where).get_ban_list(), []
    if out.format == "json":
        rows: list[JsonValue] = [
            {
                "sha256": entry.sha256,
                "reason": entry.reason,
                "reported_at": entry.reported_at,
                "source": entry.source,
                "review_status": entry.review_status,
                "in_force": entry.in_force,
            }
            for entry in entries
        ]
        out.deliver_json("registry-ban-list", {"entries": rows})
        return
    for entry in entries:
        state = "" if entry.in_force else f"  ({entry.review_status}, not a ban)"
        line = f"sha256:{entry.sha256}  {entry.reported_at}  {entry.source}: {entry.reason}{state}"
        lines.append(one_line(line) + "\n")
    out.deliver("".join(lines))
    out.note(count(len(entries), "entry"))


@registry.command("check-hash")
@click.argument("digest", metavar="DIGEST")
@_where
@reporting("text", "json")
def check_hash(out: Output, /, digest: str, **where: Any) -> int:
    """Tell whether a SHA-256 is on the registry's ban list.

    Exit status 0: it is not. Exit status 1: it is.
    """
    from wcp_attest.trust.registry.answers import check_digest

    wanted = check_digest(digest)
    banned = _client(where).is_hash_banned(wanted)
    if out.format == "json":
        out.deliver_json("registry-check-hash", {"sha256": wanted, "banned": banned})
    else:
        out.decide(f"{out.paint('bad', 'BANNED') if banned else out.paint('good', 'NOT BANNED')}  sha256:{wanted}\n")
    return REFUSED if banned else 0


@registry.command()
@click.argument("digest", metavar="DIGEST")
@grouped(
    "Report",
    click.option("--reason", required=True, metavar="TEXT", help="Why it should be banned."),
    click.option("--evidence-url", metavar="URL", help="Where more is to be read."),
)
@_token
@_where
@reporting("text", "json")
def report(
    out: Output, /, digest: str, reason: str, evidence_url: str | None, token_file: str | None, **where: Any
) -> None:
    """Report a SHA-256 for review. Nothing is banned by a report alone; use `wcp-attest ban` for that."""
    client = _client(where, _credentials(token_file))
    client.report_hash(digest, reason, evidence_url)
    if out.format == "json":
        out.deliver_json("registry-report", {"ok": True, "registry": client.base_url})
    else:
        out.decide(f"reported to {client.base_url}\n")


@registry.command()
@_where
@reporting("text", "json")
def health(out: Output, /, **where: Any) -> int:
    """Ask whether the registry is up.

    Exit status 0: it says so. Exit status 1: it says that it is not. Exit status 2: it does not answer.
    """
    client = _client(where)
    answer = client.health()
    if out.format == "json":
        out.deliver_json("registry-health", {"registry": client.base_url, "ok": answer.ok, "version": answer.version})
    else:
        state = out.paint("good", "UP") if answer.ok else out.paint("bad", "NOT WELL")
        out.decide(f"{state}  {client.base_url}  {one_line(answer.version)}".rstrip() + "\n")
    return 0 if answer.ok else REFUSED


def _client(where: dict[str, Any], credentials: Credentials | None = None) -> RegistryClient:
    from wcp_attest.trust.registry.client import RegistryClient

    return RegistryClient(
        where["registry_url"], credentials=credentials, timeout=where["timeout"], ca_file=where["ca_file"]
    )


def _credentials(token_file: str | None) -> Credentials:
    """Return the token of a file or the environment; none is no error here, the registry will say."""
    from wcp_attest.trust.registry.client import Credentials

    if token_file is not None:
        return Credentials.from_token_file(token_file)
    return Credentials(os.environ.get(TOKEN_VARIABLE) or None, os.environ.get(SESSION_VARIABLE) or None)


def _pair(package: str) -> tuple[Manifest, bytes, bytes | None]:
    """Return the manifest of a package, its bytes, and those of its signature file, None when there is none."""
    from wcp_attest.disk.files import read_bounded
    from wcp_attest.disk.placement import find_place
    from wcp_attest.package.manifest import MAX_MANIFEST_BYTES, Manifest
    from wcp_attest.package.signature_file import MAX_SIGNATURE_FILE_BYTES

    place = find_place(package)
    data = read_bounded(place.manifest, limit=MAX_MANIFEST_BYTES, what="the manifest")
    signatures = None
    if os.path.lexists(place.signatures):
        signatures = read_bounded(place.signatures, limit=MAX_SIGNATURE_FILE_BYTES, what="the signatures")
    try:
        return Manifest.from_bytes(data), data, signatures
    except VerificationError as problem:
        raise ConfigError(str(problem)) from None


def _check_kept_pair(answer: VerifyResponse, policy: str) -> tuple[str, ...]:
    """Check the pair that a registry keeps of a worker under a policy, and return its signers in words.

    Raises:
        VerificationError: it is refused, or there is none.
        ConfigError: the policy cannot be used.
    """
    from wcp_attest.base.errors import NotAcceptable, SignatureMissing
    from wcp_attest.pair import check_pair
    from wcp_attest.trust.policy_file import load_policy
    from wcp_attest.verdict import Expectation

    if answer.manifest is None or answer.signatures is None:
        raise SignatureMissing(f"the registry keeps no signed manifest of {answer.worker_id}, only its own word")
    signed = check_pair(
        answer.manifest, answer.signatures, load_policy(policy), expect=Expectation(worker_id=answer.worker_id)
    )
    if answer.current_hash not in {None, signed.package_hash}:
        raise NotAcceptable(
            f"the registry says package hash {answer.current_hash}, the signed manifest {signed.package_hash}"
        )
    return signed.signers
