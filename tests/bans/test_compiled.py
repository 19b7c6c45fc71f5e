"""The compiled form: it answers as the list does, is bound to it, and damage is noticed instead of read over."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bans.helpers import EVERY_KIND, HEAD, HEX, ban, by_hand, digest, list_bytes
from tests.drawn import examples
from tests.limits import few_descriptors
from wcp_attest.base.errors import BansUnusable, ConfigError, MachineError
from wcp_attest.trust.bans import compiled as compiled_module
from wcp_attest.trust.bans import list_compiler as compiling
from wcp_attest.trust.bans.ban import Ban, Kind
from wcp_attest.trust.bans.compiled import HEADER_BYTES, RECORD, CompiledBans
from wcp_attest.trust.bans.document import MAX_LIST_BYTES, BanList
from wcp_attest.trust.bans.list_compiler import check_compiled, compile_list
from wcp_attest.trust.bans.lookup import index_list

if TYPE_CHECKING:
    from pathlib import Path

MANY = [ban(kind, digest(number), reason=f"r{number % 7}") for number in range(100) for kind in ("package", "file")]


def compiled(tmp_path: Path, bans: list[Ban] | tuple[Ban, ...] = (*MANY, *EVERY_KIND)) -> Path:
    source, target = tmp_path / "bans.json", tmp_path / "bans.idx"
    source.write_bytes(list_bytes(bans))
    compile_list(str(source), str(target))
    return target


def test_it_answers_exactly_as_the_list_does(tmp_path: Path) -> None:
    listed = BanList.make(HEAD, (*MANY, *EVERY_KIND))
    in_memory = index_list(listed, sha256(listed.to_bytes()).hexdigest())
    with CompiledBans.open(str(compiled(tmp_path))) as on_disk:
        for entry in listed.bans:
            if entry.kind in (Kind.MANIFEST, Kind.PACKAGE, Kind.FILE):
                assert (
                    on_disk.find_digest(entry.kind, entry.subject)
                    == entry
                    == in_memory.find_digest(entry.kind, entry.subject)
                )
        for number in range(1000, 1200):
            for kind in (Kind.MANIFEST, Kind.PACKAGE, Kind.FILE):
                assert on_disk.find_digest(kind, "sha256:" + digest(number)) is None
        assert on_disk.find_digest(Kind.MANIFEST, "sha256:" + digest(1)) is None
        assert sorted(on_disk.others, key=Ban.sort_key) == sorted(in_memory.others, key=Ban.sort_key)
        assert (on_disk.head, on_disk.list_sha256) == (in_memory.head, in_memory.list_sha256)
        assert on_disk.names_files
        assert in_memory.names_files
        on_disk.check_body()


@pytest.mark.parametrize("bans", [(), EVERY_KIND[3:], EVERY_KIND[:1], MANY[:1]])
def test_small_and_empty_lists_compile(tmp_path: Path, bans: tuple[Ban, ...]) -> None:
    with CompiledBans.open(str(compiled(tmp_path, bans))) as on_disk:
        on_disk.check_body()
        assert on_disk.find_digest(Kind.PACKAGE, "sha256:" + digest(5)) is None
        for entry in bans:
            if ":" in entry.subject and entry.kind is not Kind.IDENTITY and entry.kind is not Kind.KEY:
                assert on_disk.find_digest(entry.kind, entry.subject) == entry


def test_the_same_list_compiles_to_the_same_bytes_and_names_it(tmp_path: Path) -> None:
    target = compiled(tmp_path)
    first = target.read_bytes()
    assert compiled(tmp_path).read_bytes() == first
    with CompiledBans.open(str(target)) as on_disk:
        assert on_disk.list_sha256 == sha256((tmp_path / "bans.json").read_bytes()).hexdigest()
    assert target.stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(tmp_path)) == ["bans.idx", "bans.json"]


def test_a_list_laid_out_by_hand_compiles_too_but_is_another_list(tmp_path: Path) -> None:
    target = compiled(tmp_path)
    written = target.read_bytes()
    (tmp_path / "bans.json").write_bytes(by_hand(list_bytes((*MANY, *EVERY_KIND))))
    compile_list(str(tmp_path / "bans.json"), str(target))
    assert target.read_bytes()[HEADER_BYTES:] == written[HEADER_BYTES:]
    assert target.read_bytes()[:HEADER_BYTES] != written[:HEADER_BYTES]


@pytest.fixture
def line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every list counts as one that is too large to be read whole."""
    monkeypatch.setattr(compiling, "MAX_LIST_BYTES", 0)


@pytest.mark.usefixtures("line_by_line")
def test_reading_line_by_line_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streamed = compiled(tmp_path).read_bytes()
    monkeypatch.undo()
    assert compiled(tmp_path).read_bytes() == streamed


def refuses(source: Path, target: Path) -> bool:
    try:
        compile_list(str(source), str(target))
    except BansUnusable:
        return True
    return False


