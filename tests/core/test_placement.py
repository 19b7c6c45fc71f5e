"""Where the pair lies: beside, in `.wcp/`, or outside; and every way of making a reader take another pair."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.core.test_verification import KEY, NOW, SPECIES, STRANGER, WORKER, make_tree, policy
from wcp_attest import ConfigError, DenyCode, Policy, ReadOptions, Recheck, Verdict, build_manifest, verify
from wcp_attest.build import output_place
from wcp_attest.disk.placement import PAIR_NAMES, Placement, choose_place, find_place
from wcp_attest.package.statement import Statement

if TYPE_CHECKING:
    from wcp_attest import KeySigner

FOREIGN = b'{"manifest_version": 3, "name": "an extension"}\n'


def put_pair(package: Path, placement: Placement, signer: KeySigner = KEY, into: Path | None = None) -> Path:
    """Sign a tree by hand, with the pair at any place."""
    folder = into or {"beside": package, "folder": package / ".wcp"}[placement]
    manifest = build_manifest(
        package,
        worker_id=WORKER,
        worker_species_id=SPECIES,
        worker_version="1.4.0",
        built_at=NOW - 10,
        options=ReadOptions(placement=placement),
    )
    data = manifest.to_bytes()
    line = signer.sign(Statement.of(manifest, data, signed_at_utc="2027-01-15T08:00:00Z").to_bytes())
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_bytes(data)
    (folder / "manifest.sig").write_bytes(line + b"\n")
    return folder


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "worker")


def check(package: Path, trust: Policy | None = None, attestation: Path | None = None) -> Verdict:
    return verify(package, trust or policy(), now=NOW, attestation=attestation)


def place_of(verdict: Verdict) -> str:
    assert verdict.verified is not None, verdict.message
    return verdict.verified.placement


def test_reads_each_placement_and_says_which(package: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    put_pair(package, "detached", into=outside)
    assert place_of(check(package, attestation=outside)) == "detached"
    put_pair(package, "beside")
    assert place_of(check(package)) == "beside"
    for name in PAIR_NAMES:
        (package / name).unlink()
    (package / "manifest.json").write_bytes(FOREIGN)
    put_pair(package, "folder")
    assert place_of(check(package)) == "folder"
    (package / "manifest.json").write_bytes(FOREIGN + b" ")
    verdict = check(package)
    assert [difference.path for difference in verdict.differences] == ["manifest.json"]


@pytest.mark.parametrize("placement", ["beside", "folder", "detached"])
def test_recheck_and_the_quick_look_know_the_placement(placement: Placement, package: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    folder = put_pair(package, placement, into=outside if placement == "detached" else None)
    again = Recheck(package, policy(), attestation=outside if placement == "detached" else None)
    for _ in range(3):
        assert place_of(again.verify(now=NOW)) == placement
    (folder / "more").write_text("")
    assert again.verify(now=NOW).ok is (placement == "detached")
    (folder / "more").unlink()
    assert again.verify(now=NOW).ok
    (package / "added").write_text("")
    assert again.verify(now=NOW).code is DenyCode.HASH_MISMATCH


def test_refuses_a_second_pair_of_a_stranger_in_the_folder(package: Path) -> None:
    put_pair(package, "beside")
    (package / ".wcp").mkdir()
    assert check(package).code is DenyCode.HASH_MISMATCH, "an empty folder is an entry that nobody listed"
    (package / ".wcp").rmdir()
    put_pair(package, "folder", STRANGER)
    assert check(package).code is DenyCode.SIGNER_UNTRUSTED


@pytest.mark.parametrize("name", PAIR_NAMES)
def test_refuses_half_a_second_pair(name: str, package: Path) -> None:
    put_pair(package, "beside")
    (package / ".wcp").mkdir()
    shutil.copy(package / name, package / ".wcp" / name)
    assert not check(package).ok
    for each in PAIR_NAMES:
        (package / ".wcp" / each).unlink(missing_ok=True)
    (package / ".wcp").rmdir()
    assert check(package).ok


def test_refuses_a_pair_added_in_the_root(package: Path) -> None:
    put_pair(package, "folder")
    for name in PAIR_NAMES:
        shutil.copy(package / ".wcp" / name, package / name)
        assert check(package).code is DenyCode.HASH_MISMATCH
    put_pair(package, "beside", STRANGER)
    assert check(package).code is DenyCode.HASH_MISMATCH


def test_a_pair_that_is_moved_is_a_pair_of_the_same_files_or_refused(package: Path, tmp_path: Path) -> None:
    put_pair(package, "beside")
    (package / ".wcp").mkdir()
    for name in PAIR_NAMES:
        (package / name).rename(package / ".wcp" / name)
    assert place_of(check(package)) == "folder", "the same files, signed by the same signer"
    (package / "manifest.json").write_bytes(FOREIGN)
    assert check(package).code is DenyCode.HASH_MISMATCH
    (package / "manifest.json").unlink()
    outside = tmp_path / "outside"
    (package / ".wcp").rename(outside)
    assert check(package).code is DenyCode.MANIFEST_MISSING
    assert place_of(check(package, attestation=outside)) == "detached"


def test_refuses_a_foreign_file_that_is_replaced_by_a_pair(package: Path) -> None:
    (package / "manifest.json").write_bytes(FOREIGN)
    put_pair(package, "folder")
    put_pair(package, "beside", STRANGER)
    assert check(package).code is DenyCode.HASH_MISMATCH


def test_an_older_pair_left_behind_is_no_way_back(package: Path) -> None:
    put_pair(package, "beside")
    old = {name: (package / name).read_bytes() for name in PAIR_NAMES}
    (package / "code" / "run").write_text("#!/bin/sh\nnew\n")
    put_pair(package, "folder")
    assert check(package).ok
    (package / ".wcp" / "manifest.sig").unlink()
    assert not check(package).ok, "without the signature, the root's older pair is read, which is of another tree"
    assert old == {name: (package / name).read_bytes() for name in PAIR_NAMES}


def test_a_nested_folder_is_an_ordinary_directory(package: Path) -> None:
    put_pair(package, "beside")
    nested = package / "code" / ".wcp"
    nested.mkdir()
    shutil.copy(package / "manifest.sig", nested / "manifest.sig")
    shutil.copy(package / "manifest.json", nested / "manifest.json")
    assert sorted(each.path for each in check(package).differences) == [
        "code/.wcp/manifest.json",
        "code/.wcp/manifest.sig",
    ]
    put_pair(package, "beside")
    assert check(package).ok


def test_refuses_links_at_the_folder_and_in_it(package: Path, tmp_path: Path) -> None:
    put_pair(package, "folder")
    outside = tmp_path / "outside"
    (package / ".wcp").rename(outside)
    (package / ".wcp").symlink_to(outside)
    assert not check(package).ok
    (package / ".wcp").unlink()
    (package / ".wcp").mkdir()
    for name in PAIR_NAMES:
        for other in PAIR_NAMES:
            (package / ".wcp" / other).unlink(missing_ok=True)
            if other == name:
                (package / ".wcp" / other).symlink_to(outside / other)
            else:
                shutil.copy(outside / other, package / ".wcp" / other)
        assert not check(package).ok
    (package / ".wcp" / "manifest.json").unlink()
    (package / ".wcp" / "manifest.sig").unlink()
    os.mkfifo(package / ".wcp" / "manifest.sig")
    assert not check(package).ok


def test_what_lies_beside_the_pair_in_the_folder_is_an_entry(package: Path) -> None:
    (package / ".wcp").mkdir()
    (package / ".wcp" / "notes.txt").write_text("covered")
    put_pair(package, "folder")
    assert check(package).ok
    (package / ".wcp" / "notes.txt").write_text("changed")
    assert [difference.path for difference in check(package).differences] == [".wcp/notes.txt"]


def test_a_detached_directory_lies_outside_and_is_one(package: Path, tmp_path: Path) -> None:
    put_pair(package, "beside")
    for inside in (package, package / "code", package / "code" / ".."):
        with pytest.raises(ConfigError, match="inside the package"):
            check(package, attestation=inside)
    for missing in (tmp_path / "none", package / "manifest.json"):
        with pytest.raises(ConfigError, match="is not a directory"):
            check(package, attestation=missing)


def test_writes_no_detached_pair_into_a_directory_without_a_name(package: Path) -> None:
    with pytest.raises(ConfigError, match="an empty text"):
        output_place(package, attestation="")  # such as an unset variable of a script


def test_a_detached_pair_covers_the_pair_inside(package: Path, tmp_path: Path) -> None:
    put_pair(package, "beside", STRANGER)
    outside = tmp_path / "outside"
    put_pair(package, "detached", into=outside)
    assert check(package, attestation=outside).ok
    assert check(package, policy(STRANGER)).ok
    (package / "manifest.sig").write_bytes(b"")
    assert [each.path for each in check(package, attestation=outside).differences] == ["manifest.sig"]


def test_a_detached_pair_without_signatures_is_refused(package: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    put_pair(package, "detached", into=outside)
    (outside / "manifest.sig").unlink()
    assert check(package, attestation=outside).code is DenyCode.SIGNATURE_MISSING


def test_a_read_only_package_verifies_with_a_detached_pair(package: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    put_pair(package, "detached", into=outside)
    for folder, _, _ in os.walk(package, topdown=False):
        Path(folder).chmod(0o555)
    try:
        assert check(package, attestation=outside).ok
    finally:
        for folder, _, _ in os.walk(package):
            Path(folder).chmod(0o755)


@pytest.mark.parametrize("placement", ["beside", "folder", "detached"])
def test_a_stage_verifies_as_the_package_does(placement: Placement, package: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside" if placement == "detached" else None
    put_pair(package, placement, into=outside)
    stage = tmp_path / "stage"
    assert verify(package, policy(), now=NOW, stage=stage, attestation=outside).ok
    assert place_of(check(stage, attestation=outside)) == placement


def is_ours(name: str, path: str) -> bool:
    del name
    return not Path(path).is_symlink() and Path(path).read_bytes() != FOREIGN


def test_a_pair_goes_where_it_hurts_nobody(package: Path, tmp_path: Path) -> None:
    def chosen(**wishes: object) -> str:
        return choose_place(str(package), is_ours=is_ours, **wishes).placement  # type: ignore[arg-type]

    assert chosen() == "beside"
    assert chosen(wanted="folder") == "folder"
    (package / "manifest.json").write_bytes(FOREIGN)
    assert chosen() == "folder"
    (package / "manifest.json").unlink()
    (package / "manifest.sig").symlink_to("code/run")
    assert chosen() == "folder"
    (package / "manifest.sig").unlink()
    assert chosen(attestation=str(tmp_path / "outside")) == "detached"
    for wrong in ({"wanted": "detached"}, {"wanted": "folder", "attestation": "x"}, {"attestation": str(package)}):
        with pytest.raises(ConfigError):
            chosen(**wrong)
    put_pair(package, "folder")
    assert (chosen(), find_place(str(package)).placement) == ("folder", "folder")
    with pytest.raises(ConfigError, match="would be read first"):
        chosen(wanted="beside")
    (package / "manifest.json").write_bytes(b"one of ours")
    with pytest.raises(ConfigError, match="older manifest"):
        chosen()
