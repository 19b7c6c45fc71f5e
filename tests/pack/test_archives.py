"""Archives: the same bytes again, a round trip by other programs, and forty hostile ones, each refused by name."""

from __future__ import annotations

import gzip
import io
import os
import struct
import subprocess
import tarfile
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from wcp_attest import HmacSecret, Namespace, Policy, attest, sign
from wcp_attest.base.errors import ConfigError, SignatureMissing, TreeMismatch, TreeUnsafe, VerificationError
from wcp_attest.build import build_manifest
from wcp_attest.disk.options import ReadOptions
from wcp_attest.pack import pack, unpack, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = HmacSecret(b"archives are taken apart with care")
POLICY = Policy((Namespace("org.acme", keys=(SECRET,)),))
SUFFIXES = (".tar", ".tar.gz", ".zip")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "worker"
    (root / "code").mkdir(parents=True)
    (root / "code" / "run.py").write_text("print('up')\n")
    (root / "code" / "run.py").chmod(0o755)
    (root / "code" / "ümlaut.md").write_text("é" * 5000)
    (root / "code" / "latest").symlink_to("run.py")
    (root / "empty").mkdir()
    manifest = build_manifest(
        root, worker_id="org.acme.summarizer", worker_species_id="wrk.doc.summarizer", worker_version="1.4.0"
    )
    sign(root, [SECRET], manifest=manifest)
    return root


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_packs_to_the_same_bytes_and_unpacks_to_the_same_tree(package: Path, tmp_path: Path, suffix: str) -> None:
    pack(package, tmp_path / f"one{suffix}")
    os.utime(package / "code" / "run.py", (1, 1))
    pack(package, tmp_path / f"two{suffix}")
    assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()
    verified = unpack(tmp_path / f"one{suffix}", tmp_path / "out", POLICY)
    assert verified.worker_version == "1.4.0"
    assert attest(tmp_path / "out", POLICY) == verified
    assert os.listdir(tmp_path / "out" / "empty") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([f"one{suffix}", f"two{suffix}", "out"])


@pytest.mark.parametrize("members", ["worker", "."], ids=["in one folder", "at the root"])
def test_takes_what_other_programs_pack(package: Path, tmp_path: Path, members: str) -> None:
    above = package.parent if members == "worker" else package
    subprocess.run(["tar", "-czf", tmp_path / "x.tgz", "-C", above, members], check=True)
    assert unpack(tmp_path / "x.tgz", tmp_path / "out", POLICY).worker_id == "org.acme.summarizer"


def test_other_programs_unpack_what_is_packed(package: Path, tmp_path: Path) -> None:
    pack(package, tmp_path / "w.tar.gz")
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xzf", "w.tar.gz", "-C", "out"], cwd=tmp_path, check=True)
    assert attest(tmp_path / "out", POLICY).worker_id == "org.acme.summarizer"


