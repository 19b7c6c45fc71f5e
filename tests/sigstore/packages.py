"""Signed packages for the tests of this room, and the command line to treat them with."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

from sigstore.dsse import Statement as SigstoreStatement
from sigstore.models import ClientTrustConfig
from sigstore.oidc import IdentityToken
from sigstore.sign import SigningContext

from tests import forked
from tests.trees import plant
from wcp_attest.base.identity import format_utc
from wcp_attest.cli import main
from wcp_attest.package.manifest import Manifest
from wcp_attest.package.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.loopback_sigstore import LoopbackSigstore

WORKER = "org.acme.summarizer"
FILES = {"code/worker_logic.py": b"def execute(request):\n    return request\n", "requirements.lock": b""}
BUILD = ("--worker-id", WORKER, "--species-id", "wrk.doc.summarizer", "--worker-version", "1.4.0")
WORKFLOW = "https://github.com/acme/worker/.github/workflows/release.yml@refs/tags/v1"
# Far above what one signature takes; a hang is a failure.
PATIENCE = 120


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of the program printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


def wcp_attest(*arguments: str | Path, env: Mapping[str, str] | None = None, stdin: str = "") -> Run:
    """Run the program as a user does: in a process of its own, with an environment that says no more than `env`."""
    ran = forked.run(arguments, env=_environment(env), input=stdin, timeout=PATIENCE)
    assert "Traceback" not in ran.stderr, ran.stderr
    return Run(ran.returncode, ran.stdout, ran.stderr)


def quickly(*arguments: str | Path, env: Mapping[str, str] | None = None, stdin: str = "") -> Run:
    """Run the program by its entry point in this process, which has the libraries loaded already."""
    out, err = io.StringIO(), io.StringIO()
    given = io.TextIOWrapper(io.BytesIO(stdin.encode()))
    with (
        mock.patch.dict(os.environ, _environment(env), clear=True),
        mock.patch.object(sys, "stdin", given),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = main([str(argument) for argument in arguments])
    return Run(status, out.getvalue(), err.getvalue())


def _environment(env: Mapping[str, str] | None) -> dict[str, str]:
    kept = ("PATH", "HOME", "TMPDIR", "LANG")
    return {**{name: os.environ[name] for name in kept if name in os.environ}, **(env or {})}


def write_package(root: Path) -> Path:
    """Write a small package, without manifest."""
    return plant(root, FILES)


def build_package(root: Path) -> Path:
    """Write a small package with its manifest."""
    built = quickly("build", write_package(root), *BUILD)
    assert built.status == 0, built
    return root


def payload_of(root: Path) -> bytes:
    """Return the Statement about a package."""
    data = (root / "manifest.json").read_bytes()
    return Statement.of(Manifest.from_bytes(data), data, signed_at_utc=format_utc(1_700_000_000)).to_bytes()


def keyless_line(
    instance: LoopbackSigstore,
    payload: bytes,
    claims: Mapping[str, str] | None = None,
    *,
    rekor: int = 1,
    timestamps: bool = True,
) -> bytes:
    """Sign in this process, with the library itself: quick, and not with our own signer."""
    given = json.dumps(instance.client_trust_config(rekor=rekor, timestamps=timestamps))
    context = SigningContext.from_trust_config(ClientTrustConfig.from_json(given))
    with context.signer(IdentityToken(instance.token(**(claims or {})))) as signer:
        bundle = signer.sign_dsse(SigstoreStatement(payload))
    return json.dumps(json.loads(bundle.to_json()), separators=(",", ":")).encode()
