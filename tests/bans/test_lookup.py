"""Who is hit: every kind of subject, most specific first, the same in memory and compiled."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bans.helpers import HEAD, ban, digest, facts, list_bytes
from wcp_attest.base.errors import Banned, BansUnusable, ConfigError
from wcp_attest.signing import SignedBy
from wcp_attest.signing.sigstore.bundle import signer_of
from wcp_attest.signing.sigstore.signer_identity import CertificateClaims
from wcp_attest.trust.bans.ban_check import Bans
from wcp_attest.trust.bans.compiled import CompiledBans
from wcp_attest.trust.bans.document import BanList
from wcp_attest.trust.bans.feeds import VerifiedList
from wcp_attest.trust.bans.list_compiler import compile_list
from wcp_attest.trust.bans.lookup import index_list

if TYPE_CHECKING:
    from pathlib import Path

    from wcp_attest.trust.bans.ban import Ban

WORKFLOW = "https://github.com/acme/worker/.github/workflows/release.yml@refs/tags/v1"
GITHUB = "https://token.actions.githubusercontent.com"
KEYLESS = SignedBy(identity=WORKFLOW, issuer=GITHUB, repository="https://github.com/acme/worker")
# What a forge takes for one repository.
SPELLINGS = (
    "https://github.com/Acme/Worker",
    "https://github.com/acme/worker.git",
    "https://github.com/acme/worker/",
    "https://github.com/acme/worker.git/",
    "https://github.com/acme/worker/*",
    "http://github.com/acme/worker",
    "HTTPS://GitHub.COM/acme/worker",
    "https://github.com:443/acme/worker",
    "https://github.com:0443/acme/worker",
    "https://github.com:/acme/worker.git",
    "http://github.com:80/acme/worker",
    "http://GitHub.com:443/acme/worker/",
    "https://github.com./acme/worker",
    "https://www.github.com/acme/worker/*",
    "https://github.com/%61cme/worker",
    "https://github.com/Acme/*",
)
# Beginnings of what a certificate names below a repository: a workflow at some refs, any workflow, any run.
BELOW = (
    "https://github.com/acme/worker/.github/workflows/release.yml@refs/tags/*",
    "https://github.com/acme/worker/.github/workflows/release.yml@refs/tags//*",
    "https://github.com/acme/worker/.github/workflows/release.yml@*",
    "https://github.com/Acme/Worker/.github/workflows/*",
    "https://github.com/acme/worker/.github*",
)
STRANGE = signer_of(
    CertificateClaims(
        issuer=GITHUB,
        san="spiffe://acme.example/builder",
        source_repository_uri="https://github.com/other/caller",
        build_config_uri="https://github.com/ACME/Worker/.github/workflows/sign.yml@refs/tags/v1",
    )
)
SHARED = signer_of(
    CertificateClaims(
        issuer=GITHUB,
        san="https://github.com/shared/ci/.github/workflows/sign.yml@refs/heads/main",
        source_repository_uri="https://github.com/acme/worker",
    )
)
GITLAB = signer_of(
    CertificateClaims(
        issuer="https://gitlab.example",
        san="https://gitlab.example/Acme/Tools/Worker//.gitlab-ci.yml@refs/heads/main",
    )
)


@pytest.fixture(params=["in memory", "compiled"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    def in_memory(*bans: Ban) -> Bans:
        listed = BanList.make(HEAD, bans)
        return Bans([VerifiedList("x", index_list(listed, sha256(listed.to_bytes()).hexdigest()))])

    def compiled(*bans: Ban) -> Bans:
        (tmp_path / "bans.json").write_bytes(list_bytes(bans))
        compile_list(str(tmp_path / "bans.json"), str(tmp_path / "bans.idx"))
        return Bans([VerifiedList("x", CompiledBans.open(str(tmp_path / "bans.idx")))])

    return in_memory if request.param == "in memory" else compiled


WORKFLOWS = "https://github.com/acme/worker/.github/workflows"
SPACED = SignedBy(identity=f"{WORKFLOWS}/Build%20it.yml@refs/tags/v1", issuer=GITHUB)
UMLAUT = SignedBy(identity=f"{WORKFLOWS}/gr%C3%B6%C3%9Fe.yml@refs/tags/v1", issuer=GITHUB)
HITS: list[tuple[Ban, dict[str, Any]]] = [
    (ban("manifest", digest(1)), {}),
    (ban("package", digest(2)), {}),
    (ban("package", "blake3:" + digest(2)), {"hash_algorithm": "blake3"}),
    (ban("worker", "org.acme.summarizer"), {}),
    (ban("worker", "org.acme.summarizer", versions=">=1.2,<1.5"), {}),
    (ban("worker", "org.acme.summarizer"), {"worker_id": "org.acme.summarizer.prod-01"}),
    (ban("worker", "org.acme.summarizer", versions="<2"), {"worker_id": "org.acme.summarizer.prod-01.eu"}),
    (ban("worker", "org.acme.summarizer", versions="==1.3"), {"worker_version": "V1.3"}),
    (ban("worker", "org.acme.summarizer", versions="==spring"), {"worker_version": "Spring"}),
    (ban("worker", "org.acme.summarizer", versions=">=9"), {"worker_version": "spring"}),
    (ban("key", digest(3)), {}),
    (ban("key", "hmac-sha256:0123456789abcdef"), {"signers": (SignedBy(key_id="hmac-sha256:0123456789abcdef"),)}),
    (ban("identity", WORKFLOW), {"signers": (KEYLESS,)}),
    (ban("identity", WORKFLOW, issuer=GITHUB), {"signers": (KEYLESS,)}),
    (ban("identity", "https://github.com/acme/*"), {"signers": (KEYLESS,)}),
    (ban("identity", "https://github.com/acme/worker"), {"signers": (SHARED,)}),
    (ban("identity", WORKFLOW + "*"), {"signers": (SignedBy(key_id=digest(9)), KEYLESS)}),
    *((ban("identity", spelling), {"signers": (KEYLESS,)}) for spelling in (*SPELLINGS, *BELOW)),
    *((ban("identity", spelling), {"signers": (SHARED,)}) for spelling in SPELLINGS),
    (ban("identity", "https://github.com/acme/worker"), {"signers": (STRANGE,)}),
    (ban("identity", "https://github.com/Shared/CI"), {"signers": (SHARED,)}),
    (ban("identity", "https://gitlab.example/acme/tools/worker"), {"signers": (GITLAB,)}),
    (ban("identity", "https://GitLab.example:443/Acme/Tools/Worker.git/*"), {"signers": (GITLAB,)}),
    (ban("identity", "Mallory@Acme.example"), {"signers": (SignedBy(identity="mallory@acme.example", issuer="x"),)}),
    (ban("identity", "Mall*"), {"signers": (SignedBy(identity="mallory@acme.example", issuer="x"),)}),
    (ban("identity", "Mallory!Acme*"), {"signers": (SignedBy(identity="mallory!acme.example", issuer="x"),)}),
    (ban("identity", "https://gitlab.example/acme/tools/worker//*"), {"signers": (GITLAB,)}),
    (ban("identity", "https://gitlab.example/acme/tools/worker//.gitlab-ci.yml@refs/*"), {"signers": (GITLAB,)}),
    (ban("identity", WORKFLOW, issuer="HTTPS://Token.actions.githubusercontent.com/"), {"signers": (KEYLESS,)}),
    (ban("identity", f"{WORKFLOWS}/Build it.yml@*"), {"signers": (SPACED,)}),
    (ban("identity", f"{WORKFLOWS}/Build%20it.yml@refs/tags/v1"), {"signers": (SPACED,)}),
    (ban("identity", f"{WORKFLOWS}/größe.yml@refs/tags/v1"), {"signers": (UMLAUT,)}),
    (ban("identity", f"{WORKFLOWS}/gro\u0308ße.yml@*"), {"signers": (UMLAUT,)}),
    (ban("identity", f"{WORKFLOWS}/gr%C3%B6%C3%9Fe.yml@refs/tags/v1"), {"signers": (UMLAUT,)}),
    (ban("identity", "Mu\u0308ller!acme"), {"signers": (SignedBy(identity="müller!acme", issuer="x"),)}),
    (ban("namespace", "org.acme"), {}),
]
MISSES: list[tuple[Ban, dict[str, Any]]] = [
    (ban("manifest", digest(2)), {}),
    (ban("package", digest(1)), {}),
    (ban("package", "blake3:" + digest(2)), {}),
    (ban("package", "blake3:" + digest(1)), {"hash_algorithm": "blake3"}),
    (ban("worker", "org.acme.summarizer2"), {}),
    (ban("worker", "org.acme.summarizer.prod"), {}),
    (ban("worker", "org.acme.summarizer", versions=">1.4.0"), {}),
    (ban("worker", "org.acme.summarizer", versions="==1.4.1"), {"worker_version": "spring"}),
    (ban("key", digest(4)), {}),
    (ban("key", digest(3)), {"signers": (KEYLESS,)}),
    (ban("identity", WORKFLOW, issuer="https://other.example"), {"signers": (KEYLESS,)}),
    (ban("identity", "https://github.com/acme/worker2*"), {"signers": (KEYLESS,)}),
    (ban("identity", "https://github.com/acme/work"), {"signers": (KEYLESS,)}),
    (ban("identity", "https://github.com/acme/work/*"), {"signers": (KEYLESS,)}),
    (ban("identity", "https://github.com/acme/worker/.github/workflows/Release.yml*"), {"signers": (KEYLESS,)}),
    (ban("identity", "https://gitlab.example/acme/tools"), {"signers": (GITLAB,)}),
    (
        ban("identity", "https://github.com/acme/worker/.github/workflows/release.yml@refs/heads/*"),
        {"signers": (KEYLESS,)},
    ),
    (ban("identity", "https://github.com/*"), {}),
    (ban("namespace", "x.acme"), {}),
    (ban("namespace", "org.acm"), {}),
    (ban("file", digest(2)), {}),
]


@pytest.mark.parametrize(("entry", "changes"), HITS, ids=[str(entry) for entry, _ in HITS])
def test_a_ban_hits_what_it_names(make: Any, entry: Ban, changes: dict[str, Any]) -> None:
    bans = make(entry, ban("package", digest(77)), ban("namespace", "x.nobody"))
    assert [hit.ban for hit in bans.hits(facts(**changes))] == [entry]
    with pytest.raises(Banned, match="exfiltrates tokens"):
        bans.check_before(facts(**changes))


@pytest.mark.parametrize(("entry", "changes"), MISSES, ids=[str(entry) for entry, _ in MISSES])
def test_a_ban_hits_nothing_else(make: Any, entry: Ban, changes: dict[str, Any]) -> None:
    bans = make(entry)
    assert bans.hits(facts(**changes)) == ()
    bans.check_before(facts(**changes))


def test_the_most_specific_ban_is_named_first_and_all_are_found(make: Any) -> None:
    entries = [entry for entry, changes in HITS if not changes]
    found = [str(hit.ban.kind) for hit in make(*entries).hits(facts())]
    assert found == ["manifest", "package", "worker", "worker", "key", "namespace"]
    with pytest.raises(Banned, match=r"^manifest sha256:.* and 3 more$"):
        make(*entries).check_before(facts())


def test_a_banned_file_is_found_wherever_it_is(make: Any) -> None:
    bans = make(ban("file", digest(5)), ban("file", digest(6)))
    bans.check_files([("a", digest(1)), ("b", digest(2))], "sha256")
    with pytest.raises(Banned, match=r"file sha256:.* in 'x/y' is banned"):
        bans.check_files([("a", digest(1)), ("x/y", digest(6))], "sha256")
    assert [hit.path for hit in bans.file_hits([("a", digest(5)), ("b", digest(5))], "sha256")] == ["a", "b"]


def test_files_told_in_another_hash_are_not_called_clean(make: Any) -> None:
    with pytest.raises(BansUnusable, match="blake3"):
        make(ban("file", digest(5))).check_files([], "blake3")
    make(ban("package", digest(5))).check_files([("a", digest(5))], "blake3")


def test_refuses_blake3_package_where_packages_are_banned_by_sha256(make: Any) -> None:
    """The same tree, signed again with the other algorithm, must not slip past the ban of its SHA-256."""
    bans = make(ban("package", digest(2)))
    with pytest.raises(BansUnusable, match="sha256"):
        bans.check_before(facts(hash_algorithm="blake3"))
    both = make(ban("package", digest(2)), ban("worker", "org.acme.summarizer"))
    with pytest.raises(Banned, match="worker"):
        both.check_before(facts(hash_algorithm="blake3"))


DEAD = (
    "acme/worker",
    "github.com/acme/worker",
    "git@github.com:acme/worker.git",
    "ssh://git@github.com/acme/worker",
    "git+https://github.com/acme/worker",
    "https://user:secret@github.com/acme/worker",
    "https://github.com//acme/worker",
    "https://github.com/acme/../worker",
    "https://github.com/acme",
    "https://github.com",
    "https://gitlab.com/acme/",
    "https://github.com/acme/worker?tab=readme",
    "https://github.com/acme/worker#top",
    "https://github.com/acme/worker%20",
    "https://github.com/acme/%2561cme",
    "https://git*",
    "https:*",
    "https://github.com\\acme\\worker",
    "https://github.com/acme//worker/*",
    "https://gitlab.example/acme//worker/*",
    "https://github.com/acme/worker/tree/main",
    "https://github.com/acme/worker/settings*",
    "https://gitlab.com/acme/worker/-/tree/main",
    "https://github.com/acme/worker@refs/heads/*",
    "https://github.com/acme/worker/.github/workflows/release.yml",
    "https://acme.ghe.com/acme/worker/.github/workflows/release.yml",
    "https://api.github.com/repos/acme/worker",
    "https://raw.githubusercontent.com/acme/worker/*",
    "https://github.com:8443/acme/worker",
    "https://gitlab.com:22/acme/worker",
    "https://github.com/acme/%2e%2e",
    "https://gitlab.com/acme/%2E%2e/worker",
    "https://github.com/acme/worker;v=1",
    "https://github.com/acme/wor(ker/*",
    "file:///srv/git/acme/worker.git",
    "mailto:alice@acme.example",
    "@acme.example",
    "alice@acme.example.",
    "ftp://github.com/acme/worker",
    "svn+ssh://github.com/acme/worker",
    "alice @acme.example",
    "müller@acme.example",
    "https://g\u0456thub.com/acme/worker",
    "https://gitlab.com/acme/my worker",
    "https://github.com/acme/worker/.github/workflows/a%FF.yml@*",
    "https://github.com/acme/worker/.github/workflows/a%E2%80%8Bb.yml@*",
    " machine7",
    "machine 7",
    "machine\u200b7",
)


@pytest.mark.parametrize("subject", DEAD)
def test_refuses_identity_that_no_certificate_could_have(subject: str) -> None:
    with pytest.raises(ConfigError, match="identity"):
        ban("identity", subject)


@given(
    st.one_of(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=60), st.text(max_size=60)),
    st.sampled_from(
        ["https://github.com/", "https://gitlab.example/", "https://github.com/a/b/.github/workflows/", ""]
    ),
    st.booleans(),
)
def test_spelling_of_an_identity_is_stable(path: str, start: str, star: bool) -> None:
    try:
        made = ban("identity", f"{start}{path}{'*' if star else ''}")
    except ConfigError:
        return
    assert ban("identity", made.subject).subject == made.subject


def test_refuses_excludes_where_files_are_banned(make: Any) -> None:
    """What is left out of the manifest has no digest there, so a banned file could hide in it."""
    bans = make(ban("file", digest(5)))
    bans.check_before(facts(excludes=("/.git",)))
    with pytest.raises(BansUnusable, match=r"/data/\*\*"):
        bans.check_before(facts(excludes=("/.git", "/data/**")))
    make(ban("package", digest(5))).check_before(facts(excludes=("/data/**",)))


def test_every_list_is_asked(make: Any) -> None:
    one, two = make(ban("namespace", "x.nobody")), index_list(BanList.make(HEAD, [ban("package", digest(2))]), "0" * 64)
    bans = Bans([*one.opened, VerifiedList("y", two)])
    assert [hit.index for hit in bans.hits(facts())] == [two]
    with pytest.raises(BansUnusable):
        Bans([])
