"""A signed package through the public interface: what passes, and what each attack on it is called."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from wcp_attest import (
    Accept,
    ConfigError,
    DenyCode,
    Expectation,
    HmacSecret,
    KeySigner,
    Manifest,
    Namespace,
    Policy,
    Verdict,
    Verified,
    build_manifest,
    sign,
    verify,
    write_manifest,
)
from wcp_attest.base.errors import Banned, BansUnusable, ThresholdNotMet, TreeMismatch
from wcp_attest.signing.key import generate
from wcp_attest.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from wcp_attest.trust.conditions import PackageFacts

NOW = 1_800_000_000.0
KEY, SECOND, STRANGER = generate(), generate("p256"), generate("p384")
SECRET = HmacSecret(b"a shared secret of good length")
WORKER, SPECIES = "org.acme.summarizer", "wrk.doc.summarizer"


def policy(*keys: object, name: str = "org.acme", threshold: int = 1, accept: Accept | None = None) -> Policy:
    trusted = tuple(key.trusted if isinstance(key, KeySigner) else key for key in keys or (KEY,))
    return Policy((Namespace(name, trusted, threshold=threshold),), accept or Accept())  # type: ignore[arg-type]


def make_tree(root: Path) -> Path:
    (root / "code").mkdir(parents=True)
    (root / "code" / "worker_logic.py").write_text("print('hello')\n")
    (root / "code" / "run").write_text("#!/bin/sh\n")
    (root / "code" / "run").chmod(0o755)
    (root / "empty").mkdir()
    (root / "link").symlink_to("code/run")
    (root / "requirements.lock").write_bytes(b"")
    return root


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "worker")


def built(package: Path, worker_id: str = WORKER) -> Manifest:
    return build_manifest(
        package, worker_id=worker_id, worker_species_id=SPECIES, worker_version="1.4.0", built_at=NOW - 10
    )


@pytest.fixture
def signed(package: Path) -> Path:
    sign(package, [KEY], manifest=built(package), now=NOW)
    return package


def check(package: Path, trust: Policy | None = None, now: float = NOW, expect: Expectation | None = None) -> Verdict:
    return verify(package, trust or policy(), now=now, expect=expect)


def test_a_signed_package_passes_and_says_so_from_signed_data(signed: Path) -> None:
    verdict = check(signed)
    assert verdict.ok
    assert verdict
    assert verdict.verified is not None
    manifest = Manifest.from_bytes((signed / "manifest.json").read_bytes())
    assert verdict.message == (
        f"Package attested by namespace org.acme at 2027-01-15T08:00:00Z; package hash sha256:{manifest.package_hash}."
    )
    assert verdict.verified.signers[0].key_id == KEY.trusted.key_id
    assert (verdict.verified.worker_id, verdict.verified.worker_species_id) == (WORKER, SPECIES)


@pytest.mark.parametrize("signer", [KEY, SECOND, STRANGER, SECRET], ids=["ed25519", "p256", "p384", "hmac"])
def test_every_method_signs_and_verifies(package: Path, signer: KeySigner | HmacSecret) -> None:
    sign(package, [signer], manifest=built(package), now=NOW)
    assert check(package, policy(signer)).ok
    others = [other for other in (KEY, SECRET) if other is not signer]
    assert check(package, policy(*others)).code is DenyCode.SIGNER_UNTRUSTED


def overwrite(path: str, data: bytes) -> Callable[[Path], object]:
    def attack(package: Path) -> None:
        (package / path).write_bytes(data)

    return attack


ATTACKS: dict[str, tuple[Callable[[Path], object], DenyCode, str]] = {
    "content": (overwrite("code/worker_logic.py", b"print('HELLO')\n"), DenyCode.HASH_MISMATCH, "code/worker_logic.py"),
    "longer": (overwrite("requirements.lock", b"evil==1\n"), DenyCode.HASH_MISMATCH, "requirements.lock"),
    "added": (overwrite("code/extra.py", b""), DenyCode.HASH_MISMATCH, "code/extra.py"),
    "removed": (lambda package: (package / "code/run").unlink(), DenyCode.HASH_MISMATCH, "code/run"),
    "mode": (lambda package: (package / "code/run").chmod(0o644), DenyCode.HASH_MISMATCH, "code/run"),
    "mode added": (
        lambda package: (package / "requirements.lock").chmod(0o755),
        DenyCode.HASH_MISMATCH,
        "requirements.lock",
    ),
    "into the empty directory": (overwrite("empty/x", b""), DenyCode.HASH_MISMATCH, "empty/x"),
    "empty directory gone": (lambda package: (package / "empty").rmdir(), DenyCode.HASH_MISMATCH, "empty"),
    "empty directory added": (lambda package: (package / "code/new").mkdir(), DenyCode.HASH_MISMATCH, "code/new"),
    "nested manifest": (overwrite("code/manifest.json", b"{}"), DenyCode.HASH_MISMATCH, "code/manifest.json"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_every_change_of_the_tree_is_denied_and_named(signed: Path, name: str) -> None:
    attack, code, path = ATTACKS[name]
    attack(signed)
    verdict = check(signed)
    assert verdict.code is code
    assert path in [difference.path for difference in verdict.differences]
    assert verdict.verified is None


def test_links_are_compared_as_text_and_never_followed(signed: Path) -> None:
    (signed / "link").unlink()
    (signed / "link").symlink_to("code/worker_logic.py")
    verdict = check(signed)
    assert (verdict.code, [d.path for d in verdict.differences]) == (DenyCode.HASH_MISMATCH, ["link"])
    (signed / "link").unlink()
    shutil.copy(signed / "code" / "run", signed / "link")
    assert check(signed).code is DenyCode.HASH_MISMATCH


def test_bytecode_is_never_overlooked(signed: Path) -> None:
    (signed / "code" / "__pycache__").mkdir()
    (signed / "code" / "__pycache__" / "worker_logic.cpython-311.pyc").write_bytes(b"evil")
    verdict = check(signed)
    assert verdict.code is DenyCode.HASH_MISMATCH
    assert "clean" in " ".join(difference.cause for difference in verdict.differences)


def test_special_files_are_unsafe(signed: Path) -> None:
    os.mkfifo(signed / "code" / "pipe")
    assert check(signed).code is DenyCode.TREE_UNSAFE


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("manifest.json", None, DenyCode.MANIFEST_MISSING),
        ("manifest.json", b"", DenyCode.SIG_INVALID),
        ("manifest.json", b"{}", DenyCode.SIG_INVALID),
        ("manifest.sig", None, DenyCode.SIGNATURE_MISSING),
        ("manifest.sig", b"", DenyCode.SIGNATURE_MISSING),
        ("manifest.sig", b"\n\n", DenyCode.SIGNATURE_MISSING),
        ("manifest.sig", b"{}\n", DenyCode.SIG_INVALID),
        ("manifest.sig", b"\xff\xfe", DenyCode.SIG_INVALID),
        ("manifest.sig", b"[" * 100_000, DenyCode.SIG_INVALID),
    ],
)
def test_missing_and_broken_files(signed: Path, name: str, data: bytes | None, code: DenyCode) -> None:
    if data is None:
        (signed / name).unlink()
    else:
        (signed / name).write_bytes(data)
    assert check(signed).code is code


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sig"])
def test_the_two_files_must_be_files(signed: Path, name: str) -> None:
    content = (signed / name).read_bytes()
    for replacement in ("link", "fifo", "directory"):
        (signed / name).unlink()
        if replacement == "link":
            (signed.parent / "elsewhere").write_bytes(content)
            (signed / name).symlink_to(signed.parent / "elsewhere")
        elif replacement == "fifo":
            os.mkfifo(signed / name)
        else:
            (signed / name).mkdir()
        code = check(signed).code
        assert code in {DenyCode.MANIFEST_MISSING, DenyCode.SIGNATURE_MISSING}
        if replacement == "directory":
            (signed / name).rmdir()
        else:
            (signed / name).unlink()
        (signed / name).write_bytes(content)
    assert check(signed).ok


def test_a_root_that_is_absent_or_a_file_is_denied_and_a_link_is_a_mistake(signed: Path) -> None:
    (signed.parent / "alias").symlink_to(signed)
    (signed.parent / "file").write_bytes(b"")
    for name in ("absent", "file"):
        assert check(signed.parent / name).code is DenyCode.MANIFEST_MISSING
    with pytest.raises(ConfigError, match="symbolic link"):
        check(signed.parent / "alias")


def test_signatures_accumulate_and_a_signer_replaces_its_own(signed: Path) -> None:
    sign(signed, [SECOND], now=NOW)
    sign(signed, [SECRET], now=NOW)
    result = sign(signed, [KEY], now=NOW + 5)
    assert (result.kept, result.dropped) == (2, 0)
    assert len((signed / "manifest.sig").read_bytes().splitlines()) == 3
    for signer in (KEY, SECOND, SECRET):
        assert check(signed, policy(signer)).ok
    assert check(signed, policy(KEY, SECOND, SECRET, threshold=3)).ok


def test_a_threshold_counts_distinct_signers(signed: Path) -> None:
    two = policy(KEY, SECOND, threshold=2)
    assert check(signed, two).code is DenyCode.THRESHOLD_NOT_MET
    line = (signed / "manifest.sig").read_bytes()
    (signed / "manifest.sig").write_bytes(line * 2)
    assert check(signed, two).code is DenyCode.THRESHOLD_NOT_MET
    sign(signed, [STRANGER], now=NOW)
    denied = check(signed, two)
    assert denied.code is DenyCode.THRESHOLD_NOT_MET
    assert denied.to_dict()["signers"] == [denied.signers[0].to_dict()]
    assert [signer.key_id for signer in denied.signers] == [KEY.trusted.key_id]  # and not the stranger
    assert f"not yet: key sha256:{SECOND.trusted.key_id}" in denied.message
    sign(signed, [SECOND], now=NOW)
    assert check(signed, two).ok
    assert len(check(signed, two).signers) == 2


def test_a_signer_of_one_namespace_has_no_say_in_another(package: Path) -> None:
    sign(package, [SECOND], manifest=built(package, "org.rival.summarizer"), now=NOW)
    trust = Policy((Namespace("org.acme", (SECOND.trusted,)), Namespace("org.rival", (KEY.trusted,))))
    verdict = check(package, trust)
    assert verdict.code is DenyCode.SIGNER_UNTRUSTED
    assert "org.rival" in verdict.message
    assert check(package, policy(SECOND)).code is DenyCode.NAMESPACE_INVALID


def test_a_line_by_a_stranger_breaks_nothing_and_one_that_names_a_trusted_key_must_hold(signed: Path) -> None:
    good = (signed / "manifest.sig").read_bytes()
    sign(signed, [STRANGER], now=NOW)
    assert check(signed).ok
    hint, other = KEY.trusted.key_id.encode(), STRANGER.trusted.key_id.encode()
    forged = (signed / "manifest.sig").read_bytes().splitlines()[-1].replace(other, hint)
    (signed / "manifest.sig").write_bytes(good + forged + b"\n")
    assert check(signed).code is DenyCode.SIG_INVALID


def test_a_signature_over_another_manifest_is_worth_nothing(signed: Path, tmp_path: Path) -> None:
    other = make_tree(tmp_path / "other")
    (other / "code" / "worker_logic.py").write_text("print('other')\n")
    sign(other, [KEY], manifest=built(other), now=NOW)
    shutil.copy(other / "manifest.sig", signed / "manifest.sig")
    assert check(signed).code is DenyCode.SIG_INVALID


def test_rebuilding_drops_signatures_that_could_only_deny(signed: Path) -> None:
    (signed / "code" / "worker_logic.py").write_text("print('new')\n")
    result = sign(signed, [SECOND], manifest=built(signed), now=NOW)
    assert (result.kept, result.dropped) == (0, 1)
    assert check(signed, policy(SECOND)).ok


def test_signing_refuses_a_tree_that_the_manifest_does_not_describe(signed: Path) -> None:
    before = (signed / "manifest.sig").read_bytes()
    (signed / "code" / "worker_logic.py").write_text("print('new')\n")
    with pytest.raises(TreeMismatch):
        sign(signed, [SECOND], now=NOW)
    assert (signed / "manifest.sig").read_bytes() == before


def test_signing_wants_a_signer_and_each_once(signed: Path) -> None:
    before = (signed / "manifest.sig").read_bytes()
    for signers in ([], [SECOND, SECOND]):
        with pytest.raises(ConfigError):
            sign(signed, signers, now=NOW)
    assert (signed / "manifest.sig").read_bytes() == before


def test_expectations_are_held(signed: Path) -> None:
    assert check(signed, expect=Expectation(WORKER, SPECIES)).ok
    for wrong in (Expectation("org.acme.other"), Expectation(worker_species_id="wrk.doc.other"), Expectation("", "")):
        assert check(signed, expect=wrong).code is DenyCode.MANIFEST_ID_MISMATCH


def test_age_and_future(signed: Path) -> None:
    aged = policy(accept=Accept(max_age=3600))
    assert check(signed, aged, now=NOW + 3600).ok
    assert check(signed, aged, now=NOW + 3601).code is DenyCode.EXPIRED
    assert check(signed, now=NOW - 299).ok
    assert check(signed, now=NOW - 301).code is DenyCode.EXPIRED


@pytest.mark.parametrize("newest_first", [True, False])
def test_an_old_signature_denies_only_where_its_signer_is_needed(package: Path, newest_first: bool) -> None:
    """A key was rotated, or its holder signed again beside the old line, and the order of lines is not signed."""
    year = 365 * 86_400
    lines: dict[tuple[KeySigner, float], bytes] = {}
    for signer, at in ((KEY, NOW - year), (KEY, NOW), (SECOND, NOW)):
        sign(package, [signer], manifest=built(package) if not lines else None, now=at)
        lines[signer, at] = (package / "manifest.sig").read_bytes().splitlines(keepends=True)[-1]
    aged = Accept(max_age=30 * 86_400)

    def decide(trust: Policy, *chosen: tuple[KeySigner, float]) -> Verdict:
        written = [lines[each] for each in chosen][:: -1 if newest_first else 1]
        (package / "manifest.sig").write_bytes(b"".join(written))
        return check(package, trust)

    again = decide(policy(accept=aged), (KEY, NOW - year), (KEY, NOW))
    assert again.ok, again.message
    rotated = decide(policy(KEY, SECOND, accept=aged), (KEY, NOW - year), (SECOND, NOW))
    assert rotated.verified is not None, rotated.message
    assert [signer.key_id for signer in rotated.verified.signers] == [SECOND.trusted.key_id]
    both = decide(policy(KEY, SECOND, threshold=2, accept=aged), (KEY, NOW - year), (SECOND, NOW))
    assert both.code is DenyCode.EXPIRED
    assert decide(policy(accept=aged), (KEY, NOW - year), (SECOND, NOW)).code is DenyCode.EXPIRED


def test_schemas_and_excludes_are_acceptable_only_by_policy(package: Path) -> None:
    (package / "notes.log").write_text("x")
    manifest = build_manifest(
        package,
        worker_id=WORKER,
        worker_species_id=SPECIES,
        worker_version="1",
        excludes=["*.log", "*.tmp"],
        built_at=NOW,
    )
    assert manifest.excludes == ("*.log",)
    sign(package, [KEY], manifest=manifest, now=NOW)
    assert check(package).ok
    assert check(package, policy(accept=Accept(excludes=False))).code is DenyCode.NOT_ACCEPTABLE
    assert check(package, policy(accept=Accept(schemas=("awp.v1",)))).code is DenyCode.NOT_ACCEPTABLE
    (package / "other.tmp").write_text("x")
    assert check(package).code is DenyCode.HASH_MISMATCH


def test_strict_permissions_are_asked_of_the_policy(signed: Path) -> None:
    strict = policy(accept=Accept(permissions="strict"))
    for path in [signed, *signed.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & ~0o022)
    assert check(signed, strict).ok
    (signed / "code" / "worker_logic.py").chmod(0o666)
    assert check(signed).ok
    assert not check(signed, strict).ok


@pytest.mark.parametrize("field", ["worker_id", "worker_version", "package_hash"])
def test_manifest_and_statement_must_agree(package: Path, field: str) -> None:
    """A signer that lies in its predicate: the bytes are signed, and still the two differ."""
    from wcp_attest.base.digest import sha256_hex
    from wcp_attest.package.statement import Statement

    manifest = built(package)
    write_manifest(package, manifest)
    value = {"worker_id": "org.acme.other", "worker_version": "9", "package_hash": "00" * 32}[field]
    honest = Statement.of(manifest, manifest.to_bytes(), signed_at_utc="2027-01-15T08:00:00Z")
    statement = replace(honest, **{field: value})  # type: ignore[arg-type]
    assert statement.manifest_sha256 == sha256_hex((package / "manifest.json").read_bytes())
    (package / "manifest.sig").write_bytes(KEY.sign(statement.to_bytes()) + b"\n")
    assert check(package).code is DenyCode.MANIFEST_ID_MISMATCH


def test_staging_writes_the_very_bytes_and_only_on_success(signed: Path, tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    assert verify(signed, policy(), now=NOW, stage=stage).ok
    assert check(stage).ok
    assert os.readlink(stage / "link") == "code/run"
    with pytest.raises(ConfigError, match="exists already"):
        verify(signed, policy(), now=NOW, stage=stage)
    (signed / "code" / "run").write_text("#!/bin/evil\n")
    assert not verify(signed, policy(), now=NOW, stage=tmp_path / "second").ok
    assert not (tmp_path / "second").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stage", "worker"], "nothing is left lying about"


class Watch:
    """A ban check that remembers what it was asked, and refuses on demand."""

    def __init__(self, refuse: type[Exception] | None = None) -> None:
        self.refuse, self.facts, self.files = refuse, [], {}  # type: ignore[var-annotated]

    def check_before(self, facts: PackageFacts) -> None:
        self.facts.append(facts)
        if self.refuse:
            raise self.refuse("as told")

    def check_files(self, files: Iterable[tuple[str, str]], algorithm: str) -> None:
        self.files.update(files)
        assert algorithm == "sha256"


def test_bans_are_asked_about_every_package_with_verified_facts(signed: Path) -> None:
    watch = Watch()
    assert verify(signed, policy(), now=NOW, bans=[watch]).ok
    assert watch.facts[0].worker_id == WORKER
    assert watch.facts[0].signers[0].key_id == KEY.trusted.key_id
    assert set(watch.files) == {"code/run", "code/worker_logic.py", "requirements.lock"}


@pytest.mark.parametrize(
    ("refusal", "code"),
    [(Banned, DenyCode.BANNED), (BansUnusable, DenyCode.BANS_UNUSABLE), (OSError, DenyCode.INTERNAL_ERROR)],
)
def test_what_a_ban_check_raises_is_a_denial(signed: Path, refusal: type[Exception], code: DenyCode) -> None:
    assert verify(signed, policy(), now=NOW, bans=[Watch(refusal)]).code is code


def test_bans_are_not_asked_about_what_is_not_signed(signed: Path) -> None:
    (signed / "manifest.sig").unlink()
    watch = Watch()
    assert not verify(signed, policy(), now=NOW, bans=[watch]).ok
    assert watch.facts == []


@pytest.mark.parametrize("problem", [MemoryError(), RecursionError(), ZeroDivisionError(), OSError(5, "input/output")])
def test_whatever_goes_wrong_is_a_denial(problem: Exception) -> None:
    def check() -> Verified:
        raise problem

    verdict = judge(check)
    assert (verdict.ok, verdict.code, verdict.decided) == (False, DenyCode.INTERNAL_ERROR, False)


def test_an_interrupt_is_not_swallowed() -> None:
    def check() -> Verified:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(check)


def test_success_can_only_come_from_verification(signed: Path) -> None:
    verdict = check(signed)
    assert verdict.verified is not None
    with pytest.raises(TypeError):
        replace(verdict.verified, seal=None, namespace="org.other")
    with pytest.raises(TypeError):
        Verdict()


def test_signing_leaves_everything_as_it_was_when_the_directory_is_gone_or_closed(package: Path) -> None:
    manifest = built(package)
    shutil.rmtree(package)
    with pytest.raises(ConfigError):
        sign(package, [KEY], manifest=manifest, now=NOW)


def test_overlapping_entries_count_as_many_signers_as_they_can() -> None:
    """Two keyless signers, of whom the first also fits the only entry of the second."""
    from wcp_attest import SignedBy, SigstoreIdentity
    from wcp_attest.package.statement import Statement
    from wcp_attest.verification import PackageSignature, count_signers

    issuer = "https://issuer.example"
    broad = SigstoreIdentity(issuer, repository="acme/worker")
    narrow = SigstoreIdentity(issuer, repository="acme/worker", ref="refs/tags/*")
    statement = Statement("0a" * 32, WORKER, SPECIES, "1", "1b" * 32, "sha256", "2027-01-15T08:00:00Z")
    first = PackageSignature(SignedBy(identity="https://a", issuer=issuer), (broad, narrow), statement, 0)
    second = PackageSignature(SignedBy(identity="https://b", issuer=issuer), (broad,), statement, 0)
    both = Namespace("org.acme", identities=(broad, narrow), threshold=2)
    assert len(count_signers(both, [first, second])) == 2
    assert len(count_signers(both, [second, first])) == 2
    with pytest.raises(ThresholdNotMet):
        count_signers(both, [first, replace(first)])
