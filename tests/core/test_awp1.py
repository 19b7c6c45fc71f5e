"""The predecessors' format: written so that they accept it, and read so that it can prove no more than it covers."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.strategies import digests, species_ids, times, versions, worker_ids
from tests.trees import SIMPLE, described_hash, plant
from wcp_attest import legacy_tree
from wcp_attest.base.differences import Change
from wcp_attest.base.errors import (
    ConfigError,
    DenyCode,
    ManifestMalformed,
    SignatureInvalid,
    SignatureMissing,
    TreeMismatch,
    TreeUnsafe,
)
from wcp_attest.base.identity import format_utc
from wcp_attest.build import build_manifest
from wcp_attest.disk.options import ReadOptions
from wcp_attest.package import legacy_manifest as awp1
from wcp_attest.package.legacy_manifest import Awp1Manifest
from wcp_attest.signing.hmac import HmacSecret
from wcp_attest.signing.key import KeySigner
from wcp_attest.trust.policy import Accept, Namespace, Policy
from wcp_attest.verification import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from wcp_attest.verdict import Verdict

SECRET = HmacSecret(b"0123456789abcdef-a shared secret")
WHO: dict[str, Any] = {
    "worker_id": "org.acme.summarizer",
    "worker_species_id": "wrk.doc.summarizer",
    "worker_version": "1.4.0",
    "built_at": 1_795_356_000.0,
}
OPTIONS = ReadOptions()


def predecessor_hmac(manifest: dict[str, str], secret: bytes) -> str:
    """What the earlier verifiers compute, from the description of the format alone."""
    names = ["build_source", "built_at_utc", "package_hash", "schema_version", "worker_id", "worker_species_id"]
    text = ",".join(f'"{name}":"{manifest[name]}"' for name in [*names, "worker_version"])
    return hmac.new(secret, b"{" + text.encode() + b"}", hashlib.sha256).hexdigest()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return plant(tmp_path / "my-worker", SIMPLE)


def write(package: Path, **changes: Any) -> bytes:
    data = legacy_tree.build(package, **{**WHO, "secret": SECRET, **changes})
    (package / "manifest.json").write_bytes(data)
    return data


def policy(*schemas: str, **namespace: Any) -> Policy:
    known = Namespace(**{"name": "org.acme", "keys": (SECRET,), **namespace})
    return Policy((known,), accept=Accept(schemas=schemas or ("awp.v1",)))  # type: ignore[arg-type]


def check(package: Path, **namespace: Any) -> Verdict:
    return verify(package, policy(**namespace), now=WHO["built_at"] + 60)


def test_what_is_written_is_what_the_predecessors_write(package: Path) -> None:
    data = write(package)
    manifest = json.loads(data)
    package_hash = described_hash(SIMPLE)
    assert manifest == {
        "schema_version": "awp.v1",
        "worker_id": "org.acme.summarizer",
        "worker_species_id": "wrk.doc.summarizer",
        "worker_version": "1.4.0",
        "package_hash": package_hash,
        "built_at_utc": "2026-11-22T14:00:00Z",
        "attested_at_utc": "2026-11-22T14:00:00Z",
        "build_source": "local",
        "trust_statement": "Package attested by namespace org.acme at 2026-11-22T14:00:00Z; "
        f"package hash sha256:{package_hash}.",
        "signature_hmac_sha256": predecessor_hmac(manifest, SECRET.secret),
    }
    assert data == (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()


def test_the_package_hash_is_that_of_awp_v2(package: Path) -> None:
    assert json.loads(write(package))["package_hash"] == build_manifest(package, **WHO).package_hash


def test_what_is_written_verifies(package: Path) -> None:
    write(package, build_source="ci")
    verdict = check(package)
    assert verdict.verified is not None
    assert verdict.verified.schema == "awp.v1"
    assert verdict.verified.package_hash == described_hash(SIMPLE)
    assert verdict.message == (
        f"Package attested by namespace org.acme at 2026-11-22T14:00:00Z; package hash sha256:{described_hash(SIMPLE)}."
    )


@given(worker_ids, species_ids, versions, digests, times, st.sampled_from(["local", "ci", "agent"]))
def test_manifests_round_trip_and_their_hmac_is_the_described_one(
    worker: str, species: str, version: str, package_hash: str, at: int, source: Any
) -> None:
    manifest = Awp1Manifest(worker, species, version, package_hash, format_utc(at), source).signed_with(SECRET.secret)
    data = manifest.to_bytes()
    assert awp1.parse(data) == manifest
    awp1.check_signature(manifest, SECRET.secret)
    assert manifest.signature == predecessor_hmac(json.loads(data), SECRET.secret)
    assert manifest.built_at == at


def test_the_signed_bytes_need_no_escape_in_any_language() -> None:
    """Python escapes what is not ASCII, Go `<>&`, all of them quotes, backslashes and control characters."""
    longest = Awp1Manifest("org.a-1.b", "wrk.x", "1.0+b_2-rc.3", "0" * 64, "2026-11-22T14:00:00Z", "agent")
    assert not set(longest.signed_bytes().decode()) & set("<>&\\'/\x7f")
    assert longest.signed_bytes().isascii()


def test_every_flipped_byte_is_refused_or_not_signed(package: Path) -> None:
    data = write(package)
    signed = awp1.parse(data)
    passed = []
    for position in range(len(data)):
        for mask in (0x01, 0x04, 0x20, 0x80):
            flipped = data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :]
            try:
                manifest = awp1.parse(flipped)
                awp1.check_signature(manifest, SECRET.secret)
            except (ManifestMalformed, SignatureInvalid, SignatureMissing):
                continue
            assert manifest == signed  # whatever passes says the same
            passed.append(position)
    unsigned = range(data.index(b'"attested_at_utc"'), data.index(b'"build_source"'))
    statement = range(data.index(b'"trust_statement"'), data.index(b'"worker_id"'))
    space = {position for position in range(len(data)) if data[position : position + 1].isspace()}
    assert set(passed) <= {*unsigned, *statement, *space}
    assert set(passed) & set(statement)


@given(st.binary(max_size=200))
def test_no_bytes_escape_the_error_tree(data: bytes) -> None:
    with pytest.raises(ManifestMalformed):
        awp1.parse(data)


GOOD: dict[str, object] = json.loads(
    Awp1Manifest("org.acme.w", "wrk.doc.w", "1", "ab" * 32, "2026-11-22T14:00:00Z", "ci").signed_with(b"k").to_bytes()
)
_NOT_TEXT: list[object] = [None, 1, True, [], {"a": "b"}]
_SIGNED = [name for name in GOOD if name not in {"attested_at_utc", "trust_statement", "signature_hmac_sha256"}]


@pytest.mark.parametrize(
    "changes",
    [
        *({name: ...} for name in _SIGNED),
        *({name: value} for name in GOOD for value in _NOT_TEXT),
        *({name: value} for name in _SIGNED for value in ("", "\n", "\u202e", "x" * 1000)),
        {"schema_version": "awp.v3"},
        {"worker_id": "org.Acme.W"},
        {"worker_id": "org.acme.w\u00e9"},
        {"worker_version": "1<2"},
        {"worker_version": "1&2"},
        {"package_hash": "AB" * 32},
        {"package_hash": "sha256:" + "ab" * 32},
        {"built_at_utc": "2026-11-22T14:00:00.000Z"},
        {"build_source": "laptop"},
        {"entries": {}},
        {"hash_algorithm": "sha256"},
        {"signature": "x"},
    ],
    ids=str,
)
def test_any_other_field_or_value_is_malformed(changes: dict[str, object]) -> None:
    fields = {name: value for name, value in {**GOOD, **changes}.items() if value is not ...}
    with pytest.raises(ManifestMalformed) as refusal:
        awp1.parse(json.dumps(fields).encode())
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 250


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        json.dumps(GOOD).encode() + b"x",
        b'{"worker_id":"org.acme.w",' + json.dumps(GOOD).encode()[1:],
        json.dumps({**GOOD, "trust_statement": "x" * 70_000}).encode(),
    ],
)
def test_what_is_not_strict_json_or_too_large_is_malformed(data: bytes) -> None:
    with pytest.raises(ManifestMalformed):
        awp1.parse(data)


def test_a_manifest_of_awp_v2_without_its_signatures_is_called_unsigned(package: Path) -> None:
    (package / "manifest.json").write_bytes(build_manifest(package, **WHO).to_bytes())
    verdict = verify(package, policy("awp.v1", "awp.v2"))
    assert verdict.code is DenyCode.SIGNATURE_MISSING


class TestSignature:
    @pytest.mark.parametrize("signature", ["0" * 64, "", "x", "\u00e9", "0" * 63, "0" * 65])
    def test_a_wrong_one_is_refused(self, package: Path, signature: str) -> None:
        fields = {**json.loads(write(package)), "signature_hmac_sha256": signature}
        (package / "manifest.json").write_text(json.dumps(fields))
        expected = DenyCode.SIG_INVALID if signature else DenyCode.SIGNATURE_MISSING
        assert check(package).code is expected

    def test_half_a_surrogate_pair_is_malformed(self, package: Path) -> None:
        fields = {**json.loads(write(package)), "signature_hmac_sha256": "\ud800"}
        (package / "manifest.json").write_text(json.dumps(fields))
        assert check(package).code is DenyCode.MANIFEST_MALFORMED

    def test_another_spelling_of_the_right_one_is_refused(self, package: Path) -> None:
        fields = json.loads(write(package))
        fields["signature_hmac_sha256"] = fields["signature_hmac_sha256"].upper()
        (package / "manifest.json").write_text(json.dumps(fields))
        assert check(package).code is DenyCode.SIG_INVALID

    def test_a_missing_one_is_refused(self, package: Path) -> None:
        fields = json.loads(write(package))
        del fields["signature_hmac_sha256"]
        (package / "manifest.json").write_text(json.dumps(fields))
        assert check(package).code is DenyCode.SIGNATURE_MISSING

    def test_another_secret_is_refused(self, package: Path) -> None:
        write(package)
        other = HmacSecret(b"another secret of good length")
        assert check(package, keys=(other,)).code is DenyCode.SIG_INVALID
        assert check(package, keys=(other, SECRET)).ok

    def test_changing_any_signed_field_is_refused(self, package: Path) -> None:
        fields = json.loads(write(package))
        others = {"worker_id": "org.acme.other", "worker_species_id": "wrk.doc.other", "worker_version": "1.4.1"}
        times = {"built_at_utc": "2026-11-22T14:00:01Z", "build_source": "ci", "package_hash": "0" * 64}
        for name, value in {**others, **times}.items():
            (package / "manifest.json").write_text(json.dumps({**fields, name: value}))
            assert check(package).code is DenyCode.SIG_INVALID, name

    def test_the_signature_is_checked_before_the_tree(self, package: Path) -> None:
        write(package)
        (package / "requirements.lock").write_text("changed")
        assert check(package, keys=(HmacSecret(b"another secret of good length"),)).code is DenyCode.SIG_INVALID


class TestTrust:
    def test_it_must_be_allowed_by_name(self, package: Path) -> None:
        write(package)
        assert verify(package, policy("awp.v2")).code is DenyCode.SIGNATURE_MISSING

    def test_it_never_satisfies_a_policy_that_asks_for_a_key(self, package: Path) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        write(package)
        key = KeySigner(Ed25519PrivateKey.generate()).trusted
        assert check(package, keys=(key,)).code is DenyCode.SIGNER_UNTRUSTED
        assert check(package, keys=(key, SECRET), threshold=2).code is DenyCode.THRESHOLD_NOT_MET

    def test_it_counts_for_its_own_namespace_only(self, package: Path) -> None:
        write(package)
        assert check(package, name="org.other").code is DenyCode.NAMESPACE_INVALID

    def test_what_is_unsigned_is_never_repeated(self, package: Path) -> None:
        fields = json.loads(write(package))
        lies = {"attested_at_utc": "2099-01-01T00:00:00Z", "trust_statement": "Package attested by namespace org.bank"}
        (package / "manifest.json").write_text(json.dumps({**fields, **lies}))
        verdict = check(package)
        assert verdict.ok
        assert "2099" not in repr(verdict)
        assert "bank" not in repr(verdict)

    def test_its_age_is_that_of_the_signed_time(self, package: Path) -> None:
        write(package)
        aged = Policy((Namespace("org.acme", keys=(SECRET,)),), accept=Accept(schemas=("awp.v1",), max_age=3600))
        assert verify(package, aged, now=WHO["built_at"] + 3600).ok
        assert verify(package, aged, now=WHO["built_at"] + 3601).code is DenyCode.EXPIRED


def adding(path: str, data: bytes = b"x") -> Callable[[Path], None]:
    return lambda root: void(plant(root, {path: data}))


def void(_: object) -> None:
    """Drop a value."""


def link(path: str, target: str) -> Callable[[Path], None]:
    return lambda root: (root / path).symlink_to(target)


UNCOVERED: dict[str, tuple[Callable[[Path], None], Change]] = {
    ".git": (adding(".git/hooks/pre-commit"), Change.ADDED),
    ".git file": (adding("sub/.git"), Change.ADDED),
    "__pycache__": (adding("code/__pycache__/worker_logic.cpython-311.pyc"), Change.BYTECODE),
    "__pycache__ text": (adding("code/__pycache__/x.txt"), Change.BYTECODE),
    "*.pyc": (adding("code/os.pyc"), Change.BYTECODE),
    "*.PYC": (adding("code/os.PYC"), Change.BYTECODE),
    ".DS_Store": (adding("docs/.DS_Store"), Change.ADDED),
    "nested manifest.json": (adding("code/manifest.json"), Change.ADDED),
    "manifest.json folder": (adding("code/manifest.json/evil.py"), Change.ADDED),
    "nested manifest.sig": (adding("code/manifest.sig"), Change.ADDED),
    "manifest.tmp": (adding("manifest.tmp"), Change.ADDED),
    "link to a file": (link("code/more.py", "worker_logic.py"), Change.LINK),
    "link to a directory": (link("more", "code"), Change.LINK),
    "dangling link": (link("more", "absent"), Change.LINK),
    "empty directory": (lambda root: (root / "plugins").mkdir(), Change.ADDED),
}


class TestTree:
    @pytest.mark.parametrize("name", UNCOVERED)
    def test_what_the_hash_does_not_cover_is_denied(self, package: Path, name: str) -> None:
        write(package)
        assert check(package).ok
        act, change = UNCOVERED[name]
        act(package)
        verdict = check(package)
        assert verdict.code is DenyCode.HASH_MISMATCH
        assert [difference.change for difference in verdict.differences] == [change]
        assert "awp.v1 does not cover it" in verdict.differences[0].cause

    @pytest.mark.parametrize("name", UNCOVERED)
    def test_nor_can_it_be_written(self, package: Path, name: str) -> None:
        UNCOVERED[name][0](package)
        with pytest.raises(ConfigError, match="does not cover 1 entries"):
            write(package)

    @pytest.mark.parametrize(
        "act",
        [
            adding("requirements.lock", b"evil==1.0"),
            adding("added.py"),
            lambda root: (root / "requirements.lock").unlink(),
            lambda root: (root / "requirements.lock").rename(root / "requirements.txt"),
            lambda root: (root / "code/bootstrap.py").write_bytes(SIMPLE["code/bootstrap.py"][:-1] + b"\r"),
        ],
    )
    def test_every_change_of_a_file_is_denied(self, package: Path, act: Callable[[Path], None]) -> None:
        write(package)
        act(package)
        verdict = check(package)
        assert verdict.code is DenyCode.HASH_MISMATCH
        assert described_hash(SIMPLE) in verdict.message

    def test_a_tree_with_nothing_left_is_denied(self, package: Path) -> None:
        write(package)
        for path in sorted(package.rglob("*"), reverse=True):
            if path.name != "manifest.json":
                path.rmdir() if path.is_dir() else path.unlink()
        assert check(package).code is DenyCode.HASH_MISMATCH

    def test_what_cannot_be_read_safely_is_denied(self, package: Path) -> None:
        manifest = awp1.parse(write(package))
        os.mkfifo(package / "pipe")
        with pytest.raises(TreeUnsafe):
            legacy_tree.check_tree(package, manifest, OPTIONS)
        assert check(package).code is DenyCode.TREE_UNSAFE

    def test_names_with_newlines_are_denied_where_the_old_hash_is_ambiguous(self, package: Path) -> None:
        one = hashlib.sha256(b"").hexdigest()
        plant(package, {f"a\n0\n{one}\nb": b""})
        with pytest.raises(TreeUnsafe):
            write(package)

    def test_a_package_below_a_directory_with_a_skipped_name_is_covered(self, tmp_path: Path) -> None:
        package = plant(tmp_path / ".git/__pycache__/worker", SIMPLE)
        assert json.loads(write(package))["package_hash"] == described_hash(SIMPLE)
        (package / "requirements.lock").write_text("evil")
        assert check(package).code is DenyCode.HASH_MISMATCH

    def test_single_files_are_named_for_bans(self, package: Path) -> None:
        manifest = awp1.parse(write(package))
        digests_of_files = {path: hashlib.sha256(data).hexdigest() for path, data in SIMPLE.items()}
        assert dict(legacy_tree.check_tree(package, manifest, OPTIONS)) == digests_of_files


class TestOrder:
    FILES: ClassVar = {"code/a.py": b"1", "code-x/b.py": b"2", "code.txt": b"3"}

    @pytest.fixture
    def package(self, tmp_path: Path) -> Path:
        return plant(tmp_path / "p", self.FILES)

    def test_the_earlier_verifiers_do_disagree(self) -> None:
        assert described_hash(self.FILES) != described_hash(self.FILES, by_parts=True)

    @pytest.mark.parametrize(("order", "by_parts"), [("bytes", False), ("parts", True)])
    def test_both_orders_are_accepted(self, package: Path, order: str, by_parts: bool) -> None:
        data = write(package, order=order)
        assert json.loads(data)["package_hash"] == described_hash(self.FILES, by_parts=by_parts)
        assert check(package).ok
        (package / "code.txt").write_bytes(b"4")
        assert check(package).code is DenyCode.HASH_MISMATCH

    def test_the_writer_must_choose_where_they_disagree(self, package: Path) -> None:
        with pytest.raises(ConfigError, match="`bytes` for those in Go"):
            write(package)

    def test_no_third_order_is_accepted(self, package: Path) -> None:
        manifest = awp1.parse(write(package, order="bytes"))
        text = "".join(
            f"{path}\n1\n{hashlib.sha256(self.FILES[path]).hexdigest()}\n"
            for path in ("code.txt", "code/a.py", "code-x/b.py")
        )
        third = hashlib.sha256(text.encode()).hexdigest()
        assert third not in {described_hash(self.FILES), described_hash(self.FILES, by_parts=True)}
        forged = Awp1Manifest(
            manifest.worker_id,
            manifest.worker_species_id,
            manifest.worker_version,
            third,
            manifest.built_at_utc,
            manifest.build_source,
        )
        with pytest.raises(TreeMismatch):
            legacy_tree.check_tree(package, forged, OPTIONS)


class TestMistakes:
    def test_metadata_is_the_callers(self, package: Path) -> None:
        for wrong in ({"worker_id": "w"}, {"worker_species_id": "W"}, {"worker_version": ""}, {"build_source": "x"}):
            with pytest.raises(ConfigError):
                write(package, **wrong)

    def test_a_signature_file_beside_it_is_denied(self, package: Path) -> None:
        write(package)
        (package / "manifest.sig").write_bytes(b"{}")
        assert check(package).code is DenyCode.SIG_INVALID

    @pytest.mark.parametrize("secret", [b"", b"short", b" " * 40, b"\n" * 40, b"x" * 15, b"x" * 5000])
    def test_a_weak_secret_cannot_even_be_held(self, secret: bytes) -> None:
        with pytest.raises(ConfigError):
            HmacSecret(secret)

    def test_the_secret_is_shown_nowhere(self, package: Path) -> None:
        assert "shared secret" not in repr(SECRET)
        assert b"shared secret" not in write(package)
        assert json.loads(write(package))["signature_hmac_sha256"] not in repr(awp1.parse(write(package)))

    def test_the_clock_is_taken_when_no_time_is_given(self, package: Path) -> None:
        assert json.loads(write(package, built_at=None))["built_at_utc"] > "2026"
