"""What programs call beside `verify`: results as data and words, keys from files, packages for tests of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from wcp_attest import (
    ConfigError,
    Expectation,
    HmacSecret,
    KeySigner,
    TrustedKey,
    load_module,
    load_policy,
    parse_policy,
    scaffold_package,
    verified,
    verify,
)
from wcp_attest.bans import CompiledBans, compile_list
from wcp_attest.cli import main
from wcp_attest.pack import pack, verify_archive
from wcp_attest.registry import RegistryClient
from wcp_attest.scaffold import BOOTSTRAP
from wcp_attest.signing.key import generate
from wcp_attest.testing import SignedPackage, make_signed_package, signed_packages

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["signed_packages"]

SCHEMA = json.loads((Path(__file__).parents[2] / "wcp_attest/schemas/verify-result.json").read_text())


@pytest.mark.parametrize("change", [None, "code/main.py", "manifest.sig"])
def test_to_dict_is_the_json_of_the_command_line(
    change: str | None, signed_packages: Callable[..., SignedPackage], tmp_path: Path
) -> None:
    package = signed_packages()
    key = tmp_path / "k.pub"
    key.write_bytes(package.signer.public_pem())
    if change:
        (package.path / change).write_text("x")
    verdict = verify(package.path, package.policy)
    value = verdict.to_dict(package.path)
    jsonschema.Draft202012Validator(SCHEMA).validate(value)
    assert json.loads(json.dumps(value)) == value
    flags = ["--public-key", str(key), "--namespace", "org.example", "--format", "json"]
    done = subprocess.run(
        [sys.executable, "-m", "wcp_attest", "verify", package.path, *flags], capture_output=True, check=False
    )
    assert done.returncode == value["exit_status"]
    assert json.loads(done.stdout) == value


def test_a_verdict_reads_as_one_line(signed_packages: Callable[..., SignedPackage]) -> None:
    package = signed_packages()
    assert str(verify(package.path, package.policy)).startswith("VERIFIED org.example.worker 1.0.0: Package attested")
    (package.path / "more").write_text("")
    assert str(verify(package.path, package.policy)).startswith("DENIED ATTEST_HASH_MISMATCH: the tree is not")


def test_keys_and_secrets_are_read_from_path_objects(tmp_path: Path) -> None:
    signer = generate()
    (tmp_path / "k").write_bytes(signer.to_pem(b"a passphrase"))
    (tmp_path / "k.pub").write_bytes(signer.public_pem())
    (tmp_path / "s").write_bytes(b"a shared secret of good length\n")
    assert KeySigner.from_file(tmp_path / "k", b"a passphrase").trusted == TrustedKey.from_file(tmp_path / "k.pub")
    assert HmacSecret.from_file(tmp_path / "s").secret == b"a shared secret of good length"
    policy = '[[namespace]]\nname = "org.acme"\n[[namespace.signer]]\nkey = "k.pub"\n'
    (tmp_path / "policy.toml").write_text("version = 1\n" + policy)
    assert load_policy(tmp_path / "policy.toml").keys == (signer.trusted,)


def test_the_earlier_spelling_of_an_expectation_is_taken_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match="worker_species_id"):
        old = Expectation(species_id="wrk.doc.summarizer")
    assert old == Expectation(worker_species_id="wrk.doc.summarizer")
    assert old.species_id == "wrk.doc.summarizer"
    with pytest.raises(TypeError):
        Expectation(worker_species_id="wrk.a.b", species_id="wrk.a.b")


def test_the_earlier_spellings_of_a_new_package_are_taken_with_a_warning(tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="is spelled worker_") as warned:
        scaffold_package(tmp_path / "old", worker_id="org.acme.w", species_id="wrk.doc.w", version="1.0.0")
    assert [str(each.message).rpartition(" ")[2] for each in warned] == ["worker_species_id", "worker_version"]
    scaffold_package(tmp_path / "new", worker_id="org.acme.w", worker_species_id="wrk.doc.w", worker_version="1.0.0")
    assert (tmp_path / "old" / BOOTSTRAP).read_bytes() == (tmp_path / "new" / BOOTSTRAP).read_bytes()
    wrongs: list[dict[str, Any]] = [{}, {"worker_species_id": "wrk.doc.w", "species_id": "wrk.doc.w"}]
    for wrong in wrongs:
        with pytest.raises(TypeError, match="worker_species_id"):
            scaffold_package(tmp_path / "none", worker_id="org.acme.w", **wrong)
    assert not (tmp_path / "none").exists()


def test_a_path_in_place_of_a_policy_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"expected a Policy, got a str; load_policy\(path\) reads one from a file"):
        verify(tmp_path, "policy.toml")  # type: ignore[arg-type]


def test_packages_for_tests_are_signed_and_apart(signed_packages: Callable[..., SignedPackage], tmp_path: Path) -> None:
    first, second = signed_packages(), signed_packages({"a": b"\0"}, worker_id="x.lab.other")
    assert first.path != second.path
    assert verify(second.path, second.policy).ok
    assert not verify(second.path, first.policy).ok
    with pytest.raises(FileExistsError):
        make_signed_package(first.path)


def test_every_path_may_be_a_path_object(
    signed_packages: Callable[..., SignedPackage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = signed_packages({"code/one.py": "ONE = 1\n"})
    key = tmp_path / "k.pub"
    key.write_bytes(package.signer.public_pem())
    text = b'version = 1\n[[namespace]]\nname = "org.example"\n[[namespace.signer]]\nkey = "k.pub"\n'
    policy = parse_policy(text, read=lambda name, *_: (tmp_path / name).read_bytes(), environ={}, folder=tmp_path)
    policy.check_outside(package.path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "state").mkdir()
    with verified(package.path, policy) as held:
        assert load_module(held, PurePosixPath("code/one.py")).ONE == 1
    pack(package.path, tmp_path / "p.tar")
    verify_archive(tmp_path / "p.tar", policy, stage=tmp_path / "staged")
    assert verify(tmp_path / "staged", policy).ok
    assert main(["ban", "new", str(tmp_path / "bans.json"), "--name", "acme", "-q"]) == 0
    compile_list(tmp_path / "bans.json", tmp_path / "bans.idx")
    CompiledBans.open(tmp_path / "bans.idx").close()
    (tmp_path / "none.pem").write_text("")
    with pytest.raises(ConfigError, match="no certificate"):
        RegistryClient("https://registry.example", ca_file=tmp_path / "none.pem")
