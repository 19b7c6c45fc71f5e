"""Lists signed keyless, and keyless signers banned, against a Sigstore instance on loopback."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.loopback_sigstore import DIRECT, LoopbackSigstore, github_claims
from tests.sigstore.packages import BUILD, WORKFLOW, Run, quickly, write_package
from wcp_attest.signing.key import generate

if TYPE_CHECKING:
    from pathlib import Path

POLICY = """
version = 1
[sigstore]
trusted_root = "trust.json"
[[namespace]]
name = "org.acme"
  [[namespace.signer]]
  sigstore = {{ issuer = "{issuer}", identity = "{identity}" }}
[bans]
max_age = "30d"
state = "state"
threshold = 2
  [[bans.signer]]
  sigstore = {{ issuer = "{issuer}", identity = "soc@acme.test" }}
  [[bans.signer]]
  key = "soc.pub"
  [[bans.source]]
  file = "bans.json"
"""


@pytest.fixture(scope="module")
def prepared(sigstore_instance: LoopbackSigstore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that is signed once; each test has a copy."""
    place = tmp_path_factory.mktemp("keyless")
    (place / "trust.json").write_text(json.dumps(sigstore_instance.client_trust_config()))
    key = generate()
    (place / "soc.key").write_bytes(key.to_pem(None))
    (place / "soc.pub").write_bytes(key.public_pem())
    (place / "policy.toml").write_text(POLICY.format(issuer=sigstore_instance.issuer, identity=WORKFLOW))
    write_package(place / "worker")
    env = {**DIRECT, **sigstore_instance.ambient_environment(**github_claims())}
    good("sign", str(place / "worker"), "--sigstore", "--trust-config", str(place / "trust.json"), *BUILD, env=env)
    good("ban", "new", str(place / "bans.json"), "--name", "acme-soc")
    return place


