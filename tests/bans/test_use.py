"""Bans from a program, and what consulting them costs at start-up."""

from __future__ import annotations

import json
import time
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

import wcp_attest.bans
from tests.bans.helpers import HEX, Place, ban, facts, head
from tests.bans.test_ban_cli import BANS, FILE_SOURCE, Fleet
from tests.cli.test_startup import HEAVY, imported
from wcp_attest import load_policy, verify
from wcp_attest.advice.ban_impact import impact_on
from wcp_attest.base.errors import Banned, BansUnusable, ConfigError, DenyCode
from wcp_attest.legacy_tree import build
from wcp_attest.signing.hmac import HmacSecret
from wcp_attest.trust.bans.ban_check import Bans
from wcp_attest.trust.bans.bans_table import BansCondition, load_bans
from wcp_attest.trust.bans.feeds import VerifiedList
from wcp_attest.trust.bans.lookup import index_list

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.command import Command

SECRET = b"correct horse battery staple"


@pytest.fixture
def fleet(wcp: Command) -> Fleet:
    made = Fleet(wcp)
    made.put_list()
    return made


@pytest.mark.parametrize("compiled", [False, True])
def test_bans_in_a_file_cost_no_network_library(fleet: Fleet, compiled: bool) -> None:
    if compiled:
        fleet.wcp.ok("ban", "compile", "bans.json", "bans.idx")
        fleet.policy(BANS + FILE_SOURCE + '  compiled = "bans.idx"\n')
    modules = imported(fleet.wcp, "verify", "worker", "--policy", "policy.toml")
    assert modules & (HEAVY | {"tempfile", "shutil", "random", "ipaddress", "wcp_attest.trust.registry"}) == set()
    assert ("mmap" in modules) == compiled


def test_a_program_asks_again_about_what_it_verified(fleet: Fleet) -> None:
    policy = load_policy(str(fleet.folder / "policy.toml"))
    assert verify(fleet.package, policy).ok
    bans = load_bans(policy)
    bans.check_before(facts())
    at = int(time.time())
    Place(fleet.folder).put([ban("namespace", "org.acme")], head(2, issued=at), fleet.keys["soc"])
    with pytest.raises(Banned):
        load_bans(policy).check_before(facts())
    assert verify(fleet.package, policy).code == DenyCode.BANNED
    with pytest.raises(BansUnusable, match="stale"):
        load_bans(policy, now=at + 40 * 86_400)


def test_bans_of_a_policy_without_any_are_an_error_and_not_nobody(fleet: Fleet) -> None:
    fleet.policy("")
    with pytest.raises(ConfigError, match="no \\[bans\\]"):
        load_bans(load_policy(str(fleet.folder / "policy.toml")))
    with pytest.raises(ConfigError):
        BansCondition((), None, 1, "state")


def test_public_names_can_be_had() -> None:
    for name in wcp_attest.bans.__all__:
        assert getattr(wcp_attest.bans, name) is not None


class TestEarlierManifests:
    """Packages of schema awp.v1 are looked up like all others."""

    @pytest.fixture
    def package(self, fleet: Fleet) -> Path:
        fleet.policy(
            "  [[namespace.signer]]\n  hmac = { env = 'KEY' }\n[accept]\nschemas = ['awp.v1', 'awp.v2']\n"
            + BANS
            + FILE_SOURCE
        )
        root = fleet.folder / "old"
        root.mkdir()
        (root / "a.py").write_bytes(b"1")
        data = build(
            root,
            secret=HmacSecret(SECRET),
            worker_id="org.acme.old",
            worker_species_id="wrk.a.b",
            worker_version="1.0",
        )
        (root / "manifest.json").write_bytes(data)
        return root

    def test_they_are_refused_when_banned(self, fleet: Fleet, package: Path) -> None:
        policy = load_policy(str(fleet.folder / "policy.toml"), {"KEY": SECRET.decode(), "HOME": "/nowhere"})
        assert verify(package, policy).ok
        hashes = json.loads((package / "manifest.json").read_bytes())
        place, at = Place(fleet.folder), int(time.time())
        for version, entry in enumerate(
            (
                ban("worker", "org.acme.old", versions="<2"),
                ban("package", hashes["package_hash"]),
                ban("manifest", sha256((package / "manifest.json").read_bytes()).hexdigest()),
                ban("file", sha256(b"1").hexdigest()),
                ban("key", HmacSecret(SECRET).key_id),
            ),
            start=2,
        ):
            place.put([entry], head(version, issued=at), fleet.keys["soc"])
            assert verify(package, policy).code == DenyCode.BANNED, str(entry)

    def test_impact_judges_them_as_far_as_they_tell(self, package: Path) -> None:
        from wcp_attest.trust.bans.document import BanList

        def judged(kind: str, subject: str) -> tuple[int, str]:
            listed = BanList.make(head(1), [ban(kind, subject)])
            result = impact_on(Bans([VerifiedList("x", index_list(listed, "0" * 64))]), str(package / "manifest.json"))
            return len(result.hits), result.problem

        assert judged("namespace", "org.acme") == (1, "")
        hits, problem = judged("file", HEX)
        assert hits == 0
        assert "lists no files" in problem