@pytest.mark.usefixtures("line_by_line")
def test_a_large_list_in_another_layout_or_damaged_is_refused(tmp_path: Path) -> None:
    source, target = tmp_path / "bans.json", tmp_path / "bans.idx"
    good = list_bytes((*MANY, *EVERY_KIND))
    lines = good.splitlines(keepends=True)
    bad = {
        "laid out by hand": by_hand(good),
        "not sorted": b"".join([*lines[:7], lines[8], lines[7], *lines[9:]]),
        "one ban twice": b"".join([*lines[:8], *lines[7:]]),
        "a comma too many": good.replace(b"}\n]\n}\n", b"},\n]\n}\n"),
        "a comma missing": good.replace(b"},\n{", b"}\n{", 1),
        "rubbish after it": good + b"x",
        "a digest in upper case": good.replace(lines[8], lines[8].upper()),
        "no end": good[:-2],
        "half a list": good[: len(good) // 2],
        "only the head": b"".join(lines[:7]),
        "nothing": b"",
        "a field unknown": good.replace(b'"source":', b'"sauce":'),
        "another schema": good.replace(b"bans.v1", b"bans.v9"),
        "an endless line": good[:-5] + b"x" * 100_000 + good[-5:],
    }
    for what, data in bad.items():
        source.write_bytes(data)
        assert refuses(source, target), what
    assert os.listdir(tmp_path) == ["bans.json"]


def test_a_failed_compilation_leaves_the_old_form_whole(tmp_path: Path) -> None:
    target = compiled(tmp_path)
    before = target.read_bytes()
    (tmp_path / "bans.json").write_bytes(b"{")
    with pytest.raises(BansUnusable):
        compile_list(str(tmp_path / "bans.json"), str(target))
    assert target.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["bans.idx", "bans.json"]


def test_a_source_or_target_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "bans.json").write_bytes(list_bytes())
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError):
        compile_list(str(tmp_path / "bans.json"), str(tmp_path / "no" / "where"))
    for source in ("absent", "fifo", "."):
        with pytest.raises(ConfigError):
            compile_list(str(tmp_path / source), str(tmp_path / "bans.idx"))


def test_a_file_that_others_could_have_written_is_refused(tmp_path: Path) -> None:
    target = compiled(tmp_path)
    for mode in (0o620, 0o602):
        target.chmod(mode)
        with pytest.raises(BansUnusable, match="written by others"):
            CompiledBans.open(str(target))
    target.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to(target)
    os.mkfifo(tmp_path / "fifo")
    for path in (link, tmp_path / "fifo", tmp_path, tmp_path / "absent"):
        with pytest.raises(BansUnusable):
            CompiledBans.open(str(path))
    if os.geteuid() == 0:
        os.chown(target, 12345, -1)
        with pytest.raises(BansUnusable, match="belongs to user 12345"):
            CompiledBans.open(str(target))


@pytest.mark.parametrize("left", [0, 1])
def test_a_machine_without_descriptors_says_nothing_of_the_list(tmp_path: Path, left: int) -> None:
    target = compiled(tmp_path)
    with few_descriptors(left), pytest.raises(MachineError):
        CompiledBans.open(str(target))
    CompiledBans.open(str(target)).close()


def test_every_length_but_the_right_one_is_refused(tmp_path: Path) -> None:
    target = compiled(tmp_path, MANY[:3])
    good = target.read_bytes()
    for length in [*range(200), *range(HEADER_BYTES - 2, len(good)), len(good) + 1]:
        target.write_bytes(good.ljust(length, b"\0")[:length])
        with pytest.raises(BansUnusable):
            CompiledBans.open(str(target))


def opened(target: Path, *, full: bool) -> None:
    with CompiledBans.open(str(target)) as on_disk:
        if full:
            on_disk.check_body()


def test_every_flipped_byte_is_noticed_by_the_full_check_and_by_opening_where_it_is_in_the_header(
    tmp_path: Path,
) -> None:
    target = compiled(tmp_path, [*MANY[:4], *EVERY_KIND[3:5]])
    good = target.read_bytes()
    padding = 44 + int.from_bytes(good[8:12], "big")
    for at in [*range(padding), *range(HEADER_BYTES, len(good))]:
        target.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(BansUnusable):
            opened(target, full=at >= HEADER_BYTES)


def test_records_out_of_order_are_noticed_where_they_are_touched(tmp_path: Path) -> None:
    target = compiled(tmp_path, [entry for entry in MANY if entry.kind is Kind.PACKAGE])
    good = target.read_bytes()
    body = good[HEADER_BYTES : HEADER_BYTES + 100 * RECORD]
    backwards = b"".join(body[at : at + RECORD] for at in range(99 * RECORD, -RECORD, -RECORD))
    target.write_bytes(good[:HEADER_BYTES] + backwards + good[HEADER_BYTES + 100 * RECORD :])
    with CompiledBans.open(str(target)) as on_disk:
        for number in range(10):
            if number != 50:
                with pytest.raises(BansUnusable, match="out of order"):
                    on_disk.find_digest(Kind.PACKAGE, "sha256:" + digest(number))


