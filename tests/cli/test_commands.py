"""The commands of the core, used as their help says."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cli.command import FILES, IDENTITY, SECRET, WORKER, Command, write_files
from tests.forked import SCRIPT

if TYPE_CHECKING:
    from pathlib import Path

TRUST = ("--public-key", "acme.key.pub", *WORKER)
HMAC_ENV = {"WCP_ATTEST_HMAC_KEY": SECRET}


def manifest_of(package: Path) -> bytes:
    return (package / "manifest.json").read_bytes()


def signatures_of(package: Path) -> list[bytes]:
    return (package / "manifest.sig").read_bytes().splitlines()


def run_shell(wcp: Command, line: str) -> int:
    path = f"{SCRIPT.parent}:{os.environ['PATH']}"
    return subprocess.run(
        line, shell=True, cwd=wcp.folder, env=wcp.environment({"PATH": path}), check=False, capture_output=True
    ).returncode


# init


def test_init_lays_out_a_worker_that_can_be_signed(wcp: Command, key: Path) -> None:
    run = wcp.ok("init", "new worker", *IDENTITY)
    assert "code/worker_logic.py" in run.out
    assert "wcp-attest sign 'new worker'" in run.err
    wcp.ok("sign", "new worker", "--key", key, *IDENTITY)
    wcp.ok("verify", "new worker", *TRUST)


def test_init_takes_a_logic_and_overwrites_only_when_told(wcp: Command) -> None:
    (wcp.folder / "mine.py").write_text("def execute(request, context):\n    return 7\n")
    assert wcp.ok("init", "w", "--logic", "mine.py", "--format", "json").json["files"]
    again = wcp("init", "w")
    assert again.status == 2
    assert "--force" in again.err
    wcp.ok("init", "w", "--force")


# build


def test_build_then_build_again_needs_no_options_and_changes_nothing(wcp: Command, package: Path) -> None:
    first = wcp.ok("build", package, *IDENTITY, "--format", "json").json
    before = manifest_of(package)
    second = wcp.ok("build", package)
    assert first["changed"] is True
    assert "UP TO DATE" in second.out
    assert "worker_id org.acme.summarizer" in second.err
    assert manifest_of(package) == before


def test_build_records_what_it_is_told(wcp: Command, package: Path) -> None:
    (package / "notes.tmp").write_text("x")
    value = wcp.ok(
        "build", package, *IDENTITY, "--exclude", "*.tmp", "--exclude", "*.never", "--algorithm", "blake3",
        "--built-at", "2026-11-22T14:00:00Z", "--build-source", "ci", "--ai-generated", "--ai-model", "m",
        "--source-repository", "https://example.com/r", "--source-commit", "a" * 40, "--format", "json",
    ).json  # fmt: skip
    assert value["excludes"] == ["*.tmp"]
    assert value["hash_algorithm"] == "blake3"
    assert value["built_at_utc"] == "2026-11-22T14:00:00Z"
    assert value["build_source"] == "ci"
    assert value["ai"] == {"generated": True, "model": "m"}
    assert value["source"] == {"repository": "https://example.com/r", "commit": "a" * 40}
    assert value["entries"] == len(FILES)


@pytest.mark.parametrize(
    "option", ["--source-commit", "--source-repository", "--ai-service", "--ai-model", "--ai-session-fingerprint"]
)
def test_an_origin_that_is_an_empty_text_is_refused_and_not_left_out(wcp: Command, package: Path, option: str) -> None:
    done = wcp("build", package, *IDENTITY, option, "")
    assert (done.status, done.out) == (2, "")
    assert f"the value of {option} is empty" in done.err


def test_a_changed_tree_takes_over_everything_but_the_commit(wcp: Command, package: Path) -> None:
    wcp.ok(
        "build", package, *IDENTITY, "--exclude", "*.tmp", "--algorithm", "blake3", "--ai-generated",
        "--source-repository", "https://example.com/r", "--source-commit", "a" * 40,
    )  # fmt: skip
    assert wcp.ok("build", package, "--format", "json").json["changed"] is False
    (package / "more").write_text("x")
    value = wcp.ok("build", package, "--format", "json").json
    assert (value["hash_algorithm"], value["ai"]) == ("blake3", {"generated": True})
    assert value["source"] == {"repository": "https://example.com/r"}
    fresh = wcp.ok("build", package, *IDENTITY, "--fresh", "--format", "json").json
    assert (fresh["hash_algorithm"], fresh["ai"], fresh["source"]) == ("sha256", None, None)


def test_source_date_epoch_makes_equal_bytes(wcp: Command, package: Path) -> None:
    env = {"SOURCE_DATE_EPOCH": "1700000000"}
    wcp.ok("build", package, *IDENTITY, env=env)
    assert b'"built_at_utc":"2023-11-14T22:13:20Z"' in manifest_of(package)
    assert wcp("build", package, env={"SOURCE_DATE_EPOCH": "soon"}).status == 2


def test_bytecode_is_listed_only_on_purpose_and_stays_listed(wcp: Command, package: Path, key: Path) -> None:
    write_files(package, {"code/x.pyc": b"x", "code/__pycache__/y.cpython-311.pyc": b"y"})
    wcp.ok("sign", package, "--key", key, *IDENTITY, "--bytecode", "include")
    wcp.ok("verify", package, *TRUST)
    (package / "more").write_text("x")
    assert wcp.ok("build", package, "--format", "json").json["entries"] == len(FILES) + 3
    wcp.ok("clean", package)
    assert (package / "code/x.pyc").exists()


def test_awp1_is_written_for_earlier_verifiers_and_must_be_allowed_by_name(wcp: Command, signed: Path) -> None:
    value = wcp.ok("build", signed, "--schema", "awp.v1", "--hmac", "--format", "json", env=HMAC_ENV).json
    assert value["manifest_schema"] == "awp.v1"
    assert not (signed / "manifest.sig").exists()
    wcp.ok("verify", signed, "--hmac", "--accept-schema", "awp.v1", *WORKER, env=HMAC_ENV)
    denied = wcp("verify", signed, "--hmac", *WORKER, "--format", "json", env=HMAC_ENV)
    assert (denied.status, denied.json["code"]) == (1, "ATTEST_SIGNATURE_MISSING")
    assert "awp.v1, which the policy must accept by name" in denied.json["message"]


@pytest.mark.parametrize(
    "options",
    [
        ("--schema", "awp.v1"),
        ("--schema", "awp.v1", "--hmac", "--hmac-file", "x"),
        ("--hmac",),
        ("--order", "bytes"),
        ("--schema", "awp.v1", "--hmac", "--algorithm", "blake3"),
        ("--schema", "awp.v1", "--hmac", "--ai-generated"),
    ],
)
def test_build_refuses_what_a_schema_cannot_say(wcp: Command, package: Path, options: tuple[str, ...]) -> None:
    assert wcp("build", package, *IDENTITY, *options, env=HMAC_ENV).status == 2
    assert not (package / "manifest.json").exists()


def test_configuration_says_what_options_do_not(wcp: Command, package: Path) -> None:
    (wcp.folder / "wcp-attest.toml").write_text(
        '[[package]]\npath = "worker"\nworker_id = "org.acme.configured"\nspecies_id = "wrk.x"\nworker_version = "2"\n'
    )
    assert wcp.ok("build", package, "--format", "json").json["worker_id"] == "org.acme.configured"
    value = wcp.ok("build", package, "--worker-id", "org.acme.said", "--format", "json").json
    assert (value["worker_id"], value["worker_version"]) == ("org.acme.said", "2")


# sign and verify


def test_the_printed_verify_command_verifies(wcp: Command, package: Path, key: Path) -> None:
    awkward = package.rename(package.with_name("it's a worker"))
    value = wcp.ok("sign", awkward, "--key", key, *IDENTITY, "--format", "json").json
    assert run_shell(wcp, value["verify_command"]) == 0
    (awkward / "added").write_text("x")
    assert run_shell(wcp, value["verify_command"]) == 1


def test_signatures_accumulate_over_the_same_bytes(wcp: Command, signed: Path, key: Path) -> None:
    before = manifest_of(signed)
    wcp.ok("keygen", "second.key", "--no-passphrase")
    value = wcp.ok("sign", signed, "--key", "second.key", "--format", "json").json
    assert (value["signatures_kept"], value["signatures_dropped"]) == (1, 0)
    wcp.ok("sign", signed, "--hmac", env=HMAC_ENV)
    assert len(signatures_of(signed)) == 3
    wcp.ok("sign", signed, "--key", key, *IDENTITY)  # the same metadata: kept byte for byte; the same signer: replaced
    assert len(signatures_of(signed)) == 3
    assert manifest_of(signed) == before
    wcp.ok("verify", signed, *TRUST)
    wcp.ok("verify", signed, "--public-key", "second.key.pub", *WORKER)
    wcp.ok("verify", signed, "--hmac", *WORKER, env=HMAC_ENV)


def test_several_signers_sign_at_once(wcp: Command, package: Path, key: Path) -> None:
    wcp.ok("keygen", "b.key", "--no-passphrase", "--type", "p384")
    (wcp.folder / "secret").write_text(SECRET + "\n")
    value = wcp.ok(
        "sign", package, "--key", key, "--key", "b.key", "--hmac-file", "secret", *IDENTITY, "--format", "json"
    ).json
    assert [signer["kind"] for signer in value["signers"]] == ["key", "key", "hmac"]
    wcp.ok("verify", package, "--public-key", "b.key.pub", "--namespace", "org.acme")
    wcp.ok("verify", package, "--hmac", *WORKER, env=HMAC_ENV)


def test_new_metadata_builds_again_and_drops_what_no_longer_holds(wcp: Command, signed: Path, key: Path) -> None:
    wcp.ok("sign", signed, "--hmac", env=HMAC_ENV)
    run = wcp.ok("sign", signed, "--key", key, "--worker-version", "1.5.0")
    assert "dropped 2 signatures" in run.err
    assert len(signatures_of(signed)) == 1
    assert '"worker_version":"1.5.0"' in manifest_of(signed).decode()
    wcp.ok("verify", signed, *TRUST)


def test_a_tree_that_changed_is_not_signed_again_by_accident(wcp: Command, signed: Path, key: Path) -> None:
    before = manifest_of(signed), signatures_of(signed)
    (signed / "code/worker_logic.py").write_text("import os\n")
    (signed / "added").write_text("x")
    run = wcp("sign", signed, "--key", key)
    assert run.status == 1
    assert "code/worker_logic.py" in run.err
    assert "+ added  added" in run.err
    assert shlex.join(["wcp-attest", "build", str(signed)]) in run.err
    value = wcp("sign", signed, "--key", key, "--format", "json").json
    assert (value["code"], value["differences_total"]) == ("ATTEST_HASH_MISMATCH", 2)
    assert (manifest_of(signed), signatures_of(signed)) == before


@pytest.mark.parametrize("key_type", ["ed25519", "p256", "p384"])
def test_each_type_of_key_signs_and_verifies(wcp: Command, package: Path, key_type: str) -> None:
    wcp.ok("keygen", "k", "--type", key_type, "--no-passphrase")
    wcp.ok("sign", package, "--key", "k", *IDENTITY)
    wcp.ok("verify", package, "--public-key", "k.pub", *WORKER)


def test_an_encrypted_key_takes_its_passphrase_from_file_or_environment(wcp: Command, package: Path) -> None:
    (wcp.folder / "phrase").write_text("open sesame\n")
    (wcp.folder / "wrong").write_text("open barley\n")
    made = wcp.ok("keygen", "k", "--passphrase-file", "phrase", "--format", "json").json
    assert made["encrypted"] is True
    assert b"ENCRYPTED" in (wcp.folder / "k").read_bytes()
    wcp.ok("sign", package, "--key", "k", "--passphrase-file", "phrase", *IDENTITY)
    wcp.ok("sign", package, "--key", "k", env={"WCP_ATTEST_KEY_PASSPHRASE": "open sesame"})
    for options, env in (
        (("--passphrase-file", "wrong"), {}),
        ((), {"WCP_ATTEST_KEY_PASSPHRASE": "open barley"}),
        ((), {}),
        (("--passphrase-file", "absent"), {}),
    ):
        run = wcp("sign", package, "--key", "k", *options, env=env)
        assert run.status == 2
        assert run.err.count("\n") == 1
        assert "open" not in run.err.replace("cannot open", "")


def test_verify_says_who_signed_and_what_was_found(wcp: Command, signed: Path) -> None:
    run = wcp.ok("verify", signed, *TRUST)
    assert "Package attested by namespace org.acme at " in run.out
    good = wcp.ok("verify", signed, *TRUST, "--format", "json").json
    assert good["trust_statement"] in run.out
    assert good["package"]["worker_id"] == "org.acme.summarizer"
    (signed / "requirements.lock").write_bytes(b"evil")
    os.chmod(signed / "code/bootstrap.py", 0o755)
    (signed / "config.schema.json").unlink()
    run = wcp("verify", signed, *TRUST)
    assert run.status == 1
    assert "DENIED" in run.out
    assert "wcp-attest explain ATTEST_HASH_MISMATCH" in run.out
    bad = wcp("verify", signed, *TRUST, "--format", "json").json
    assert [(one["path"], one["change"]) for one in bad["differences"]] == [
        ("code/bootstrap.py", "mode"),
        ("config.schema.json", "missing"),
        ("requirements.lock", "modified"),
    ]
    assert bad["trust_statement"] is None


def test_many_differences_are_capped_in_text(wcp: Command, signed: Path) -> None:
    write_files(signed, {f"extra/{number:03}": b"x" for number in range(120)})
    run = wcp("verify", signed, *TRUST)
    assert run.out.count("+ added") == 50
    assert "and 70 more" in run.out
    assert wcp("verify", signed, *TRUST, "--all").out.count("+ added") == 120
    assert len(wcp("verify", signed, *TRUST, "--format", "json").json["differences"]) == 120


def test_differences_with_one_cause_are_grouped(wcp: Command, signed: Path) -> None:
    write_files(signed, {f"code/__pycache__/m{number:02}.cpython-311.pyc": b"x" for number in range(17)})
    run = wcp("verify", signed, *TRUST)
    assert (run.status, run.out.count("! bytecode")) == (1, 2)
    assert "… and 15 more (bytecode) with the same cause; --all lists each" in run.out
    first = run.out.partition("what to do\n")[2].splitlines()[0]
    assert f"wcp-attest clean {signed}" in first
    assert "-text" not in run.out
    assert wcp("verify", signed, *TRUST, "--all").out.count("! bytecode") == 17


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        (("--worker-id", "org.acme.other"), 1, "ATTEST_MANIFEST_ID_MISMATCH"),
        (("--worker-id", "org.other.summarizer"), 1, "ATTEST_MANIFEST_ID_MISMATCH"),
        (("--namespace", "org.other"), 1, "ATTEST_NAMESPACE_INVALID"),
        ((*WORKER, "--species-id", "wrk.other"), 1, "ATTEST_MANIFEST_ID_MISMATCH"),
    ],
)
def test_what_is_expected_is_demanded(
    wcp: Command, signed: Path, options: tuple[str, ...], status: int, code: str
) -> None:
    run = wcp("verify", signed, "--public-key", "acme.key.pub", *options, "--format", "json")
    assert (run.status, run.json["code"]) == (status, code)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--public-key", "acme.key.pub"),
        WORKER,
        ("--public-key", "acme.key.pub", "--worker-id", "ORG.acme.x"),
        ("--public-key", "acme.key.pub", "--worker-id", "org.acme"),
        ("--public-key", "acme.key.pub", "--namespace", "acme"),
        ("--public-key", "acme.key.pub", "--namespace", "org.other", *WORKER),
        ("--public-key", "absent", *WORKER),
        ("--public-key", "acme.key", *WORKER),
        ("--public-key", "acme.key.pub", "--public-key", "acme.key.pub", *WORKER),
        ("--hmac", *WORKER),
        ("--policy", "absent"),
        ("--policy", "policy.toml", "--public-key", "acme.key.pub", *WORKER),
        ("--policy", "policy.toml", "--hmac"),
        ("--policy", "policy.toml", "--accept-schema", "awp.v1"),
        ("--policy", "policy.toml", "--namespace", "org.unknown"),
    ],
)
def test_trust_that_is_missing_or_ambiguous_decides_nothing(
    wcp: Command, signed: Path, options: tuple[str, ...]
) -> None:
    wcp.ok("policy", "init", "policy.toml", "--namespace", "org.acme", "--public-key", "acme.key.pub")
    run = wcp("verify", signed, *options)
    assert (run.status, run.out) == (2, "")
    assert run.err.startswith("error: ")
    assert run.err.count("\n") == 1


def test_a_policy_from_the_environment_is_not_widened_by_flags(wcp: Command, signed: Path) -> None:
    wcp.ok("policy", "init", "policy.toml", "--namespace", "org.acme", "--public-key", "acme.key.pub")
    env = {"WCP_ATTEST_POLICY": "policy.toml"}
    wcp.ok("verify", signed, env=env)
    assert wcp("verify", signed, "--public-key", "acme.key.pub", *WORKER, env=env).status == 2


def test_a_policy_in_the_package_is_never_read(wcp: Command, signed: Path) -> None:
    wcp.ok("policy", "init", signed / "policy.toml", "--namespace", "org.acme", "--public-key", "acme.key.pub")
    assert wcp("verify", ".", cwd=signed).status == 2


@pytest.mark.parametrize("option", ["--policy", "--public-key", "--hmac-file", "--trusted-root"])
def test_a_package_may_not_say_itself_whom_to_trust(wcp: Command, signed: Path, option: str) -> None:
    wcp.ok("policy", "init", signed / "policy.toml", "--namespace", "org.acme", "--public-key", "acme.key.pub")
    (signed / "acme.key.pub").write_bytes((wcp.folder / "acme.key.pub").read_bytes())
    (signed / "secret").write_text(SECRET)
    (signed / "root.json").write_text("{}")
    (wcp.folder / "link").symlink_to(signed)
    name = {"--policy": "policy.toml", "--public-key": "acme.key.pub", "--hmac-file": "secret"}.get(option, "root.json")
    trust = () if option == "--policy" else WORKER
    extra = ("--public-key", "acme.key.pub") if option == "--trusted-root" else ()
    for path in (signed / name, wcp.folder / "link" / name, f"worker/code/../{name}"):
        run = wcp("verify", signed, option, path, *trust, *extra)
        assert run.status == 2
        assert "inside the package" in run.err


def test_a_secret_inside_the_package_is_not_shipped_with_it(wcp: Command, package: Path, key: Path) -> None:
    inside = key.rename(package / "acme.key")
    run = wcp("sign", package, "--key", inside, *IDENTITY)
    assert run.status == 2
    assert "shipped" in run.err
    assert not (package / "manifest.json").exists()


def test_stage_copies_what_was_verified(wcp: Command, signed: Path) -> None:
    wcp.ok("verify", signed, *TRUST, "--stage", "staged")
    wcp.ok("verify", wcp.folder / "staged", *TRUST)
    assert wcp("verify", signed, *TRUST, "--stage", "staged").status != 0
    (signed / "added").write_text("x")
    assert wcp("verify", signed, *TRUST, "--stage", "other").status == 1
    assert not (wcp.folder / "other").exists()


@pytest.mark.parametrize("how", ["sarif", "github"])
def test_other_formats_come_with_the_same_status(wcp: Command, signed: Path, how: str) -> None:
    assert wcp.ok("verify", signed, *TRUST, "--format", how).out
    (signed / "added").write_text("x")
    run = wcp("verify", signed, *TRUST, "--format", how)
    assert run.status == 1
    assert "ATTEST_HASH_MISMATCH" in run.out


# diff, show, hash


def test_diff_tells_and_says_that_it_verifies_nothing(wcp: Command, signed: Path) -> None:
    same = wcp.ok("diff", signed)
    assert "no difference" in same.out
    (signed / "added").write_text("x")
    run = wcp("diff", signed)
    assert run.status == 1
    assert "+ added  added" in run.out
    assert all("verifies nothing" in each.err for each in (same, run))
    assert wcp("diff", signed, "--format", "json").json["verified"] is False


def test_show_tells_and_says_that_it_verifies_nothing(wcp: Command, signed: Path) -> None:
    run = wcp.ok("show", signed, "--entries")
    assert run.out.startswith("NOT VERIFIED\n")
    assert "verifies nothing" in run.err
    assert all(name in run.out for name in FILES)
    value = wcp.ok("show", signed, "--format", "json").json
    assert value["signatures"][0]["covers_this_manifest"] is True
    assert wcp.ok("show", signed / "manifest.sig", "--format", "json").json["manifest"] is None
    assert wcp.ok("show", signed / "manifest.json", "--format", "json").json["signatures"] == []
    wcp.ok("build", signed, "--worker-version", "9")
    assert wcp.ok("show", signed, "--format", "json").json["signatures"][0]["covers_this_manifest"] is False


def test_hash_is_that_of_the_manifest(wcp: Command, signed: Path) -> None:
    value = wcp.ok("hash", signed, "--format", "json").json
    shown = wcp.ok("show", signed, "--format", "json").json
    assert value["package_hash"] == shown["manifest"]["package_hash"]
    listed = wcp.ok("hash", signed, "--list").out.splitlines()
    assert len(listed) == len(FILES) + 1
    assert listed[-1] == f"sha256:{value['package_hash']}"
    assert wcp.ok("hash", signed, "--algorithm", "blake3").out.startswith("blake3:")


# keygen, clean, explain, policy


def test_keygen_writes_for_its_owner_only_and_never_over(wcp: Command) -> None:
    wcp.ok("keygen", "k", "--no-passphrase")
    before = (wcp.folder / "k").read_bytes()
    assert stat.S_IMODE((wcp.folder / "k").stat().st_mode) == 0o600
    assert wcp("keygen", "k", "--no-passphrase").status == 2
    (wcp.folder / "half.pub").symlink_to("nowhere")
    assert wcp("keygen", "half", "--no-passphrase").status == 2
    assert not (wcp.folder / "half").exists()
    assert (wcp.folder / "k").read_bytes() == before


def test_keygen_asks_for_a_passphrase_or_says_how_to_give_one(wcp: Command) -> None:
    run = wcp("keygen", "k")
    assert run.status == 2
    assert "--no-passphrase" in run.err
    assert wcp("keygen", "k", "--no-passphrase", "--passphrase-file", "x").status == 2
    assert wcp("keygen", "k", env={"WCP_ATTEST_KEY_PASSPHRASE": ""}).status == 2
    assert list(wcp.folder.iterdir()) == []


def test_clean_removes_bytecode_and_left_over_files_only(wcp: Command, signed: Path) -> None:
    outside = write_files(wcp.folder / "outside", {"__pycache__/x.pyc": b"x", "y.pyc": b"y"})
    write_files(
        signed,
        {
            "code/__pycache__/a.cpython-311.pyc": b"a",
            "code/__pycache__/deep/notes": b"b",
            "code/c.pyc": b"c",
            ".manifest.json.0123456789abcdef.wcp-tmp": b"half",
        },
    )
    (signed / "code/link").symlink_to(outside)
    (signed / "code/d.pyc").symlink_to(outside / "y.pyc")
    doomed = [
        ".manifest.json.0123456789abcdef.wcp-tmp",
        "code/__pycache__/",
        "code/__pycache__/a.cpython-311.pyc",
        "code/__pycache__/deep/",
        "code/__pycache__/deep/notes",
        "code/c.pyc",
        "code/d.pyc",
    ]
    assert wcp.ok("clean", signed, "--dry-run", "--format", "json").json["removed"] == doomed
    assert (signed / "code/c.pyc").exists()
    assert wcp.ok("clean", signed, "--format", "json").json["removed"] == doomed
    assert (outside / "__pycache__/x.pyc").exists()
    assert (outside / "y.pyc").exists()
    (signed / "code/link").unlink()
    wcp.ok("verify", signed, *TRUST)


def test_policy_init_check_and_show(wcp: Command, signed: Path, key: Path) -> None:
    (wcp.folder / "conf").mkdir()
    wcp.ok(
        "policy", "init", "conf/p.toml", "--namespace", "org.acme", "--public-key", f"{key}.pub", "--hmac",
        "--repository", "acme/worker", "--workflow", ".github/workflows/release.yml", "--ref", "refs/tags/*",
    )  # fmt: skip
    assert 'key = "../acme.key.pub"' in (wcp.folder / "conf/p.toml").read_text()
    wcp.ok("policy", "check", "conf/p.toml", env=HMAC_ENV)
    assert wcp("policy", "check", "conf/p.toml").status == 2
    value = wcp.ok("policy", "show", "conf/p.toml", "--format", "json", env=HMAC_ENV).json
    assert [signer["kind"] for signer in value["namespaces"][0]["signers"]] == ["key", "hmac", "sigstore"]
    wcp.ok("verify", signed, "--policy", "conf/p.toml", env=HMAC_ENV)
    assert wcp("policy", "init", "conf/p.toml", "--namespace", "org.acme", "--hmac").status == 2


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--public-key", "absent"),
        ("--hmac", "--threshold", "2"),
        ("--identity", "a@b.example"),
        ("--issuer", "https://x.example"),
        ("--repository", "acme/worker", "--ref", "main"),
    ],
)
def test_policy_init_writes_no_policy_that_cannot_be_used(wcp: Command, options: tuple[str, ...]) -> None:
    assert wcp("policy", "init", "p.toml", "--namespace", "org.acme", *options).status == 2
    assert not (wcp.folder / "p.toml").exists()


def test_a_package_of_the_earlier_schema_is_told_from_a_broken_one(wcp: Command, package: Path, key: Path) -> None:
    wcp.ok("build", package, "--schema", "awp.v1", "--hmac", *IDENTITY, env=HMAC_ENV)
    assert "schema     awp.v1" in wcp.ok("show", package).out
    value = wcp.ok("show", package, "--format", "json").json
    assert (value["manifest"], value["awp1_manifest"]["signed"]) == (None, True)
    for command in (("sign", package, "--key", key), ("diff", package)):
        run = wcp(*command)
        assert run.status == 2
        assert "wcp-attest build" in run.err
    wcp.ok("build", package)  # the metadata is taken over, and the schema is the new one
    wcp.ok("sign", package, "--key", key)
    wcp.ok("verify", package, *TRUST)


def test_a_stage_that_cannot_be_made_is_the_users_mistake(wcp: Command, signed: Path) -> None:
    (wcp.folder / "there").mkdir()
    for stage in ("there", signed / "inside", "absent/below"):
        run = wcp("verify", signed, *TRUST, "--stage", stage, "--format", "json")
        assert (run.status, run.json["error"]) == (2, "config")


def test_a_path_that_looks_like_an_option_stays_a_path(wcp: Command, package: Path, key: Path) -> None:
    package.rename(package.with_name("-w"))
    key.rename(key.with_name("--key"))
    key.with_name("acme.key.pub").rename(key.with_name("--key.pub"))
    value = wcp.ok("sign", "--key=--key", *IDENTITY, "--format", "json", "--", "-w").json
    assert run_shell(wcp, value["verify_command"]) == 0


# what a user must be told


def test_twins_that_look_the_same_are_spelt_out(wcp: Command, package: Path, key: Path) -> None:
    for name in ("\u00e9", "e\u0301"):
        (package / name).write_text("x")
    run = wcp("sign", package, "--key", key, *IDENTITY)
    assert run.status == 1
    assert r"'e\u0301' and '\xe9'" in run.err
    assert "--allow-twins" in run.err


def test_a_denial_says_what_to_do_about_bytecode(wcp: Command, signed: Path) -> None:
    (signed / "code" / "__pycache__").mkdir()
    (signed / "code" / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"x")
    run = wcp("verify", signed, *TRUST)
    assert run.status == 1
    code = run.out.split()[2]
    assert "wcp-attest clean" in wcp.ok("explain", code).out


def test_a_policy_is_shown_in_the_units_it_is_written_in(wcp: Command, key: Path) -> None:
    wcp.ok("policy", "init", "policy.toml", "--namespace", "org.acme", "--public-key", "acme.key.pub")
    path = wcp.folder / "policy.toml"
    text = path.read_text()
    for span, shown in (("400d", "400d"), ("36h", "36h"), ("48h", "2d"), ("90s", "90s"), ("8w", "56d"), ("90m", "90m")):
        path.write_text(text.replace('# max_age = "400d"', f'max_age = "{span}"'))
        assert f"age at most {shown};" in wcp.ok("policy", "show", path).out


@pytest.mark.parametrize("command", ["sign", "build"])
def test_bytecode_that_is_left_out_is_told_of(wcp: Command, key: Path, command: str) -> None:
    package = write_files(wcp.folder / "compiled", {**FILES, "code/__pycache__/worker_logic.cpython-311.pyc": b"x"})
    signer = ("--key", key) if command == "sign" else ()
    if command == "sign":
        refused = wcp(command, package, *signer, *IDENTITY)
        assert (refused.status, (package / "manifest.sig").exists()) == (1, False)
        assert f"wcp-attest clean {package}" in refused.err
        signer = (*signer, "--bytecode", "leave")
    run = wcp.ok(command, package, *signer, *IDENTITY)
    assert "bytecode" in run.err
    assert f"wcp-attest clean {package}" in run.err
    if command == "sign":
        assert wcp("verify", package, *TRUST).status == 1
        wcp.ok("clean", package)
        wcp.ok("verify", package, *TRUST)


def test_a_pass_names_what_the_signer_excluded(wcp: Command, key: Path) -> None:
    package = write_files(wcp.folder / "logged", {**FILES, "old.log": b"x"})
    wcp.ok("sign", package, "--key", key, *IDENTITY, "--exclude", "*.log")
    run = wcp.ok("verify", package, *TRUST)
    assert "'*.log', by the signer; what it matches was not checked" in run.out
    assert wcp.ok("verify", package, *TRUST, "--format", "json").json["package"]["excludes"] == ["*.log"]


def test_the_name_of_a_package_cannot_make_up_a_line(wcp: Command, key: Path) -> None:
    package = write_files(wcp.folder / "evil\nVERIFIED  other")
    assert "\nVERIFIED  other" not in wcp.ok("sign", package, "--key", key, *IDENTITY).out.partition("verify  ")[0]
    (package / "extra").write_bytes(b"")
    assert "\nVERIFIED  other" not in wcp("verify", package, *TRUST).out


def test_a_name_that_is_not_utf8_is_called_that(wcp: Command, key: Path) -> None:
    package = write_files(wcp.folder / "latin")
    with open(os.fsencode(package) + b"/caf\xe9", "wb"):
        pass
    run = wcp("sign", package, "--key", key, *IDENTITY)
    assert run.status == 1
    assert "not valid UTF-8" in run.err + run.out


def test_hash_names_an_exclude_that_matches_nothing(wcp: Command, package: Path) -> None:
    run = wcp.ok("hash", package, "--exclude", "./code", "--exclude", "requirements.lock")
    assert "no entry matches the exclude './code'" in run.err
    assert "requirements.lock'" in run.err.splitlines()[-1]


@pytest.mark.parametrize("name", ["w.tar.gz", "w.zip"])
def test_show_of_an_archive_says_how_to_see_into_it(wcp: Command, signed: Path, name: str) -> None:
    wcp.ok("pack", signed, "-o", name)
    shown = wcp("show", name)
    assert shown.status == 2
    assert f"`wcp-attest unpack {name} DIR`" in shown.err
