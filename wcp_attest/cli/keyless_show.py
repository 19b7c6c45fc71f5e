"""What `show` tells of a keyless signature, with the commands that verify it; it verifies nothing itself."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

from wcp_attest.base.errors import SignatureInvalid
from wcp_attest.cli.shared_options import as_argument

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject
    from wcp_attest.package.signature_file import Line
    from wcp_attest.signing.sigstore.bundle_summary import KeylessSummary

PUBLIC_AUTHORITY = "O=sigstore.dev"  # how Fulcio's public instance names itself
PUBLIC_STAGING = "O=sigstage.dev"
BUNDLE_NAME = "manifest.sigstore.json"


class ShownPlace(NamedTuple):
    """Where the files are that `show` reads.

    Attributes:
        root: the package; `ROOT` when it is not known, as for a file of a detached pair.
        manifest: path of `manifest.json`.
        signatures: path of `manifest.sig`.
        attestation: the directory of a detached pair, else None.
    """

    root: str
    manifest: str
    signatures: str
    attestation: str | None = None


class Commands(NamedTuple):
    """Two ways to verify the signature, each ready for a shell.

    Attributes:
        verify: with this program: the whole package.
        cosign: with cosign: the signature over `manifest.json` alone.
    """

    verify: str
    cosign: str


def summary_of(line: Line) -> KeylessSummary | None:
    """Return what a keyless line says of itself, None for other lines and malformed ones."""
    if line.kind != "sigstore":
        return None
    from wcp_attest.signing.sigstore import bundle_summary as sigstore_show

    try:
        return sigstore_show.summary_of(line)
    except SignatureInvalid:
        return None


def commands_of(summary: KeylessSummary, place: ShownPlace, number: int, worker_id: str | None) -> Commands:
    """Return the commands that verify a keyless signature.

    Args:
        summary: what it says of itself.
        place: where the files are.
        number: which line of the signature file it is, from 1.
        worker_id: whose package it says it is.
    """
    from wcp_attest.package.statement import PACKAGE_PREDICATE

    san, issuer = summary.claims.san, summary.claims.issuer
    verify = ["wcp-attest", "verify", as_argument(place.root), "--worker-id", worker_id or "ID"]
    if place.attestation is not None:
        verify += ["--attestation", as_argument(place.attestation)]
    verify += ["--identity", san, "--issuer", issuer]
    cosign = ["cosign", "verify-blob-attestation", "--bundle", BUNDLE_NAME, "--type", PACKAGE_PREDICATE]
    cosign += ["--certificate-identity", san, "--certificate-oidc-issuer", issuer]
    if not summary.logged_at:
        cosign.append("--use-signed-timestamps")
    if PUBLIC_STAGING in summary.authority:
        verify.append("--staging")
    if PUBLIC_AUTHORITY not in summary.authority:
        cosign += ["--trusted-root", "TRUSTED_ROOT.json"]
        verify += [] if PUBLIC_STAGING in summary.authority else ["--trusted-root", "TRUSTED_ROOT.json"]
    extract = ["sed", "-n", f"{number}p", as_argument(place.signatures)]
    cosign.append(as_argument(place.manifest))
    return Commands(shlex.join(verify), f"{shlex.join(extract)} > {BUNDLE_NAME} && {shlex.join(cosign)}")


def as_text(summary: KeylessSummary, commands: Commands) -> list[str]:
    """Return the lines to print below a signature."""
    claims = summary.claims
    log = f"index {summary.log_index} of log {summary.log_id}"
    rows = [
        ("identity", claims.san),
        ("issuer", claims.issuer),
        ("repository", claims.source_repository_uri),
        ("ref", claims.source_repository_ref),
        ("commit", claims.source_repository_digest),
        ("run", claims.run_invocation_uri),
        ("authority", f"{summary.authority}, certificate of {summary.certificate_from}"),
        ("log entry", f"{log}, at {summary.logged_at}" if summary.logged_at else log),
        ("timestamp", ", ".join(summary.timestamps)),
        ("verify", commands.verify),
        ("cosign", commands.cosign),
    ]
    return [f"    {label:<10} {value}" for label, value in rows if value]


def as_json(summary: KeylessSummary, commands: Commands) -> JsonObject:
    """Return what a keyless signature says as JSON (`wcp_attest/schemas/show.json`)."""
    claims = summary.claims
    return {
        "identity": claims.san,
        "issuer": claims.issuer,
        "repository": claims.source_repository_uri,
        "ref": claims.source_repository_ref,
        "commit": claims.source_repository_digest,
        "run": claims.run_invocation_uri,
        "authority": summary.authority,
        "certificate_from": summary.certificate_from,
        "log_id": summary.log_id,
        "log_index": summary.log_index,
        "logged_at": summary.logged_at or None,
        "timestamps": [*summary.timestamps],
        "verify_command": commands.verify,
        "cosign_command": commands.cosign,
    }
