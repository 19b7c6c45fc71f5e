"""sigstore-js as the second opinion: it verifies our bundles, and makes one for us to verify.

`tests/js/install` (part of `make test`) puts the locked packages into `build/node`. Where Node or the packages are
absent, tests marked `needs_sigstore_js` are skipped with the reason, which pytest lists at its end.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MODULES = HERE.parent.parent / "build" / "node" / "node_modules"
# Node starts in a tenth of this on a slow machine; a hang must not outlive the test run.
DEADLINE = 120


@dataclass(frozen=True, slots=True)
class JsVerdict:
    """What sigstore-js says of a bundle.

    Attributes:
        ok: whether it verified.
        message: why not.
        san: the subject alternative name of the certificate, if there is one.
        issuer: the OIDC issuer in the certificate, if there is one.
    """

    ok: bool
    message: str = ""
    san: str | None = None
    issuer: str | None = None


def missing() -> str | None:
    """Say what sigstore-js needs and is not here, `None` when it can run."""
    if shutil.which("node") is None:
        return "sigstore-js was NOT asked: `node` is not installed"
    if not (MODULES / "@sigstore" / "verify").is_dir():
        return "sigstore-js was NOT asked: run `tests/js/install` to install it into build/node"
    return None


needs_sigstore_js = pytest.mark.skipif(missing() is not None, reason=missing() or "")


def verify(
    bundle: bytes,
    manifest: bytes,
    *,
    trusted_root: bytes | None = None,
    public_key: bytes | None = None,
    san: str | None = None,
    issuer: str | None = None,
) -> JsVerdict:
    """Let sigstore-js verify one line of `manifest.sig` against `manifest.json`.

    Args:
        bundle: the line.
        manifest: the bytes of the manifest.
        trusted_root: the JSON of a trusted root, for a line with a certificate.
        public_key: a PEM public key, for a line that hints at one; exactly one of both is given.
        san: the subject alternative name to ask for.
        issuer: the OIDC issuer to ask for.
    """
    assert (trusted_root is None) != (public_key is None)
    with tempfile.TemporaryDirectory() as directory:
        files = {"bundle": bundle, "manifest": manifest, "trusted-root": trusted_root, "public-key": public_key}
        arguments = []
        for name, content in files.items():
            if content is not None:
                Path(directory, name).write_bytes(content)
                arguments += [f"--{name}", str(Path(directory, name))]
        for name, value in (("san", san), ("issuer", issuer)):
            arguments += [f"--{name}", value] if value is not None else []
        ran = _node("verify.cjs", arguments)
    assert ran.returncode in {0, 1}, ran.stderr
    verdict = JsVerdict(**json.loads(ran.stdout))
    assert verdict.ok is (ran.returncode == 0)
    return verdict


def sign(instance: str, statement: bytes, token: str) -> bytes:
    """Let sigstore-js sign a statement at a Sigstore instance with Rekor v1; return its bundle.

    Args:
        instance: the URL that all services share.
        statement: the bytes to sign.
        token: the identity token.
    """
    with tempfile.NamedTemporaryFile() as file:
        file.write(statement)
        file.flush()
        ran = _node("sign.cjs", ["--instance", instance, "--statement", file.name], token)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.encode()


def _node(script: str, arguments: list[str], standard_input: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", str(HERE / script), *arguments],
        input=standard_input,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        env={**os.environ, "NODE_PATH": str(MODULES), "NO_PROXY": "127.0.0.1"},
    )
