"""An entry has one line, a path one meaning, and a link stays inside."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.strategies import algorithms, digests, entries, paths
from wcp_attest.base.errors import ManifestMalformed
from wcp_attest.package.entries import (
    SEPARATOR,
    EmptyDirectory,
    Entry,
    File,
    Symlink,
    parse_line,
    parse_lines,
    path_problem,
    render_line,
    target_problem,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wcp_attest.base.digest import HashAlgorithm

DIGEST = "0123456789abcdef" * 4
LINE = b'"a": {"sha256":"' + DIGEST.encode() + b'","size":612,"executable":true}'


@given(paths, entries, algorithms)
def test_lines_round_trip(path: str, entry: Entry, algorithm: HashAlgorithm) -> None:
    if isinstance(entry, Symlink) and target_problem(path, entry.target):
        return
    line = render_line(path, entry, algorithm)
    assert parse_line(line, algorithm) == (path, entry)


@given(paths, entries, st.integers(0), st.integers(1, 255))
def test_a_flipped_byte_is_malformed_or_another_entry(path: str, entry: Entry, position: int, mask: int) -> None:
    line = render_line(path, entry, "sha256")
    flipped = bytearray(line)
    flipped[position % len(line)] ^= mask
    try:
        other_path, other = parse_line(bytes(flipped), "sha256")
    except ManifestMalformed:
        return
    assert (other_path, other) != (path, entry)
    assert render_line(other_path, other, "sha256") == bytes(flipped)


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace")))
def test_no_bytes_escape_the_error_tree(line: bytes) -> None:
    try:
        path, entry = parse_line(line, "sha256")
    except ManifestMalformed:
        return
    assert render_line(path, entry, "sha256") == line


_PLAIN = st.builds(
    lambda path, digest, size, mode: b'"%s": {"sha256":"%s","size":%d%s}' % (path, digest.encode(), size, mode),
    st.text("ab/. ~\\", max_size=6).map(str.encode) | st.integers(250, 260).map(lambda length: b"n" * length),
    digests | digests.map(lambda digest: digest.replace("a", "A")),
    st.integers(0, 2**53 - 1) | st.integers(0, 10**17),
    st.sampled_from([b"", b',"executable":true']),
)
_RENDERED = st.builds(render_line, paths, entries, algorithms)
_BREAKS = st.sampled_from([b"\n", SEPARATOR, b",", b"\r\n"])
_CUT = st.builds(lambda line, at, put: line[:at] + put + line[at:], _PLAIN, st.integers(0, 300), _BREAKS)
_ODD = st.binary(max_size=9) | _CUT | st.builds(lambda one, put, other: one + put + other, _PLAIN, _BREAKS, _PLAIN)


@given(st.lists(_PLAIN | _RENDERED, max_size=5), st.lists(_ODD, max_size=1), st.integers(0, 5))
def test_many_lines_are_read_as_each_alone(lines: list[bytes], odd: list[bytes], place: int) -> None:
    lines[place:place] = odd

    def outcome(read: Callable[[], Iterable[tuple[str, Entry]]]) -> list[tuple[str, Entry]] | str:
        try:
            return list(read())
        except ManifestMalformed as refusal:
            return str(refusal)

    body = SEPARATOR.join(lines)
    each = outcome(lambda: (parse_line(line, "sha256") for line in body.split(SEPARATOR)))
    assert outcome(lambda: zip(*parse_lines(body, "sha256"), strict=True)) == each


@pytest.mark.parametrize(
    "bad",
    [
        LINE.replace(b'"a"', b'"a/./b"'),
        LINE.replace(b'"a"', b'"a/../b"'),
        LINE.replace(b'"a"', b'"./b"'),
        LINE.replace(b'"a"', b'".."'),
        LINE.replace(b'"a"', b'"a//b"'),
        LINE.replace(b'"a"', b'"a/"'),
        LINE.replace(b"612", b"9007199254740992"),
        LINE.replace(b"612", b"00"),
        LINE.replace(b"0123", b"012A"),
        LINE.replace(b"0123", b"012\xe9"),
        b"x" + LINE,
        LINE + b"x",
        LINE + b"\n" + LINE,
        LINE + b",",
        b'"x\n' + LINE,
        b"",
    ],
)
def test_one_bad_line_among_plain_ones_is_refused_as_it_is_alone(bad: bytes) -> None:
    with pytest.raises(ManifestMalformed) as alone:
        parse_line(bad, "sha256")
    with pytest.raises(ManifestMalformed) as among:
        parse_lines(SEPARATOR.join([LINE, bad, LINE]), "sha256")
    assert str(among.value) == str(alone.value)


def test_odd_lines_among_plain_ones_keep_their_places() -> None:
    listed: dict[str, Entry] = {
        "a": File(DIGEST, 1),
        "b": Symlink("a"),
        "c": EmptyDirectory(),
        "d": File(DIGEST, 2, executable=True),
        "é": File(DIGEST, 3),
    }
    body = SEPARATOR.join(render_line(*item, "sha256") for item in listed.items())
    assert parse_lines(body, "sha256") == (list(listed), list(listed.values()))


def test_the_lines_of_each_kind() -> None:
    assert render_line("a", File(DIGEST, 612, executable=True), "sha256") == LINE
    assert render_line('q"q', File(DIGEST, 0), "blake3") == b'"q\\"q": {"blake3":"%s","size":0}' % DIGEST.encode()
    assert render_line("l", Symlink("x/y"), "sha256") == b'"l": {"symlink":"x/y"}'
    assert render_line("é", EmptyDirectory(), "sha256") == '"é": {"directory":true}'.encode()


@given(digests, st.integers(0, 2**53 - 1))
def test_a_line_takes_110_bytes_beyond_its_path_at_most_without_the_mode(digest: str, size: int) -> None:
    assert len(render_line("p", File(digest, size), "sha256")) - 1 <= 110
    assert len(render_line("p", File(digest, size, executable=True), "sha256")) - 1 <= 130


@pytest.mark.parametrize(
    "line",
    [
        b"",
        LINE + b"\n",
        b" " + LINE,
        LINE.replace(b": {", b":{"),
        LINE.replace(b'","size', b'", "size'),
        LINE.replace(b"0123", b"012G"),
        LINE.replace(b"0123", b"012A"),
        LINE.replace(b"abcdef", b"ABCDEF"),
        LINE.replace(b"0123", b"123", 1),
        LINE.replace(b"sha256", b"sha512"),
        LINE.replace(b"sha256", b"blake3"),
        LINE.replace(b"612", b"-1"),
        LINE.replace(b"612", b"0612"),
        LINE.replace(b"612", b"6.0"),
        LINE.replace(b"612", b"6e2"),
        LINE.replace(b"612", b'"612"'),
        LINE.replace(b"612", b"9007199254740992"),
        LINE.replace(b"612", b"9" * 40),
        LINE.replace(b"true", b"false"),
        LINE.replace(b'"executable":true', b'"executable":true,"executable":true'),
        LINE.replace(b"}", b',"mode":420}'),
        b'"a": {"directory":false}',
        b'"a": {}',
        b'"a": {"symlink":""}',
        b'"a": {"symlink":"/etc/passwd"}',
        b'"a": {"symlink":"../x"}',
        b'"a": {"symlink":"x","size":1}',
        b'"": {"directory":true}',
        b'"\\u0061": {"directory":true}',
        b'"a\\/b": {"directory":true}',
        b'"a\\\\b": {"directory":true}',
        b'"a\xff": {"directory":true}',
        b'"a\xed\xa0\x80": {"directory":true}',
        b'"a": {"symlink":"\xff"}',
        b'"' + b"a/" * 80_000 + b'a": {"directory":true}',
        b'"' + b"x" * (1 << 20) + b'": {"directory":true}',
    ],
)
def test_any_other_spelling_is_malformed(line: bytes) -> None:
    with pytest.raises(ManifestMalformed) as refusal:
        parse_line(line, "sha256")
    assert len(str(refusal.value)) < 1000
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "/",
        "/etc/passwd",
        "a/",
        "a//b",
        "./a",
        "a/.",
        "a/..",
        "../a",
        "a/../b",
        "a/./b",
        "a\\b",
        "C:\\x",
        "a\nb",
        "a\rb",
        "a\tb",
        "a\x00b",
        "a\x1b[2Jb",
        "a\x7f",
        "a\x85b",
        "a\u202eb",
        "a\u2066b",
        "a\u2028b",
        "a\u200eb",
        "a\ufeffb",
        "a\ud800b",
        "/".join("d" * 201),
        "n" * 256,
        "é" * 128,
        "ok/" + "n" * 256 + "/ok",
    ],
)
def test_paths_that_could_mean_something_else_are_refused(path: str) -> None:
    assert path_problem(path) is not None


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "...",
        "..a",
        "a..",
        ".a",
        "a/...",
        " ",
        "a b",
        "manifest.json",
        "a/manifest.json",
        "é",
        "e\u0301",
        "😀",
        "~",
        "-rf",
        "$(x)",
        '"',
        "'",
        "a:b",
        "n" * 255,
        "/".join("d" * 200),
        "CON",
        "a.",
    ],
)
def test_odd_but_unambiguous_paths_are_taken(path: str) -> None:
    assert path_problem(path) is None
    assert parse_line(render_line(path, EmptyDirectory(), "sha256"), "sha256") == (path, EmptyDirectory())


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("a", "b"),
        ("a", "b/c"),
        ("a", "."),
        ("a", "./b"),
        ("a", "b/"),
        ("d/a", ".."),
        ("d/a", "../b"),
        ("d/e/a", "../../b"),
        ("a", "..."),
        ("a", "missing"),
    ],
)
def test_targets_inside_the_package_are_taken(path: str, target: str) -> None:
    assert target_problem(path, target) is None


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("a", ""),
        ("a", "/"),
        ("a", "/etc/passwd"),
        ("a", ".."),
        ("a", "../b"),
        ("d/a", "../../b"),
        ("a", "b/../../c"),
        ("a", "b/.."),
        ("a", "./../b"),
        ("a", "b//c"),
        ("a", "b\\c"),
        ("a", "b\nc"),
        ("a", "\ud800"),
        ("a", "x" * 4097),
    ],
)
def test_targets_that_leave_or_could_leave_are_refused(path: str, target: str) -> None:
    assert target_problem(path, target) is not None


_DIRECTORIES = ["", "d/", "d/e/"]
_TARGETS = st.builds(
    "/".join, st.lists(st.sampled_from(["..", ".", "d", "e", "l0", "l1", "l2", "f"]), min_size=1, max_size=5)
)


@given(st.lists(st.tuples(st.sampled_from(_DIRECTORIES), _TARGETS), min_size=1, max_size=3))
def test_links_that_are_taken_stay_inside_even_through_each_other(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[str, str]]
) -> None:
    root = tmp_path_factory.mktemp("links") / "root"
    (root / "d" / "e").mkdir(parents=True)
    for number, (directory, target) in enumerate(drawn):
        path = f"{directory}l{number}"
        if target_problem(path, target) is None:
            os.symlink(target, root / path)
    for link in root.rglob("l*"):
        if link.is_symlink():
            real = Path(os.path.realpath(link))
            assert real.is_relative_to(os.path.realpath(root))
