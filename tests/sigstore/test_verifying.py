"""`wcp-attest verify` of keyless packages: whom it believes, what it says when it does not, and k of n."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.loopback_sigstore import Pinned, Window, github_claims
from tests.sigstore.packages import WORKER, WORKFLOW, Run, build_package, keyless_line, payload_of, quickly, wcp_attest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.loopback_sigstore import LoopbackSigstore

REPOSITORY = ("--repository", "acme/worker")
RELEASE = (*REPOSITORY, "--workflow", ".github/workflows/release.yml", "--ref", "refs/tags/*")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_package(tmp_path_factory.mktemp("built") / "my-worker")


class Signed:
    """A package, who signed it, and the trusted root to verify it by."""

    def __init__(self, package: Path, root: Path, instance: LoopbackSigstore) -> None:
        self.package, self.root, self.instance = package, root, instance
        self.signatures = package / "manifest.sig"
        self.signatures.write_bytes(b"")

    def sign(self, claims: Mapping[str, str], *, rekor: int = 1, timestamps: bool = True) -> None:
        line = keyless_line(self.instance, payload_of(self.package), claims, rekor=rekor, timestamps=timestamps)
        self.signatures.write_bytes(self.signatures.read_bytes() + line + b"\n")

    def verify(self, *trust: str | Path) -> Run:
        return quickly(
            "verify", self.package, "--worker-id", WORKER, "--trusted-root", self.root, "--format", "json", *trust
        )


@pytest.fixture
def signed(instance: LoopbackSigstore, built: Path, tmp_path: Path) -> Signed:
    root = tmp_path / "trusted_root.json"
    root.write_text(json.dumps(instance.trusted_root()))
    return Signed(built, root, instance)


@pytest.mark.parametrize("rekor", [1, 2])
def test_whom_it_believes(signed: Signed, rekor: int) -> None:
    signed.sign(github_claims(), rekor=rekor)
    issuer = signed.instance.issuer
    for trust in (("--identity", WORKFLOW), REPOSITORY, RELEASE, ("--require-timestamp", *RELEASE)):
        verified = signed.verify("--issuer", issuer, *trust)
        assert verified.status == 0, verified
        assert verified.json["signers"] == [
            {"kind": "sigstore", "key_id": None, "identity": WORKFLOW, "issuer": issuer}
        ]


@pytest.mark.parametrize(
    ("trust", "expected", "found"),
    [
        (("--identity", "x@acme.test"), "x@acme.test", WORKFLOW),
        (("--identity", WORKFLOW + "0"), WORKFLOW + "0", WORKFLOW),
        (("--identity", WORKFLOW[:-1]), WORKFLOW[:-1], WORKFLOW),
        (("--repository", "acme/other"), "https://github.com/acme/other", "https://github.com/acme/worker"),
        ((*REPOSITORY, "--ref", "refs/heads/*"), "refs/heads/*", "refs/tags/v1"),
        ((*REPOSITORY, "--workflow", ".github/workflows/test.yml"), "test.yml", "release.yml"),
    ],
)
def test_somebody_else_is_refused_and_both_are_shown(
    signed: Signed, trust: tuple[str, ...], expected: str, found: str
) -> None:
    signed.sign(github_claims())
    refused = signed.verify("--issuer", signed.instance.issuer, *trust)
    assert (refused.status, refused.json["code"]) == (1, "ATTEST_SIGNER_UNTRUSTED")
    message = refused.json["message"]
    assert 0 < message.index(expected) < message.rindex(found)


def test_another_issuer_is_somebody_else(signed: Signed) -> None:
    signed.sign(github_claims())
    for trust in (RELEASE, ("--issuer", "https://other.test", "--identity", WORKFLOW)):
        refused = signed.verify(*trust)
        assert (refused.status, refused.json["code"]) == (1, "ATTEST_SIGNER_UNTRUSTED")
        assert f"found `{signed.instance.issuer}`" in refused.json["message"]


def test_a_package_that_changed_after_it_was_signed_is_refused(signed: Signed) -> None:
    signed.sign(github_claims())
    file = signed.package / "code" / "worker_logic.py"
    before = file.read_bytes()
    try:
        file.write_bytes(before + b"\n")
        refused = signed.verify("--issuer", signed.instance.issuer, *RELEASE)
    finally:
        file.write_bytes(before)
    assert (refused.status, refused.json["code"]) == (1, "ATTEST_HASH_MISMATCH")


def test_a_demanded_timestamp_that_is_missing_is_refused(signed: Signed) -> None:
    signed.sign(github_claims(), timestamps=False)
    assert signed.verify("--issuer", signed.instance.issuer, *RELEASE).status == 0
    refused = signed.verify("--issuer", signed.instance.issuer, "--require-timestamp", *RELEASE)
    assert (refused.status, refused.json["code"]) == (1, "ATTEST_SIG_INVALID")


def test_a_pinned_key_whose_time_has_passed_is_refused_with_its_dates(signed: Signed) -> None:
    from datetime import UTC, datetime

    signed.sign(github_claims())
    ended = Window(datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC))
    for member in (Pinned.REKOR_V1, Pinned.CT, Pinned.CA):
        signed.root.write_text(json.dumps(signed.instance.trusted_root({member: ended})))
        refused = signed.verify("--issuer", signed.instance.issuer, *RELEASE)
        assert (refused.status, refused.json["code"]) == (1, "ATTEST_SIG_INVALID")
        assert "is valid from 2020-01-01T00:00:00+00:00 to 2021-01-01T00:00:00+00:00" in refused.json["message"]


@pytest.mark.parametrize("root", ["", "{}", "[]", "no JSON"])
def test_a_trusted_root_that_cannot_be_used_leaves_it_undecided(signed: Signed, root: str) -> None:
    signed.sign(github_claims())
    signed.root.write_text(root)
    undecided = signed.verify("--issuer", signed.instance.issuer, *RELEASE)
    assert (undecided.status, undecided.json["code"]) == (2, "ATTEST_TRUST_UNUSABLE")


def test_without_a_pinned_root_and_without_a_network_it_says_what_to_do(signed: Signed, tmp_path: Path) -> None:
    """A proxy that refuses connections stands for a network that is not there."""
    signed.sign(github_claims())
    home = tmp_path / "home"
    home.mkdir()
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "HOME": str(home)}
    undecided = wcp_attest("verify", signed.package, "--worker-id", WORKER, *RELEASE, env=nowhere)
    assert undecided.status == 2
    assert "ATTEST_TRUST_UNUSABLE" in undecided.out
    assert "pin a trusted root" in undecided.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("--identity", "x@acme.test"),
        ("--identity", "x@acme.test", "--issuer", ""),
        ("--identity", "", "--issuer", "https://issuer.test"),
        ("--issuer", "https://issuer.test"),
        ("--ref", "refs/tags/*"),
        ("--workflow", ".github/workflows/release.yml"),
        ("--identity", "x@acme.test", "--issuer", "https://issuer.test", "--ref", "refs/tags/*"),
        ("--identity", "x@acme.test", "--issuer", "https://issuer.test", *REPOSITORY),
        (*REPOSITORY, "--ref", "*"),
        (*REPOSITORY, "--ref", "refs/*/v1"),
        ("--repository", "acme/*"),
        (*REPOSITORY, "--staging", "--trusted-root", "root.json"),
        (*REPOSITORY, "--policy", "policy.toml"),
        ("--policy", "policy.toml", "--identity", ""),
        ("--policy", "policy.toml", "--trusted-root", "root.json"),
        (*REPOSITORY, "--trusted-root", "/nonexistent"),
    ],
    ids=" ".join,
)
def test_trust_that_is_empty_loose_or_contradictory_is_a_mistake(built: Path, arguments: tuple[str, ...]) -> None:
    mistaken = quickly("verify", built, "--worker-id", WORKER, *arguments)
    assert (mistaken.status, mistaken.out) == (2, "")


# ---------------------------------------------------------------- k of n


def policy(signed: Signed, folder: Path, *signers: str, threshold: int = 2) -> Path:
    path = folder / "policy.toml"
    tables = "".join(f"[[namespace.signer]]\n{signer}\n" for signer in signers)
    path.write_text(
        f'version = 1\n[[namespace]]\nname = "org.acme"\nthreshold = {threshold}\n{tables}'
        f'[sigstore]\ntrusted_root = "{signed.root}"\n'
    )
    return path


def by_repository(signed: Signed, ref: str = "refs/tags/*") -> str:
    return f'sigstore = {{ issuer = "{signed.instance.issuer}", repository = "acme/worker", ref = "{ref}" }}'


def verify_by(policy: Path, package: Path) -> Run:
    return quickly("verify", package, "--policy", policy, "--format", "json")


def test_two_of_two_across_methods_passes_only_with_both(signed: Signed, tmp_path: Path) -> None:
    key = tmp_path / "release.key"
    assert quickly("keygen", key, "--no-passphrase").status == 0
    two = policy(signed, tmp_path, by_repository(signed), f'key = "{key}.pub"')

    signed.sign(github_claims())
    alone = verify_by(two, signed.package)
    assert (alone.status, alone.json["code"]) == (1, "ATTEST_THRESHOLD_NOT_MET")

    assert quickly("sign", signed.package, "--key", key).status == 0
    both = verify_by(two, signed.package)
    assert both.status == 0, both
    assert {signer["kind"] for signer in both.json["signers"]} == {"key", "sigstore"}

    keyless, by_key = signed.signatures.read_bytes().splitlines(keepends=True)
    signed.signatures.write_bytes(by_key)
    assert verify_by(two, signed.package).json["code"] == "ATTEST_THRESHOLD_NOT_MET"
    signed.signatures.write_bytes(by_key + keyless.replace(b'"payload":"e', b'"payload":"f', 1))
    assert verify_by(two, signed.package).json["code"] == "ATTEST_THRESHOLD_NOT_MET"


def test_the_same_identity_twice_counts_once(signed: Signed, tmp_path: Path) -> None:
    signers = (by_repository(signed), by_repository(signed, "refs/tags/v1"))
    two = policy(signed, tmp_path, *signers)
    signed.sign(github_claims())
    signed.sign(github_claims(), rekor=2)
    assert verify_by(two, signed.package).json["code"] == "ATTEST_THRESHOLD_NOT_MET"
    signed.signatures.write_bytes(signed.signatures.read_bytes() * 2)
    assert verify_by(two, signed.package).json["code"] == "ATTEST_THRESHOLD_NOT_MET"


def test_one_entry_of_the_policy_counts_once_however_many_match_it(signed: Signed, tmp_path: Path) -> None:
    other = f'sigstore = {{ issuer = "{signed.instance.issuer}", identity = "release@acme.test" }}'
    two = policy(signed, tmp_path, by_repository(signed), other)
    signed.sign(github_claims(ref="refs/tags/v1"))
    signed.sign(github_claims(ref="refs/tags/v2"))
    assert verify_by(two, signed.package).json["code"] == "ATTEST_THRESHOLD_NOT_MET"
    signed.sign({"email": "release@acme.test"})
    assert verify_by(two, signed.package).status == 0


def test_a_stranger_beside_a_trusted_signer_breaks_nothing(signed: Signed, tmp_path: Path) -> None:
    one = policy(signed, tmp_path, by_repository(signed), threshold=1)
    signed.sign({"email": "stranger@else.test"})
    assert verify_by(one, signed.package).json["code"] == "ATTEST_SIGNER_UNTRUSTED"
    signed.sign(github_claims())
    assert verify_by(one, signed.package).status == 0


def test_a_missed_signer_is_told_with_the_reason_that_its_signature_does_not_count(
    signed: Signed, tmp_path: Path
) -> None:
    key = tmp_path / "release.key"
    assert quickly("keygen", key, "--no-passphrase").status == 0
    signed.signatures.unlink()
    assert quickly("sign", signed.package, "--key", key).status == 0
    signed.sign(github_claims(ref="refs/heads/main"))
    two = policy(signed, tmp_path, by_repository(signed), f'key = "{key}.pub"')
    missed = verify_by(two, signed.package)
    assert missed.json["code"] == "ATTEST_THRESHOLD_NOT_MET"
    assert "expected `refs/tags/*`, found `refs/heads/main`" in missed.json["message"]


def test_a_missed_signer_that_could_not_be_checked_leaves_it_undecided(signed: Signed, tmp_path: Path) -> None:
    key = tmp_path / "release.key"
    assert quickly("keygen", key, "--no-passphrase").status == 0
    signed.signatures.unlink()
    assert quickly("sign", signed.package, "--key", key).status == 0
    signed.sign(github_claims())
    two = policy(signed, tmp_path, by_repository(signed), f'key = "{key}.pub"')
    signed.root.write_text("{}")
    undecided = verify_by(two, signed.package)
    assert (undecided.status, undecided.json["code"]) == (2, "ATTEST_TRUST_UNUSABLE")