def test_details_that_point_nowhere_are_noticed(tmp_path: Path) -> None:
    target = compiled(tmp_path, [ban("package", HEX)])
    good = bytearray(target.read_bytes())
    good[HEADER_BYTES + 32 : HEADER_BYTES + 40] = (1 << 40).to_bytes(8, "big")
    target.write_bytes(good)
    with CompiledBans.open(str(target)) as on_disk, pytest.raises(BansUnusable, match="damaged"):
        on_disk.find_digest(Kind.PACKAGE, "sha256:" + HEX)


@settings(max_examples=examples(40))
@given(st.sets(st.binary(min_size=32, max_size=32), max_size=40), st.lists(st.binary(min_size=32, max_size=32)))
def test_membership_is_exact_for_any_digests(
    tmp_path_factory: pytest.TempPathFactory, members: set[bytes], others: list[bytes]
) -> None:
    target = compiled(tmp_path_factory.mktemp("any"), [ban("file", member.hex()) for member in members])
    with CompiledBans.open(str(target)) as on_disk:
        for key in [*members, *others, bytes(32), b"\xff" * 32]:
            found = on_disk.find_digest(Kind.FILE, "sha256:" + key.hex())
            assert (found is not None) == (key in members)


def with_header(good: bytes, **changes: object) -> bytes:
    """Change the header and make its digest fit again, as nobody but a faulty program would."""
    length = int.from_bytes(good[8:12], "big")
    value = {**json.loads(good[44 : 44 + length]), **changes}
    text = json.dumps(value, separators=(",", ":")).encode()
    head = good[:8] + len(text).to_bytes(4, "big") + sha256(text).digest() + text
    return head.ljust(HEADER_BYTES, b"\0") + good[HEADER_BYTES:]


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": "wcp.bans.compiled.v2"},
        {"list_sha256": "x"},
        {"body_sha256": None},
        {"sections": {}},
        {"sections": [["package", "sha256"]]},
        {"sections": [["colour", "sha256", 3]]},
        {"sections": [["package", "md5", 3]]},
        {"sections": [["package", "sha256", -3]]},
        {"sections": [["package", "sha256", True], ["file", "sha256", 2]]},
        {"sections": [["package", "sha256", 1], ["package", "sha256", 2]]},
        {"details": "1"},
        {"others": 1 << 40},
        {"version": 0},
    ],
)
def test_a_header_that_makes_no_sense_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    target = compiled(tmp_path, [entry for entry in MANY if entry.kind is Kind.PACKAGE][:3])
    good = target.read_bytes()
    target.write_bytes(with_header(good))
    CompiledBans.open(str(target)).close()
    target.write_bytes(with_header(good, **changes))
    with pytest.raises(BansUnusable):
        CompiledBans.open(str(target))


def test_too_many_bans_that_name_no_digest_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = compiled(tmp_path)
    monkeypatch.setattr(compiled_module, "MAX_OTHERS_BYTES", 10)
    with pytest.raises(BansUnusable, match="more than 10 bytes"):
        CompiledBans.open(str(target))
    monkeypatch.setattr(compiling, "MAX_OTHERS_BYTES", 10)
    with pytest.raises(BansUnusable, match="more than 10 bytes"):
        compile_list(str(tmp_path / "bans.json"), str(target))


def test_the_details_kept_are_bounded_and_never_mixed_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_module, "MAX_KNOWN", 2)
    with CompiledBans.open(str(compiled(tmp_path))) as on_disk:
        for _ in range(2):
            for entry in MANY:
                assert on_disk.find_digest(entry.kind, entry.subject) == entry


def test_a_file_named_by_another_hash_does_not_slip_in_behind_its_like(tmp_path: Path) -> None:
    listed = list_bytes([ban("file", digest(1))])
    line = next(line for line in listed.splitlines() if b'"file"' in line)
    other = line.replace(b"sha256:", b"blake3:", 1)
    for data in (listed.replace(line, other + b",\n" + line), listed.replace(line, line + b",\n" + other)):
        (tmp_path / "bans.json").write_bytes(data)
        for limit in (MAX_LIST_BYTES, 0):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(compiling, "MAX_LIST_BYTES", limit)
                assert refuses(tmp_path / "bans.json", tmp_path / "bans.idx")


def test_check_compares_with_the_list_as_it_is(tmp_path: Path) -> None:
    source, target = tmp_path / "bans.json", compiled(tmp_path)
    check_compiled(str(source), str(target))
    good = target.read_bytes()
    for at in (HEADER_BYTES + 3, len(good) - 30):
        target.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(BansUnusable):
            check_compiled(str(source), str(target))
    target.write_bytes(good)
    source.write_bytes(list_bytes(()))
    with pytest.raises(BansUnusable, match="not made from"):
        check_compiled(str(source), str(target))
    source.unlink()
    with pytest.raises(ConfigError):
        check_compiled(str(source), str(target))
