"""`docs/verify.mjs`, a verifier in the standard library of Node, agrees with this one on the vectors signed by keys."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.vectors.packages import key_line, materialise_case
from wcp_attest import Namespace, Policy, TrustedKey, verify
from wcp_attest.package.signature_file import Envelope, parse_line, render_signature

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


def kit(package: Path, namespace: str, *keys: Path, **variables: object) -> subprocess.CompletedProcess[str]:
    """Run the kit as a reviewer does; skip loudly where there is no Node."""
    if NODE is None:
        pytest.skip("no Node here: the reviewer's kit was NOT run")
    command = [NODE, str(KIT), str(package), namespace, *map(str, keys)]
    environment = {name: str(value) for name, value in variables.items()}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def signed_payload(package: Path) -> bytes:
    """Return what the one line of a package's signature file signs."""
    return parse_line((package / "manifest.sig").read_bytes().rstrip(b"\n")).envelope.payload


COMPARED = sorted(name for name, vector in CASES.items() if signers(vector)[0])


@pytest.mark.parametrize("name", COMPARED)
def test_the_kit_answers_as_this_verifier(tmp_path: Path, name: str) -> None:
    vector = CASES[name]
    keys, threshold, namespace = signers(vector)
    package, pair = materialise_case(vector, tmp_path / "package")
    where = pair or (package / ".wcp" if vector.get("placement") == "folder" else package)
    files = (VECTORS / key for key in keys)
    done = kit(package, namespace, *files, THRESHOLD=threshold, NOW=vector["now"], PAIR=where)
    wanted = 2 if name in UNDECIDED else 0 if vector["expected"]["ok"] else 1
    assert done.returncode == wanted, f"{done.stdout}{done.stderr}"
    assert done.stderr == ""
    assert done.stdout.startswith({0: "VERIFIED org.acme.summarizer", 1: "DENIED ", 2: "beyond"}[wanted])


@pytest.mark.parametrize("algorithm", ["RSA", "secp256k1"])
def test_the_kit_refuses_a_line_by_a_key_that_the_format_does_not_know(tmp_path: Path, algorithm: str) -> None:
    key = rsa.generate_private_key(65537, 2048) if algorithm == "RSA" else ec.generate_private_key(ec.SECP256K1())
    public = key.public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "other.pub").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    package, _ = materialise_case(CASES["key-ed25519"], tmp_path / "package")
    payload = signed_payload(package)
    message = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload)
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    else:
        signature = key.sign(message, ec.ECDSA(hashes.SHA256()))
    line = render_signature(Envelope(payload, signature), hashlib.sha256(der).hexdigest())
    (package / "manifest.sig").write_bytes(line + b"\n")
    done = kit(package, "org.acme", tmp_path / "other.pub")
    assert (done.returncode, done.stdout, done.stderr) == (1, "DENIED a signature that does not hold\n", "")


@pytest.mark.parametrize("threshold", ["", "0", "-1", "0.5", "many", "2"])
def test_the_kit_never_verifies_without_a_trusted_signer(tmp_path: Path, threshold: str) -> None:
    package, _ = materialise_case(CASES["key-ed25519"], tmp_path / "package")
    now = CASES["key-ed25519"]["now"]
    stranger = kit(package, "org.acme", VECTORS / "keys/p256.pub", THRESHOLD=threshold, NOW=now)
    assert (stranger.returncode, stranger.stdout) == (1, "DENIED signers are missing\n")
    trusted = kit(package, "org.acme", VECTORS / "keys/ed25519.pub", THRESHOLD=threshold, NOW=now)
    assert trusted.returncode == (1 if threshold in {"many", "2"} else 0)


def test_the_kit_does_not_decide_about_a_file_that_is_too_large_for_it(tmp_path: Path) -> None:
    package, _ = materialise_case(CASES["key-ed25519"], tmp_path / "package")
    with next(path for path in package.rglob("*") if path.is_file()).open("r+b") as file:
        file.truncate(3 << 30)  # a hole
    done = kit(package, "org.acme", VECTORS / "keys/ed25519.pub", NOW=CASES["key-ed25519"]["now"])
    assert (done.returncode, done.stdout.startswith("File size")) == (2, True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"built_at_utc":"2026', b'"built_at_utc":"1969'),
        (b'"build_source":"ci"', b'"build_source":"me"'),
        (b'"worker_version":"1', b'"worker_version":".'),
        (b'"worker_species_id":"wrk.', b'"worker_species_id":"wrk_'),
        (b'"excludes":[],', b'"excludes":[],\n"ai":{"generated":true,"model":"a\xe2\x80\x8bb"},'),
        (b'"excludes":[],', b'"excludes":[],\n"source":{"commit":"a","commit":"b"},'),
    ],
)
def test_the_kit_refuses_a_manifest_that_a_key_signed_against_the_format(
    tmp_path: Path, old: bytes, new: bytes
) -> None:
    package, _ = materialise_case(CASES["key-ed25519"], tmp_path / "package")
    manifest = (package / "manifest.json").read_bytes()
    assert old in manifest
    statement = json.loads(signed_payload(package))
    public, now = VECTORS / "keys/ed25519.pub", CASES["key-ed25519"]["now"]

    def answers(altered: bytes) -> tuple[int, bool]:
        (package / "manifest.json").write_bytes(altered)
        fields = json.loads(altered)
        statement["predicate"] = {name: fields.get(name, was) for name, was in statement["predicate"].items()}
        statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(altered).hexdigest()
        line = key_line("ed25519", json.dumps(statement, separators=(",", ":")).encode())
        (package / "manifest.sig").write_bytes(line)
        done = kit(package, "org.acme", public, NOW=now)
        assert done.stderr == ""
        policy = Policy((Namespace("org.acme", (TrustedKey.from_file(public),)),))
        return done.returncode, verify(package, policy, now=now).ok

    assert answers(manifest) == (0, True)
    assert answers(manifest.replace(old, new, 1)) == (1, False)


def test_the_kit_runs_most_of_the_vectors_signed_by_keys() -> None:
    by_key = [name for name in CASES if name.startswith("key-")]
    assert len(by_key) > 100
    assert len(set(by_key) & set(COMPARED)) > 90


def test_the_kit_needs_nothing_but_the_standard_library_and_is_short() -> None:
    text = KIT.read_text()
    assert set(re.findall(r"from '([^']+)'", text)) == {"node:crypto", "node:fs", "node:path"}
    assert "require(" not in text
    code = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("//")]
    assert len(code) <= 60
    assert max(map(len, code)) <= 120  # this repository's width
