"""Not agreeing only with ourselves: sigstore-js over our lines, our verifier over its, `openssl ts` over timestamps."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests import js
from tests.loopback_sigstore import DIRECT, github_claims
from tests.sigstore.packages import BUILD, WORKER, WORKFLOW, build_package, payload_of, quickly, write_package

if TYPE_CHECKING:
    from pathlib import Path

    from tests.loopback_sigstore import LoopbackSigstore


def signed_package(instance: LoopbackSigstore, folder: Path, rekor: int) -> Path:
    """Sign a package with our own command line."""
    config = folder / "config.json"
    config.write_text(json.dumps(instance.client_trust_config(rekor=rekor)))
    package = write_package(folder / "my-worker")
    env = {**DIRECT, **instance.ambient_environment(**github_claims())}
    signed = quickly("sign", package, "--sigstore", "--trust-config", config, *BUILD, env=env)
    assert signed.status == 0, signed
    return package


@js.needs_sigstore_js
@pytest.mark.parametrize("rekor", [1, 2])
def test_sigstore_js_verifies_our_line_against_the_manifest(
    instance: LoopbackSigstore, tmp_path: Path, rekor: int
) -> None:
    package = signed_package(instance, tmp_path, rekor)
    line, manifest = (package / "manifest.sig").read_bytes(), (package / "manifest.json").read_bytes()
    root = json.dumps(instance.trusted_root()).encode()
    verdict = js.verify(line, manifest, trusted_root=root, san=WORKFLOW, issuer=instance.issuer)
    assert verdict == js.JsVerdict(ok=True, san=WORKFLOW, issuer=instance.issuer)
    assert not js.verify(line, manifest.replace(b"1.4.0", b"1.4.1"), trusted_root=root).ok
    assert not js.verify(line, manifest, trusted_root=root, issuer="https://other.test").ok


@js.needs_sigstore_js
def test_we_verify_what_sigstore_js_signs(instance: LoopbackSigstore, tmp_path: Path) -> None:
    package = build_package(tmp_path / "my-worker")
    bundle = js.sign(instance.base, payload_of(package), instance.token(**github_claims()))
    (package / "manifest.sig").write_bytes(bundle)
    root = tmp_path / "root.json"
    root.write_text(json.dumps(instance.trusted_root()))
    trust = ("--identity", WORKFLOW, "--issuer", instance.issuer, "--trusted-root", root, "--require-timestamp")
    verified = quickly("verify", package, "--worker-id", WORKER, *trust)
    assert verified.status == 0, verified
    (package / "code" / "worker_logic.py").write_text("changed")
    assert quickly("verify", package, "--worker-id", WORKER, *trust).status == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="timestamps were NOT checked: `openssl` is not installed")
@pytest.mark.parametrize("rekor", [1, 2])
def test_openssl_accepts_the_timestamps_in_our_line(instance: LoopbackSigstore, tmp_path: Path, rekor: int) -> None:
    package = signed_package(instance, tmp_path, rekor)
    bundle = json.loads((package / "manifest.sig").read_bytes())
    (stamp,) = bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
    (signature,) = bundle["dsseEnvelope"]["signatures"]
    reply, data = tmp_path / "reply.tsr", tmp_path / "signature"
    reply.write_bytes(base64.b64decode(stamp["signedTimestamp"]))
    data.write_bytes(base64.b64decode(signature["sig"]))
    for name, authority in (("root.pem", instance.timestamps.root), ("tsa.pem", instance.timestamps.signer)):
        (tmp_path / name).write_bytes(authority.certificate.public_bytes(Encoding.PEM))

    def openssl() -> str:
        chain = ["-CAfile", str(tmp_path / "root.pem"), "-untrusted", str(tmp_path / "tsa.pem")]
        command = ["openssl", "ts", "-verify", "-data", str(data), "-in", str(reply), *chain]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return ran.stdout + ran.stderr

    assert "Verification: OK" in openssl()
    data.write_bytes(b"another signature")
    assert "Verification: FAILED" in openssl()
