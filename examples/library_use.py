"""Sign a worker package and verify it, from a program: `python examples/library_use.py [DIRECTORY]`.

Checked by mypy in strict mode and run by the tests, so that it stays true.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from wcp_attest import (
    Accept,
    DenyCode,
    Expectation,
    KeySigner,
    Namespace,
    Policy,
    TrustedKey,
    Verdict,
    Verified,
    build_manifest,
    scaffold_package,
    sign,
    verify,
)
from wcp_attest.signing.key import generate

WORKER = "org.acme.summarizer"


def release(package: Path, signer: KeySigner) -> str:
    """Build the manifest of a package, sign it, and return its package hash."""
    manifest = build_manifest(
        package, worker_id=WORKER, worker_species_id="wrk.doc.summarizer", worker_version="1.4.0", excludes=["*.tmp"]
    )
    return sign(package, [signer], manifest=manifest).manifest.package_hash


def policy_for(key: TrustedKey) -> Policy:
    """Believe one key for one namespace, in packages that leave nothing out."""
    return Policy((Namespace("org.acme", (key,)),), accept=Accept(excludes=False))


def deploy(package: Path, policy: Policy, destination: Path) -> Verified:
    """Copy what was verified, byte for byte, and return the proof; whoever runs the copy needs no second check."""
    verdict = verify(package, policy, expect=Expectation(worker_id=WORKER), stage=destination)
    if verdict.verified is None:
        raise SystemExit(explain(verdict))
    return verdict.verified


def explain(verdict: Verdict) -> str:
    """Say in a few lines why a package may not run."""
    lines = [f"{verdict.code}: {verdict.message}"]
    lines += [f"  {one.change}: {one.path} {one.cause}".rstrip() for one in verdict.differences]
    return "\n".join(lines)


def main(folder: Path) -> None:
    """Release, deploy, tamper, and be refused."""
    package, signer = folder / "summarizer", generate()
    scaffold_package(package, worker_id=WORKER, worker_species_id="wrk.doc.summarizer")
    print("package hash", release(package, signer))

    policy = policy_for(signer.trusted)
    print(deploy(package, policy, folder / "run-this").trust_statement)

    (package / "code" / "worker_logic.py").write_text("import os\n")
    refused = verify(package, policy)
    if refused or refused.code is not DenyCode.HASH_MISMATCH:
        raise SystemExit("a changed package was not refused")
    print(explain(refused))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
