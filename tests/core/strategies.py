"""What the property tests of the core draw from: paths, entries, manifests that are valid by construction."""

from __future__ import annotations

from hypothesis import strategies as st

from wcp_attest.base.characters import refused_character
from wcp_attest.base.digest import ALGORITHMS, HashAlgorithm
from wcp_attest.base.identity import format_utc
from wcp_attest.package.entries import EmptyDirectory, Entry, File, Symlink, path_problem, render_line, target_problem
from wcp_attest.package.manifest import Manifest, hash_of
from wcp_attest.package.provenance import AiOrigin, SourceOrigin

_SEGMENT = st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789")
_TAIL = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", max_size=8)
_SEGMENTS = st.builds(lambda first, tail: first + tail, _SEGMENT, _TAIL)

worker_ids = st.builds(
    lambda authority, rest: ".".join([authority, *rest]),
    st.sampled_from(["org", "x"]),
    st.lists(_SEGMENTS, min_size=2, max_size=5),
)
species_ids = st.builds(".".join, st.lists(_SEGMENTS, min_size=2, max_size=6))
versions = st.from_regex(r"\A[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}\Z")
times = st.integers(0, 253_402_300_799)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Zl", "Zp"]), min_size=1, max_size=20
).filter(lambda text: refused_character(text) is None)  # a part of what is allowed

_NAMES = st.one_of(
    st.text('ab.-"_ é\U0001f600,:{}', min_size=1, max_size=6),
    st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc", "Cf"], exclude_characters="/\\"), min_size=1, max_size=9
    ),
)
paths = st.builds("/".join, st.lists(_NAMES, min_size=1, max_size=4)).filter(lambda path: path_problem(path) is None)
files = st.builds(File, digests, st.integers(0, 2**53 - 1), st.booleans())
algorithms: st.SearchStrategy[HashAlgorithm] = st.sampled_from(ALGORITHMS)
links = st.builds(Symlink, paths)
entries = st.one_of(files, links, st.just(EmptyDirectory()))


@st.composite
def entry_maps(draw: st.DrawFn) -> dict[str, Entry]:
    """Entries in byte order, none inside another."""
    drawn = draw(st.dictionaries(paths, entries, min_size=1, max_size=6))
    kept: dict[str, Entry] = {}
    for path in sorted(drawn, key=str.encode):
        entry = drawn[path]
        parents = ["/".join(path.split("/")[:depth]) for depth in range(1, path.count("/") + 1)]
        if any(parent in kept for parent in parents):
            continue
        if isinstance(entry, Symlink) and target_problem(path, entry.target):
            entry = EmptyDirectory()
        kept[path] = entry
    return kept


_AI = st.none() | st.builds(AiOrigin, st.booleans(), st.none() | texts, st.none() | texts, st.none() | texts)
_COMMITS = st.binary(min_size=20, max_size=20).map(bytes.hex) | digests
_SOURCE = (
    st.none() | st.builds(SourceOrigin, texts, st.none() | _COMMITS) | st.builds(SourceOrigin, st.none(), _COMMITS)
)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """A manifest whose entries and package hash fit together."""
    listed = draw(entry_maps())
    algorithm = draw(algorithms)
    return Manifest(
        worker_id=draw(worker_ids),
        worker_species_id=draw(species_ids),
        worker_version=draw(versions),
        built_at_utc=format_utc(draw(times)),
        build_source=draw(st.sampled_from(["local", "ci", "agent"])),
        package_hash=hash_of(listed, algorithm),
        body=b",\n".join(render_line(path, entry, algorithm) for path, entry in listed.items()),
        hash_algorithm=algorithm,
        excludes=tuple(draw(st.lists(texts, unique=True, max_size=3))),
        ai=draw(_AI),
        source=draw(_SOURCE),
    )