@pytest.fixture
def folder(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for name, value in DIRECT.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def good(*arguments: str, env: dict[str, str] | None = None) -> Run:
    run = quickly(*arguments, env=env)
    assert run.status == 0, run
    return run


def sign_keyless(instance: LoopbackSigstore, email: str = "soc@acme.test") -> None:
    env = {**DIRECT, "SIGSTORE_ID_TOKEN": instance.token(email=email)}
    keyless = ("--sigstore", "--identity-token", "env", "--trust-config", "trust.json")
    good("ban", "sign", "bans.json", *keyless, env=env)


def sign_with_key() -> None:
    good("ban", "sign", "bans.json", "--key", "soc.key")


def code() -> str | None:
    found: str | None = quickly("verify", "worker", "--policy", "policy.toml", "--format", "json").json["code"]
    return found


@pytest.mark.usefixtures("folder")
def test_a_threshold_across_methods_takes_a_keyless_and_a_key_signature(instance: LoopbackSigstore) -> None:
    sign_with_key()
    assert code() == "ATTEST_BANS_UNUSABLE"
    sign_keyless(instance, "somebody@acme.test")
    assert code() == "ATTEST_BANS_UNUSABLE"
    sign_keyless(instance)
    assert code() is None
    trust = ("--identity", "soc@acme.test", "--issuer", instance.issuer, "--trusted-root", "trust.json")
    assert quickly("ban", "check", "bans.json", *trust).status == 0
    other = ("--identity", "x@acme.test", "--issuer", instance.issuer, "--trusted-root", "trust.json")
    assert quickly("ban", "check", "bans.json", *other).status == 1


@pytest.mark.parametrize("name", [WORKFLOW, "https://github.com/acme/*", "https://github.com/acme/worker"])
def test_a_keyless_signer_is_banned_by_name_beginning_or_repository(
    instance: LoopbackSigstore, folder: Path, name: str
) -> None:
    good("ban", "add", "bans.json", "--identity", name, "--issuer", instance.issuer, "--reason", "taken over")
    sign_keyless(instance)
    sign_with_key()
    assert code() == "ATTEST_BANNED"
    run = quickly("ban", "impact", "bans.json", str(folder / "worker"), "--format", "json")
    assert run.status == 1
    assert run.json["refused"][0]["bans"][0]["kind"] == "identity"
    good("ban", "remove", "bans.json", "--identity", name, "--issuer", instance.issuer)
    sign_keyless(instance)
    sign_with_key()
    assert code() is None


@pytest.mark.usefixtures("folder")
def test_the_same_name_from_another_issuer_is_somebody_else(instance: LoopbackSigstore) -> None:
    ban = ("--identity", WORKFLOW, "--issuer", "https://other.example", "--reason", "x")
    good("ban", "add", "bans.json", *ban)
    sign_keyless(instance)
    sign_with_key()
    assert code() is None


EVERY_LINE = """
version = 1
[sigstore]
trusted_root = "trust.json"
[[namespace]]
name = "org.acme"
  [[namespace.signer]]
  sigstore = {{ issuer = "{issuer}", repository = "acme/worker" }}
  [[namespace.signer]]
  sigstore = {{ issuer = "{issuer}", repository = "acme/fork" }}
[[namespace]]
name = "org.other"
  [[namespace.signer]]
  key = "soc.pub"
[bans]
max_age = "30d"
state = "state"
  [[bans.source]]
  file = "own.json"
  signed = false
"""
RELEASE = "https://github.com/acme/worker/.github/workflows/release.yml"
SHARED = "shared/ci/.github/workflows/sign.yml@refs/heads/main"


def test_a_ban_hits_whatever_the_order_of_the_lines(instance: LoopbackSigstore, folder: Path) -> None:
    """The order of the lines is not signed: a carrier may change it, and must not gain by it."""
    (folder / "policy.toml").write_text(EVERY_LINE.format(issuer=instance.issuer))
    # One entry of the policy trusts this run and the one that signed before; another trusts a shared workflow's caller.
    runs = (github_claims(ref="refs/heads/main"), github_claims(repository="acme/fork", job_workflow_ref=SHARED))
    for claims in runs:
        env = {**DIRECT, **instance.ambient_environment(**claims)}
        good("sign", "worker", "--sigstore", "--trust-config", "trust.json", env=env)
    good("sign", "worker", "--key", "soc.key")
    lines = (folder / "worker" / "manifest.sig").read_bytes().splitlines()
    orders = [order for at in range(len(lines)) for order in (lines[at:] + lines[:at], lines[at::-1] + lines[:at:-1])]
    assert [len(order) for order in orders] == [4] * 8
    key_id = good("sign", "worker", "--key", "soc.key", "--format", "json").json["signers"][0]["key_id"]
    bans = {
        "tag": ("--identity", RELEASE + "@refs/tags/*"),
        "branch": ("--identity", RELEASE + "@refs/heads/*"),
        "shared workflow": ("--identity", "https://github.com/shared/ci"),
        "caller": ("--identity", "https://github.com/acme/fork/*"),
        "key of another namespace": ("--signer-key", key_id),
        "nobody here": ("--identity", RELEASE + "@refs/heads/dev*"),
    }
    for what, subject in bans.items():
        (folder / "own.json").unlink(missing_ok=True)
        shutil.rmtree(folder / "state", ignore_errors=True)  # otherwise the list would be rolled back
        good("ban", "new", "own.json", "--name", "own")
        good("ban", "add", "own.json", *subject, "--reason", what)
        expected = None if what == "nobody here" else "ATTEST_BANNED"
        for order in orders:
            (folder / "worker" / "manifest.sig").write_bytes(b"\n".join(order) + b"\n")
            assert code() == expected, (what, order)


def test_the_bundle_of_a_keyless_signature_is_written_for_a_release(instance: LoopbackSigstore, folder: Path) -> None:
    sign_with_key()
    env = {**DIRECT, "SIGSTORE_ID_TOKEN": instance.token(email="soc@acme.test")}
    keyless = ("--sigstore", "--identity-token", "env", "--trust-config", "trust.json")
    good("ban", "sign", "bans.json", *keyless, "--bundle-out", "bans.sigstore.json", env=env)
    bundle = (folder / "bans.sigstore.json").read_bytes()
    assert json.loads(bundle)["verificationMaterial"]["certificate"]
    assert bundle.rstrip(b"\n") in (folder / "bans.json.sig").read_bytes().splitlines()


KEY_ONLY = """
version = 1
[[namespace]]
name = "org.acme"
  [[namespace.signer]]
  key = "acme.pub"
[bans]
max_age = "30d"
state = "state"
  [[bans.source]]
  file = "own.json"
  signed = false
"""


def test_a_ban_hits_whom_a_line_names_that_the_policy_cannot_verify(folder: Path) -> None:
    """The package is signed keyless, by a key that the policy does not name, and by the one that it trusts."""
    good("keygen", "acme.key", "--no-passphrase")
    shutil.copy("acme.key.pub", "acme.pub")
    stranger = good("sign", "worker", "--key", "soc.key", "--format", "json").json["signers"][0]["key_id"]
    good("sign", "worker", "--key", "acme.key")
    (folder / "policy.toml").write_text(KEY_ONLY)
    bans = {
        "the stranger's key": ("--key-id", stranger),
        "the keyless signer": ("--identity", WORKFLOW),
        "its repository": ("--identity", "https://github.com/Acme/Worker"),
        "nobody here": ("--identity", "https://github.com/acme/other"),
    }
    for what, subject in bans.items():
        (folder / "own.json").unlink(missing_ok=True)
        shutil.rmtree(folder / "state", ignore_errors=True)  # otherwise the list would be rolled back
        good("ban", "new", "own.json", "--name", "own")
        good("ban", "add", "own.json", *subject, "--reason", what)
        assert code() == (None if what == "nobody here" else "ATTEST_BANNED"), what
        impact = quickly("ban", "impact", "own.json", str(folder / "worker"))
        assert impact.status == (0 if what == "nobody here" else 1), "`ban impact` says the same as `verify`"
    # A certificate that names nobody, or that is none, is passed over as it was.
    signed = (folder / "worker/manifest.sig").read_bytes()
    for spoilt in (b'"rawBytes":"AAAA', b'"rawBytes":"!', b'"rawBytes":[],"x":"'):
        (folder / "worker/manifest.sig").write_bytes(signed.replace(b'"rawBytes":"', spoilt, 1))
        assert code() is None, spoilt
