"""`docs/verify.mjs`, a verifier in the standard library of Node, agrees with this one on the vectors signed by keys."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.vectors.packages import materialise_case

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests/vectors"
KIT = ROOT / "docs/verify.mjs"
NODE = shutil.which("node")
CASES = {path.stem: json.loads(path.read_bytes()) for path in (VECTORS / "cases").glob("*.json")}
# What the kit says that it leaves out, or is given no flag for: the policy's own conditions and the caller's.
UNDECIDED = {"key-blake3", "key-excludes"}


def signers(vector: dict[str, Any]) -> tuple[list[str], int, str]:
    """Return the keys of a policy that the kit can be given, its threshold and namespace; no keys where it cannot."""
    policy = tomllib.loads(vector["policy"])
    if len(policy["namespace"]) != 1 or "accept" in policy or vector["expect"]:
        return [], 0, ""
    (namespace,) = policy["namespace"]
    if not all(set(signer) == {"key"} for signer in namespace["signer"]):
        return [], 0, ""
    return [signer["key"] for signer in namespace["signer"]], namespace["threshold"], namespace["name"]


COMPARED = sorted(name for name, vector in CASES.items() if signers(vector)[0])


@pytest.mark.parametrize("name", COMPARED)
def test_the_kit_answers_as_this_verifier(tmp_path: Path, name: str) -> None:
    if NODE is None:
        pytest.skip("no Node here: the reviewer's kit was not run")
    vector = CASES[name]
    keys, threshold, namespace = signers(vector)
    package, pair = materialise_case(vector, tmp_path / "package")
    options = [f"--threshold={threshold}", f"--now={vector['now']}", *([f"--attestation={pair}"] if pair else [])]
    command = [NODE, str(KIT), *options, str(package), namespace, *(str(VECTORS / key) for key in keys)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    wanted = 2 if name in UNDECIDED else 0 if vector["expected"]["ok"] else 1
    assert done.returncode == wanted, f"{done.stdout}{done.stderr}"
    assert done.stderr == ""
    assert done.stdout.startswith({0: "VERIFIED org.acme.summarizer", 1: "DENIED ", 2: "beyond"}[wanted])


@pytest.mark.parametrize("algorithm", ["RSA", "secp256k1"])
def test_the_kit_decides_nothing_with_a_key_that_the_format_does_not_know(tmp_path: Path, algorithm: str) -> None:
    if NODE is None:
        pytest.skip("no Node here: the reviewer's kit was not run")
    key = rsa.generate_private_key(65537, 2048) if algorithm == "RSA" else ec.generate_private_key(ec.SECP256K1())
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "other.pub").write_bytes(pem)
    package, _ = materialise_case(CASES["key-ed25519"], tmp_path / "package")
    command = [NODE, str(KIT), str(package), "org.acme", str(tmp_path / "other.pub")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (2, "")


def test_the_kit_runs_most_of_the_vectors_signed_by_keys() -> None:
    by_key = [name for name in CASES if name.startswith("key-")]
    assert len(by_key) > 100
    assert len(set(by_key) & set(COMPARED)) > 90


def test_the_kit_needs_nothing_but_the_standard_library_and_is_short() -> None:
    text = KIT.read_text()
    assert set(re.findall(r"from '([^']+)'", text)) == {"node:crypto", "node:fs", "node:util"}
    assert "require(" not in text
    code = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("//")]
    assert len(code) <= 100
