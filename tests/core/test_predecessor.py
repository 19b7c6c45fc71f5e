"""Programs written for the earlier SDKs get this verifier's answer in the shape they know."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

import wcp_attest
from tests.trees import SIMPLE, described_hash, plant
from wcp_attest import legacy_tree
from wcp_attest.base.errors import ConfigError, DenyCode, TreeUnsafe
from wcp_attest.build import build_manifest
from wcp_attest.compat import Attestation, PackageAttestationVerifier, canonical_package_hash
from wcp_attest.sign_package import sign
from wcp_attest.signing.hmac import HmacSecret

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "a secret of more than 16 bytes \u00e9"
WHO: dict[str, Any] = {
    "worker_id": "org.acme.summarizer",
    "worker_species_id": "wrk.doc.summarizer",
    "worker_version": "1.4.0",
}


@pytest.fixture(params=["awp.v1", "awp.v2"])
def schema(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def package(tmp_path: Path, schema: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WCP_ATTEST_HMAC_KEY", SECRET)
    root = plant(tmp_path / "p", SIMPLE)
    secret = HmacSecret(SECRET.encode())
    if schema == "awp.v1":
        (root / "manifest.json").write_bytes(legacy_tree.build(root, **WHO, secret=secret))
    else:
        sign(root, [secret], manifest=build_manifest(root, **WHO))
    return root


def check(package: Path, **changes: Any) -> Attestation:
    arguments = {
        "package_root": package,
        "manifest_path": package / "manifest.json",
        "worker_id": WHO["worker_id"],
        "worker_species_id": WHO["worker_species_id"],
        **changes,
    }
    return PackageAttestationVerifier(**arguments).verify()


def test_a_good_package_passes(package: Path, schema: str) -> None:
    ok, deny_code, meta = check(package)
    assert (ok, deny_code) == (True, None)
    assert set(meta) == {
        "package_hash",
        "manifest_schema",
        "attested_at_utc",
        "verified_at_utc",
        "trust_statement",
    }
    assert meta["package_hash"] == described_hash(SIMPLE)
    assert meta["manifest_schema"] == schema
    assert meta["trust_statement"] == (
        f"Package attested by namespace org.acme at {meta['attested_at_utc']}; "
        f"package hash sha256:{described_hash(SIMPLE)}."
    )


def test_arguments_may_come_by_position_and_as_text(package: Path) -> None:
    root = str(package)
    verifier = PackageAttestationVerifier(root, root + "/manifest.json", "org.acme.summarizer", "wrk.doc.summarizer")
    assert verifier.verify().ok
    assert verifier.verify().ok


def test_codes_are_the_texts_that_programs_compare_with(package: Path) -> None:
    (package / "requirements.lock").write_bytes(b"evil")
    ok, deny_code, meta = check(package)
    assert not ok
    assert deny_code == "ATTEST_HASH_MISMATCH"
    assert set(meta) == {"message", "differences"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"worker_id": "org.acme.other"}, DenyCode.MANIFEST_ID_MISMATCH),
        ({"worker_species_id": "wrk.doc.other"}, DenyCode.MANIFEST_ID_MISMATCH),
        ({"worker_id": "org.other.summarizer"}, DenyCode.MANIFEST_ID_MISMATCH),
        ({"worker_id": "wrk.acme.summarizer"}, DenyCode.NAMESPACE_INVALID),
        ({"worker_id": ""}, DenyCode.NAMESPACE_INVALID),
        ({"manifest_path": "/etc/hostname"}, DenyCode.MANIFEST_MISSING),
        ({"package_root": "/absent", "manifest_path": "/absent/manifest.json"}, DenyCode.MANIFEST_MISSING),
        ({"secret_env": "NOT_SET"}, DenyCode.SIGNATURE_MISSING),
        ({"secret_env": ""}, DenyCode.SIGNATURE_MISSING),
    ],
)
def test_denials(package: Path, changes: dict[str, str], code: DenyCode) -> None:
    ok, deny_code, meta = check(package, **changes)
    assert (ok, deny_code) == (False, code)
    assert meta["message"]


@pytest.mark.parametrize(
    ("secret", "code"),
    [
        ("", DenyCode.SIGNATURE_MISSING),
        ("short", DenyCode.TRUST_UNUSABLE),
        (" " * 40, DenyCode.TRUST_UNUSABLE),
    ],
)
def test_a_weak_secret_is_no_secret(
    package: Path, monkeypatch: pytest.MonkeyPatch, secret: str, code: DenyCode
) -> None:
    monkeypatch.setenv("WCP_ATTEST_HMAC_KEY", secret)
    assert check(package).deny_code is code


def test_another_secret_is_refused(package: Path, schema: str) -> None:
    os.environ["WCP_ATTEST_HMAC_KEY"] = "another secret of more than 16 bytes"
    expected = DenyCode.SIG_INVALID if schema == "awp.v1" else DenyCode.SIGNER_UNTRUSTED
    answer = check(package)
    assert answer.deny_code is expected
    assert "another" not in repr(answer)


def test_a_missing_signature_is_refused(package: Path, schema: str) -> None:
    if schema == "awp.v2":
        (package / "manifest.sig").unlink()
    else:
        text = (package / "manifest.json").read_text().replace("signature_hmac_sha256", "trust_statement2")
        (package / "manifest.json").write_text(text)
        assert check(package).deny_code is DenyCode.MANIFEST_MALFORMED
        return
    assert check(package).deny_code is DenyCode.SIGNATURE_MISSING


def test_a_missing_or_unreadable_manifest_is_refused(package: Path) -> None:
    (package / "manifest.json").unlink()
    assert check(package).deny_code is DenyCode.MANIFEST_MISSING
    (package / "manifest.json").mkdir()
    assert check(package).deny_code is DenyCode.MANIFEST_MISSING


def test_a_manifest_elsewhere_is_not_looked_at(package: Path, tmp_path: Path) -> None:
    """An earlier verifier would take a good manifest from anywhere and apply it to this tree."""
    (package / "manifest.json").rename(tmp_path / "manifest.json")
    answer = check(package, manifest_path=tmp_path / "manifest.json")
    assert answer.deny_code is DenyCode.MANIFEST_MISSING


def test_the_path_of_the_manifest_may_be_spelled_differently(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(package.parent)
    assert check(package, package_root="p/", manifest_path="./p/manifest.json").ok


def test_what_the_earlier_verifiers_missed_is_refused(package: Path) -> None:
    plant(package, {"code/__pycache__/worker_logic.cpython-311.pyc": b"planted"})
    assert check(package).deny_code is DenyCode.HASH_MISMATCH


def test_the_hash_is_the_described_one(tmp_path: Path) -> None:
    root = plant(tmp_path / ".git/p", SIMPLE)
    assert canonical_package_hash(root) == described_hash(SIMPLE)
    plant(root, {"manifest.json": b"{}", "manifest.sig": b""})
    assert canonical_package_hash(str(root)) == described_hash(SIMPLE)
    plant(root, {"nested/manifest.json": b"{}"})
    assert canonical_package_hash(root) == described_hash({**SIMPLE, "nested/manifest.json": b"{}"})


@pytest.mark.parametrize(
    "planted",
    [
        {".git/config": b"x"},
        {"code/.git/evil.py": b"x"},
        {"code/__pycache__/worker_logic.cpython-311.pyc": b"x"},
        {"code/evil.PYC": b"x"},
    ],
    ids=lambda planted: next(iter(planted)),
)
def test_the_hash_refuses_what_it_does_not_cover(tmp_path: Path, planted: dict[str, bytes]) -> None:
    root = plant(tmp_path / "p", SIMPLE)
    plant(root, planted)
    with pytest.raises(TreeUnsafe, match="does not cover"):
        canonical_package_hash(root)


def test_the_hash_refuses_links_and_empty_directories(tmp_path: Path) -> None:
    root = plant(tmp_path / "p", SIMPLE)
    (root / "link").symlink_to("code")
    with pytest.raises(TreeUnsafe, match="does not cover 1 entries: 'link'"):
        canonical_package_hash(root)
    (root / "link").unlink()
    (root / "empty").mkdir()
    with pytest.raises(TreeUnsafe, match="'empty'"):
        canonical_package_hash(root)


def test_no_pattern_of_the_tree_hides_a_file_from_the_hash(tmp_path: Path) -> None:
    root = plant(tmp_path / "p", SIMPLE)
    plant(root, {"code/evil.py": b"x", ".wcpignore": b"evil.py\n.wcpignore\n"})
    planted = {**SIMPLE, "code/evil.py": b"x", ".wcpignore": b"evil.py\n.wcpignore\n"}
    assert canonical_package_hash(root) == described_hash(planted) != described_hash(SIMPLE)


def test_the_hash_of_what_cannot_be_hashed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        canonical_package_hash(tmp_path)
    with pytest.raises(ConfigError):
        canonical_package_hash(tmp_path / "absent")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TreeUnsafe):
        canonical_package_hash(tmp_path)


def test_the_names_are_public() -> None:
    assert wcp_attest.PackageAttestationVerifier is PackageAttestationVerifier
    assert wcp_attest.canonical_package_hash is canonical_package_hash
    for name in ("build_manifest", "write_manifest", "scaffold_package", "DenyCode", "Policy", "verify", "sign"):
        assert callable(getattr(wcp_attest, name))