def test_packs_no_tree_that_differs_from_its_manifest(package: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-a", package, tmp_path / "w"], check=True)
    (tmp_path / "w" / "code" / "run.py").write_text("print('changed')\n")
    with pytest.raises(TreeMismatch):
        pack(tmp_path / "w", tmp_path / "w.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


def test_packs_no_unsigned_tree(package: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-a", package, tmp_path / "w"], check=True)
    (tmp_path / "w" / "manifest.sig").unlink()
    with pytest.raises((SignatureMissing, ConfigError)):
        pack(tmp_path / "w", tmp_path / "w.zip")


def test_overwrites_neither_an_archive_nor_a_directory(package: Path, tmp_path: Path) -> None:
    (tmp_path / "w.zip").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        pack(package, tmp_path / "w.zip")
    assert (tmp_path / "w.zip").read_text() == "mine"
    pack(package, tmp_path / "v.zip")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(ConfigError, match="exists already"):
        unpack(tmp_path / "v.zip", tmp_path / "out", POLICY)
    assert os.listdir(tmp_path / "out") == ["mine"]


def test_a_refused_package_leaves_nothing(package: Path, tmp_path: Path) -> None:
    pack(package, tmp_path / "w.tar")
    stranger = Policy((Namespace("org.acme", keys=(HmacSecret(b"another secret of enough length"),)),))
    with pytest.raises(VerificationError):
        unpack(tmp_path / "w.tar", tmp_path / "out", stranger)
    assert [path.name for path in tmp_path.iterdir()] == ["w.tar"]


# Hostile archives: each is written by hand, holds one wrong thing beside a harmless file, and is refused by its name.


Facts = dict[str, Any]


def tar(*members: tuple[str, Facts], tail: bytes = b"", **options: Any) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=options.get("format", tarfile.PAX_FORMAT)) as archive:
        for name, facts in (("fine.txt", {"data": b"fine"}), *members):
            info = tarfile.TarInfo(name)
            data = facts.get("data", b"")
            info.size = len(data)
            for field, value in facts.items():
                if field != "data":
                    setattr(info, field, value)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue() + tail


def zipped(*members: tuple[str, Facts]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, facts in (("fine.txt", {"data": b"fine"}), *members):
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            for field, value in facts.items():
                if field != "data":
                    setattr(info, field, value)
            archive.writestr(info, facts.get("data", b""))
    return out.getvalue()


def link(target: str) -> Facts:
    return {"type": tarfile.SYMTYPE, "linkname": target}


def zip_link(target: bytes) -> Facts:
    return {"external_attr": 0o120777 << 16, "data": target}


def patched(data: bytes, old: bytes, new: bytes, *, count: int = -1) -> bytes:
    assert old in data
    return data.replace(old, new, count)


def checksummed(header: bytes) -> bytes:
    blank = header[:148] + b" " * 8 + header[156:512]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:] + header[512:]


def huge_pax_header() -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 33
    return tar()[:1024] + info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


def overlapping() -> bytes:
    """Two members of the central directory share one place in the file."""
    data = bytearray(zipped(("a.py", {"data": b"A" * 64}), ("b.py", {"data": b"B" * 64})))
    first = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", first + 4)
    third = data.index(b"PK\x01\x02", second + 4)
    data[third + 42 : third + 46] = data[second + 42 : second + 46]
    return bytes(data)


def zip_name_twice_over() -> bytes:
    """The local header and the central directory disagree on a name."""
    data = zipped(("shown.py", {"data": b"x"}))
    return patched(data, b"shown.py", b"other.py", count=1)


def _latin() -> bytes:
    info = tarfile.TarInfo("a\udcffb")
    return tar()[:1024] + info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape") + bytes(1024)


def _pax(headers: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers=headers) as archive:
        archive.addfile(tarfile.TarInfo("shown"))
    return out.getvalue()


def _sparse() -> bytes:
    info = tarfile.TarInfo("hole")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 0
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"77777777777\0"
    return tar()[:1024] + checksummed(bytes(header)) + bytes(1024)


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def _sized(size: int) -> bytes:
    header = bytearray(tar(("x", {}))[1024:])
    header[124:136] = (size & (2**96 - 1)).to_bytes(12, "big")
    return tar()[:1024] + checksummed(bytes(header))


def _at_end(place: int, new: bytes) -> bytes:
    data = zipped()
    at = data.rindex(b"PK\x05\x06") + place
    return data[:at] + new + data[at + len(new) :]


def _commented(comment: bytes) -> bytes:
    return zipped()[:-2] + struct.pack("<H", len(comment)) + comment


def _local(place: int, new: bytes) -> bytes:
    data = zipped()
    return data[:place] + new + data[place + len(new) :]


def _large_end(*, evil: bool = False) -> bytes:
    """A zip with a zip64 end record, as for 65,535 members and more; or with one more that its locator points to."""
    inner = zipped(("evil", {}))
    start, end = inner.index(b"PK\x01\x02"), inner.index(b"PK\x05\x06")

    def record(place: int, length: int, count: int) -> bytes:
        return struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, place)

    hidden = inner + record(30 + len("fine.txt") + 4 + 30 + len("inner") + start, end - start, 2)
    data = zipped(("inner", {"data": hidden}))
    start, end = data.rindex(b"PK\x01\x02"), data.rindex(b"PK\x05\x06")
    start = data.rindex(b"PK\x01\x02", 0, start)
    place = data.index(b"PK\6\6") if evil else end
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, place, 1)
    large = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:end] + record(start, end - start, 2) + locator + large


def _extra(kind: int, value: bytes, *, times: int = 1) -> bytes:
    return zipped(("x", {"extra": times * (struct.pack("<2H", kind, len(value)) + value)}))


