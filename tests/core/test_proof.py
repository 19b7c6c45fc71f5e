"""The proof that `verify` hands out: made last, made nowhere else, and never altered."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, replace
from typing import TYPE_CHECKING

import pytest

from tests.core.test_verification import KEY, NOW, SECRET, WORKER, Watch, built, make_tree, policy
from wcp_attest import Accept, ConfigError, DenyCode, Policy, Verdict, Verified, legacy_tree, sign, verify
from wcp_attest.base.errors import Banned
from wcp_attest.recheck import Recheck
from wcp_attest.signing.hmac import HmacSecret
from wcp_attest.verdict import judge

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    package = make_tree(tmp_path / "worker")
    sign(package, [KEY], manifest=built(package), now=NOW)
    return package


@pytest.fixture
def proof(signed: Path) -> Verified:
    verified = verify(signed, policy(), now=NOW).verified
    assert verified is not None
    return verified


def test_replace_makes_no_other_proof(proof: Verified) -> None:
    for changes in ({"namespace": "org.evil"}, {}, {"seal": None}, {"seal": object(), "worker_id": "org.evil.w"}):
        with pytest.raises((TypeError, ValueError)):
            replace(proof, **changes)


def test_the_proof_holds_nothing_that_opens_its_constructor(proof: Verified) -> None:
    assert not hasattr(proof, "__dict__")
    with pytest.raises((TypeError, AttributeError)):
        Verified(*[getattr(proof, name) for name in Verified.__dataclass_fields__ if name != "seal"])
    assert getattr(proof, "seal", None) is None


def test_copies_are_the_same_object(proof: Verified) -> None:
    assert copy.copy(proof) is proof
    assert copy.deepcopy([proof])[0] is proof


def test_nothing_is_pickled_and_nothing_unpickled(proof: Verified) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(proof, protocol)
        with pytest.raises(TypeError):
            pickle.dumps(Verdict(proof), protocol)
    forged = b"\x80\x04cwcp_attest.verdict\nVerified\n)\x81(X\x08\x00\x00\x00org.evilX\x01\x00\x00\x00wlb."
    with pytest.raises((TypeError, pickle.UnpicklingError)):
        pickle.loads(forged)  # the forgery is ours
    with pytest.raises(TypeError):
        object.__new__(Verified).__setstate__(["org.evil"])


def test_no_attribute_is_set_and_no_subclass_made(proof: Verified) -> None:
    with pytest.raises(FrozenInstanceError):
        proof.namespace = "org.evil"  # type: ignore[misc]
    with pytest.raises(TypeError):
        type("Forged", (Verified,), {})
    with pytest.raises(TypeError):
        Verdict("not a proof")  # type: ignore[arg-type]


def test_no_proof_is_made_of_what_fails_late(signed: Path) -> None:
    """Whatever comes last may fail: there is then no proof, not even in what a ban check sees."""
    (signed / "code" / "run").write_text("#!/bin/evil\n")
    watch = Watch()
    verdict = verify(signed, policy(), now=NOW, bans=[watch])
    assert (verdict.verified, verdict.code) == (None, DenyCode.HASH_MISMATCH)
    assert not any(isinstance(value, Verified) for value in (*watch.facts, *watch.files))


def test_a_tree_of_awp_v1_is_checked_before_bans_are_asked(tmp_path: Path) -> None:
    package = make_tree(tmp_path / "worker")
    for name in ("link", "empty"):
        (package / name).rmdir() if name == "empty" else (package / name).unlink()
    data = legacy_tree.build(
        package,
        worker_id=WORKER,
        worker_species_id="wrk.doc.summarizer",
        worker_version="1",
        secret=SECRET,
        built_at=NOW,
    )
    (package / "manifest.json").write_bytes(data)
    trust = policy(SECRET, accept=Accept(schemas=("awp.v1",)))
    watch = Watch()
    assert verify(package, trust, now=NOW, bans=[watch]).ok
    assert set(watch.files) == {"code/run", "code/worker_logic.py", "requirements.lock"}
    (package / "code" / "run").write_text("#!/bin/evil\n")
    late = Watch(Banned)
    assert verify(package, trust, now=NOW, bans=[late]).code is DenyCode.HASH_MISMATCH
    assert late.facts == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"policy": "policy.toml"},
        {"policy": None},
        {"expect": "org.acme.w"},
        {"options": {"jobs": 1}},
        {"now": "now"},
        {"bans": ["bans.json"]},
        {"bans": 7},
        {"root": 7},
        {"root": b"worker"},
    ],
    ids=str,
)
def test_wrong_types_are_raised(signed: Path, wrong: dict[str, object]) -> None:
    arguments = {"root": signed, "policy": policy(), "now": NOW, **wrong}
    with pytest.raises(TypeError):
        verify(**arguments)  # type: ignore[arg-type]


def test_a_mistake_is_raised_and_recheck_denies_instead(signed: Path) -> None:
    (signed / "policy.toml").write_text("version = 1\n")
    inside = Policy(policy().namespaces, files=(str(signed / "policy.toml"),))
    with pytest.raises(ConfigError, match="inside the package"):
        verify(signed, inside, now=NOW)
    verdict = Recheck(signed, inside).verify(now=NOW)
    assert (verdict.code, verdict.decided) == (DenyCode.INTERNAL_ERROR, False)
    assert "inside the package" in verdict.message


def test_a_manifest_built_in_the_future_is_refused(tmp_path: Path) -> None:
    package = make_tree(tmp_path / "worker")
    sign(package, [KEY], manifest=replace(built(package), built_at_utc="2999-01-01T00:00:00Z"), now=NOW)
    verdict = verify(package, policy(), now=NOW)
    assert verdict.code is DenyCode.EXPIRED
    assert "2999-01-01" in verdict.message


def test_judge_passes_mistakes_on_only_when_told() -> None:
    def mistake() -> Verified:
        raise ConfigError("the stage exists")

    with pytest.raises(ConfigError):
        judge(mistake)
    assert judge(mistake, mistakes_raise=False).code is DenyCode.INTERNAL_ERROR


@pytest.mark.parametrize(
    "secret", [b"\0" * 32, b"a" + b"\0" * 31, b"\0" * 31 + b"a", b" \n" * 16, b"a" + b"\0" * 40 + b"b" * 15]
)
def test_refuses_secrets_of_nothing(secret: bytes) -> None:
    with pytest.raises(ConfigError):
        HmacSecret(secret)


def test_takes_a_binary_secret_with_a_nul_inside() -> None:
    secret = bytes(range(200, 216)) + b"\0" + bytes(range(1, 20))
    assert HmacSecret(secret).key_id.startswith("hmac-sha256:")