def _large() -> bytes:
    """A zip with a zip64 field in the local header that states another packed size than the directory."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive, archive.open("x", "w", force_zip64=True) as member:
        member.write(b"data")
    return patched(stream.getvalue(), struct.pack("<2Q", 4, 4), struct.pack("<2Q", 4, 3), count=1)


def _unlisted(*, last: bool = False) -> bytes:
    """A zip of three members whose directory does not list the second or the last one."""
    data = zipped(("evil", {"data": b"x"}), ("more", {"data": b"y"}))
    start = data.index(b"PK\x01\x02")
    ends = [at for at in range(start, len(data)) if data[at : at + 2] == b"PK"]
    gone = 2 if last else 1
    rows = [data[a:b] for number, (a, b) in enumerate(pairwise(ends)) if number != gone]
    end = struct.pack("<4H2IH", 0, 0, len(rows), len(rows), sum(map(len, rows)), start, 0)
    return data[:start] + b"".join(rows) + b"PK\x05\x06" + end


def _twice() -> bytes:
    with pytest.warns(UserWarning, match="Duplicate"):
        return zipped(("fine.txt", {"data": b"other"}))


def _flagged(flag: int) -> bytes:
    data = bytearray(zipped())
    at = data.index(b"PK\x01\x02")
    data[at + 8 : at + 10] = struct.pack("<H", flag)
    return bytes(data)


def _bomb() -> bytes:
    return zipped(("zeros", {"data": bytes(4 << 20), "compress_type": zipfile.ZIP_DEFLATED}))


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "tar: parent": (lambda: tar(("../evil", {})), "'../evil'"),
    "tar: parent inside": (lambda: tar(("a/../../evil", {})), r"a/\.\./\.\./evil"),
    "tar: absolute": (lambda: tar(("/etc/evil", {})), "'/etc/evil'"),
    "tar: backslash": (lambda: tar(("a\\evil", {})), "backslash"),
    "tar: control character": (lambda: tar(("a\x1b[2Jb", {})), "control"),
    "tar: direction override": (lambda: tar(("a\u202egpj.py", {})), "holds"),
    "tar: name that is not UTF-8": (_latin, "UTF-8"),
    "tar: doubled slash": (lambda: tar(("a//b", {})), "segment"),
    "tar: link out": (lambda: tar(("out", link("../../etc/passwd"))), "'out'"),
    "tar: absolute link": (lambda: tar(("out", link("/etc/passwd"))), "'out'"),
    "tar: file below a link": (lambda: tar(("a", link("fine.txt")), ("a/b", {})), "below 'a'"),
    "tar: file below a file": (lambda: tar(("fine.txt/b", {})), "below 'fine.txt'"),
    "tar: link in the place of a folder": (lambda: tar(("a/b", {}), ("a", link("fine.txt"))), "'a' twice"),
    "tar: the same name twice": (lambda: tar(("fine.txt", {"data": b"other"})), "'fine.txt' twice"),
    "tar: the same name spelled otherwise": (lambda: tar(("./fine.txt", {"data": b"other"})), "'fine.txt' twice"),
    "tar: twin by case": (lambda: tar(("Fine.TXT", {"data": b"other"})), "'Fine.TXT'"),
    "tar: twin by a folder's case": (lambda: tar(("a/x", {}), ("A/y", {})), "'A'"),
    "tar: twin by Unicode form": (lambda: tar(("\u00e9", {}), ("e\u0301", {})), "apart|form"),
    "zip: twin by case": (lambda: zipped(("FINE.txt", {})), "'FINE.txt'"),
    "tar: hard link": (lambda: tar(("h", {"type": tarfile.LNKTYPE, "linkname": "fine.txt"})), "'h'"),
    "tar: hard link out": (lambda: tar(("h", {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"})), "'h'"),
    "tar: FIFO": (lambda: tar(("p", {"type": tarfile.FIFOTYPE})), "'p'"),
    "tar: character device": (lambda: tar(("d", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3})), "'d'"),
    "tar: block device": (lambda: tar(("d", {"type": tarfile.BLKTYPE})), "'d'"),
    "tar: unknown type": (lambda: tar(("v", {"type": b"V"})), "'v'"),
    "tar: set-id": (lambda: tar(("s", {"mode": 0o4755})), "set-id"),
    "tar: cut short in a file": (lambda: tar(("z", {"data": b"z" * 4096}))[:3000], "damaged"),
    "tar: data after the end": (lambda: tar(tail=b"hidden" * 100), "after its end"),
    "tar: second archive behind": (lambda: tar() + tar(("second", {})), "after its end"),
    "tar: broken header in the middle": (lambda: tar()[:1024] + b"\x01" * 512 + tar()[1024:], "after its end"),
    "tar: extended header of 8 GiB": (huge_pax_header, "a header or directory of more than"),
    "tar: sparse file": (_sparse, "'hole'"),
    "tar: name in a header for all members": (lambda: _pax({"path": "other.py"}), "'other.py'.*all members"),
    "tar: size in a header for all members": (lambda: _pax({"size": "4"}), "all members"),
    "tar: link in a header for all members": (lambda: _pax({"linkpath": "other.py"}), "all members"),
    "tar: name of a sparse file for a plain one": (
        lambda: tar(("shown", {"pax_headers": {"GNU.sparse.name": "other.py"}})),
        "'other.py'.*sparse",
    ),
    "tar.gz: bomb": (lambda: gzip.compress(tar(("zeros", {"data": bytes(4 << 20)}))), "expands too far"),
    "tar.gz: damaged": (lambda: _flip(gzip.compress(tar(("z", {"data": os.urandom(5000)}))), 3000), "damaged"),
    "tar.gz: cut short": (lambda: gzip.compress(tar(("z", {"data": os.urandom(5000)})))[:2000], "damaged"),
    "zip: parent": (lambda: zipped(("../evil", {})), "'../evil'"),
    "zip: absolute": (lambda: zipped(("/evil", {})), "'/evil'"),
    "zip: drive": (lambda: zipped(("a\\evil", {})), "backslash"),
    "zip: the same name twice": (_twice, "'fine.txt' twice"),
    "zip: name ends at a NUL": (lambda: patched(zipped(("a.pyXb.txt", {})), b"a.pyXb", b"a.py\0b"), "control"),
    "zip: name in another encoding": (lambda: patched(zipped(("aXb", {})), b"aXb", b"a\x81b"), "UTF-8"),
    "zip: link out": (lambda: zipped(("out", zip_link(b"../../etc"))), "'out'"),
    "zip: link with an endless target": (lambda: zipped(("out", zip_link(b"a/" * 5000))), "'out'"),
    "zip: device": (lambda: zipped(("d", {"external_attr": 0o020666 << 16})), "'d'"),
    "zip: set-id": (lambda: zipped(("s", {"external_attr": 0o104755 << 16})), "'s'"),
    "zip: encrypted": (lambda: _flagged(0x1), "encrypted"),
    "zip: other compression": (lambda: zipped(("b", {"compress_type": zipfile.ZIP_LZMA, "data": b"x"})), "method"),
    "zip: overlap": (overlapping, "overlaps"),
    "zip: two names for one member": (zip_name_twice_over, "damaged"),
    "zip: data before the first member": (lambda: b"PK\x03\x04" + bytes(60) + zipped(), "damaged|belongs to no member"),
    "tar: negative size": (lambda: _sized(-512), "negative size|damaged"),
    "tar: size below every integer": (lambda: _sized(-(2**70)), "negative size|damaged"),
    "zip: data after the end": (lambda: zipped() + b"junk", "end record"),
    "zip: second archive behind": (lambda: zipped() + zipped(("evil", {})), "end record|before it"),
    "zip: end record in the comment": (lambda: _commented(zipped(("evil", {}))[-22:]), "damaged"),
    "zip: end record that counts no member": (lambda: _at_end(8, b"\0\0\0\0"), "end record"),
    "zip: end record of another disk": (lambda: _at_end(4, b"\1\0"), "end record"),
    "zip: end record with another place": (lambda: _at_end(16, b"\xff\xff\xff\x7f"), "damaged"),
    "zip: member that no directory lists": (_unlisted, "belongs to no member"),
    "zip: member before the directory that it does not list": (lambda: _unlisted(last=True), "belongs to no member"),
    "zip: other size in the local header": (lambda: _local(18, b"\7\0\0\0"), "headers of"),
    "zip: other check sum in the local header": (lambda: _local(14, b"\7\0\0\0"), "headers of"),
    "zip: other unpacked size in the local header": (lambda: _local(22, b"\7\0\0\0"), "headers of"),
    "zip: encrypted in the local header only": (lambda: _local(6, b"\1\0"), "headers of"),
    "zip: large size in the local header without its field": (lambda: _local(18, b"\xff\xff\xff\xff"), "headers of"),
    "zip: other size in a zip64 field of the local header": (_large, "headers of"),
    "zip: second name in an extra field": (lambda: _extra(0x7075, b"\1" + bytes(4) + b"other.py"), "a second name"),
    "zip: zip64 field twice": (lambda: _extra(1, bytes(16), times=2), "0x0001 twice"),
    "zip: zip64 end record that the locator does not point to": (lambda: _large_end(evil=True), "end record"),
    "zip: end record that begins inside another": (lambda: _at_end(4, b"PK\5\6"), "end record"),
    "zip: other method in the local header": (lambda: _local(8, b"\10\0"), "headers of"),
    "zip: other name of a folder in the local header": (
        lambda: patched(zipped(("shown/", {"data": b""})), b"shown/", b"other/", count=1),
        "headers of",
    ),
    "zip: wrong check sum": (lambda: patched(zipped(("c", {"data": b"checked"})), b"checked", b"chequed"), "damaged"),
    "zip: bomb": (_bomb, "expands too far"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archive_is_refused_by_name(name: str, tmp_path: Path) -> None:
    make, message = HOSTILE[name]
    (tmp_path / "x").write_bytes(make())
    with (
        pytest.raises(TreeUnsafe, match=message) as refusal,
        unpacked(tmp_path / "x", beside=str(tmp_path), max_bytes=1 << 20),
    ):
        pass
    assert "\n" not in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


class Pipe(io.RawIOBase):
    """A stream that cannot seek: a zip then has the sizes of its members behind their data."""

    def __init__(self) -> None:
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.data += bytes(data)
        return len(data)


def test_reads_zips_of_other_programs(tmp_path: Path) -> None:
    stream = Pipe()
    with zipfile.ZipFile(stream, "w") as archive:  # it cannot seek
        archive.writestr("a", "1" * 1000, zipfile.ZIP_DEFLATED)
        archive.writestr("b/", "")
        archive.writestr("b/\u00e9", "2")
    commented = io.BytesIO()
    with zipfile.ZipFile(commented, "w") as archive:
        archive.comment = b"9fceb02d0ae598e95dc970b74767f19372d61af8"  # as `git archive` writes it
        archive.writestr("a", "1" * 1000)
        with archive.open("b/\u00e9", "w", force_zip64=True) as member:
            member.write(b"2")
    for data in (stream.data, commented.getvalue()):
        (tmp_path / "x").write_bytes(data)
        with unpacked(tmp_path / "x") as folder:
            assert Path(folder, "a").read_text() == "1" * 1000
            assert Path(folder, "b/\u00e9").read_text() == "2"


def test_reads_a_zip_with_a_zip64_end_record(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(_large_end())
    with unpacked(tmp_path / "x") as folder:
        assert sorted(os.listdir(folder)) == ["fine.txt", "inner"]


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"PK", b"\x1f"])
def test_what_is_no_archive_decides_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ConfigError, match="is no archive"), unpacked(tmp_path / "x"):
        pass


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_changed_byte_of_an_archive_is_unpacked_unnoticed(package: Path, tmp_path: Path, suffix: str) -> None:
    pack(package, tmp_path / f"w{suffix}")
    good = (tmp_path / f"w{suffix}").read_bytes()
    expected = unpack(tmp_path / f"w{suffix}", tmp_path / "good", POLICY)
    for at in range(0, len(good), max(1, len(good) // 150)):
        (tmp_path / "bad").write_bytes(_flip(good, at))
        try:
            verified = unpack(tmp_path / "bad", tmp_path / f"out{at}", POLICY)
        except (VerificationError, ConfigError):
            assert not (tmp_path / f"out{at}").exists()
        else:  # a time, an owner or padding changed: what was unpacked is still the package
            assert verified == expected


def test_a_bundle_that_owns_the_name_of_the_manifest_packs_and_unpacks(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text('{"manifest_version": "0.3", "name": "notes", "server": {}}')
    manifest = build_manifest(
        tmp_path / "bundle", worker_id="org.acme.notes", worker_species_id="wrk.mcpb.notes", worker_version="1.0.0"
    )
    sign(tmp_path / "bundle", [SECRET], manifest=manifest)
    pack(tmp_path / "bundle", tmp_path / "notes.mcpb")
    with zipfile.ZipFile(tmp_path / "notes.mcpb") as archive:
        assert sorted(archive.namelist()) == [".wcp/manifest.json", ".wcp/manifest.sig", "manifest.json"]
    assert unpack(tmp_path / "notes.mcpb", tmp_path / "out", POLICY).placement == "folder"


def test_packs_no_tree_whose_paths_differ_only_by_case(tmp_path: Path) -> None:
    root = tmp_path / "worker"
    root.mkdir()
    (root / "README").write_text("a")
    (root / "readme").write_text("b")
    options = ReadOptions(allow_twins=True)
    manifest = build_manifest(
        root, worker_id="org.acme.w", worker_species_id="wrk.doc.w", worker_version="1.4.0", options=options
    )
    sign(root, [SECRET], manifest=manifest, options=options)
    with pytest.raises(TreeUnsafe, match="'README' and 'readme'"):
        pack(root, tmp_path / "w.tar")
    assert not (tmp_path / "w.tar").exists()
