"""Keys, passphrases and secrets as they reach the command: pipes, variables, files and a terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from tests.cli.command import IDENTITY, SECRET, TIMEOUT, WORKER, Command
from tests.forked import SCRIPT
from wcp_attest.signing.key import KeySigner, generate

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def encrypted(tmp_path: Path) -> Path:
    path = tmp_path / "encrypted.key"
    path.write_bytes(generate().to_pem(b"hunter2"))
    return path


def piped(data: bytes) -> int:
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    return read


def run_with_pipes(wcp: Command, arguments: list[object], *contents: bytes) -> subprocess.CompletedProcess[str]:
    """Run the command with `/dev/fd/N` for each `...`, as a shell's process substitution has it."""
    pipes = [piped(data) for data in contents]
    names = iter(f"/dev/fd/{number}" for number in pipes)
    words = [next(names) if word is ... else str(word) for word in arguments]
    try:
        return subprocess.run(
            [SCRIPT, *words],
            cwd=wcp.folder,
            env=wcp.environment(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            pass_fds=pipes,
            check=False,
        )
    finally:
        for number in pipes:
            os.close(number)


def test_keys_and_secrets_come_through_pipes(wcp: Command, package: Path, key: Path, encrypted: Path) -> None:
    signing = ["sign", package, *IDENTITY, "--key", ..., "--hmac-file", ...]
    done = run_with_pipes(wcp, signing, key.read_bytes(), SECRET.encode())
    assert done.returncode == 0, done.stderr
    public = key.with_suffix(".key.pub").read_bytes()
    done = run_with_pipes(wcp, ["verify", package, *WORKER, "--public-key", ...], public)
    assert done.returncode == 0, done.stderr
    opening = ["sign", package, "--key", encrypted, "--passphrase-file", ...]
    done = run_with_pipes(wcp, opening, b"hunter2\n# and a comment\n")
    assert done.returncode == 0, done.stderr


def test_a_pipe_longer_than_any_key_is_refused(wcp: Command, package: Path) -> None:
    read, write = os.pipe()
    feeder = threading.Thread(target=lambda: os.write(write, b"x" * 70_000), daemon=True)
    feeder.start()
    try:
        done = subprocess.run(
            [SCRIPT, "sign", package, *IDENTITY, "--key", f"/dev/fd/{read}"],
            cwd=wcp.folder,
            env=wcp.environment(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            pass_fds=[read],
            check=False,
        )
    finally:
        os.close(read)
        os.close(write)
    assert (done.returncode, "larger than" in done.stderr) == (2, True), done.stderr


def test_a_key_of_a_device_is_refused(wcp: Command, package: Path) -> None:
    run = wcp("sign", package, *IDENTITY, "--key", "/dev/zero")
    assert (run.status, "not a regular file" in run.err) == (2, True)


def test_every_key_of_a_file_is_trusted(wcp: Command, package: Path, key: Path) -> None:
    second = generate()
    (wcp.folder / "second.key").write_bytes(second.to_pem(None))
    (wcp.folder / "both.pub").write_bytes(second.public_pem() + key.with_suffix(".key.pub").read_bytes())
    wcp.ok("sign", package, "--key", key, *IDENTITY)
    wcp.ok("verify", package, *WORKER, "--public-key", "both.pub")
    policy = '[[namespace]]\nname = "org.acme"\n[[namespace.signer]]\nkey = "both.pub"\n'
    (wcp.folder / "policy.toml").write_text("version = 1\n" + policy)
    run = wcp("verify", package, "--policy", "policy.toml")
    assert (run.status, "holds 2 public keys" in run.err) == (2, True)


def test_an_empty_passphrase_variable_is_none(wcp: Command, package: Path, key: Path, encrypted: Path) -> None:
    empty = {"WCP_ATTEST_KEY_PASSPHRASE": ""}
    wcp.ok("sign", package, "--key", key, *IDENTITY, env=empty)
    run = wcp("sign", package, "--key", encrypted, env=empty)
    assert (run.status, "is encrypted" in run.err) == (2, True)


def test_variable_and_file_mean_the_same_secret(wcp: Command, package: Path, encrypted: Path) -> None:
    (wcp.folder / "secret").write_text(f"{SECRET}\n# the next one is due in March\n")
    wcp.ok("sign", package, "--hmac", *IDENTITY, env={"WCP_ATTEST_HMAC_KEY": f"{SECRET}\n"})
    wcp.ok("verify", package, *WORKER, "--hmac-file", "secret")
    wcp.ok("sign", package, "--key", encrypted, env={"WCP_ATTEST_KEY_PASSPHRASE": "hunter2\r\n"})


def on_a_terminal(wcp: Command, typed: bytes, *arguments: object, lang: str = "C.UTF-8") -> tuple[int, str]:
    """Run the command on a terminal, type at its first prompt, and return its status and what it said."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [SCRIPT, *map(str, arguments)],
        cwd=wcp.folder,
        env={**wcp.environment(), "LC_ALL": lang},
        stdin=child,
        stdout=child,
        stderr=child,
        start_new_session=True,
    )
    os.close(child)
    said, asked = b"", False
    while select.select([parent], [], [], TIMEOUT)[0]:
        try:
            part = os.read(parent, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        said += part
        if not asked and b"assphrase" in said:
            os.write(parent, typed + b"\n")
            asked = True
    os.close(parent)
    return process.wait(TIMEOUT), said.decode("utf-8", "replace")


def test_an_openssh_key_with_crlf_is_asked_its_passphrase(wcp: Command, package: Path) -> None:
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    signer = generate()
    data = signer.private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, BestAvailableEncryption(b"hunter2"))
    (wcp.folder / "id").write_bytes(data.replace(b"\n", b"\r\n"))
    status, said = on_a_terminal(wcp, b"hunter2", "sign", package, "--key", "id", *IDENTITY)
    assert (status, "SIGNED" in said) == (0, True), said


@pytest.mark.parametrize("lang", ["C.UTF-8", "C"])
def test_bytes_of_another_encoding_are_a_wrong_passphrase(
    wcp: Command, package: Path, encrypted: Path, lang: str
) -> None:
    status, said = on_a_terminal(wcp, b"p\xe4ss", "sign", package, "--key", encrypted, *IDENTITY, lang=lang)
    assert (status, "internal error" in said, "Traceback" in said) == (2, False, False), said
    assert not (package / "manifest.sig").exists()


def test_ml_dsa_signs_verifies_and_joins_ed25519_in_a_threshold(wcp: Command, package: Path, key: Path) -> None:
    made = wcp.ok("keygen", "pq.key", "--type", "ml-dsa-65", "--no-passphrase", "--format", "json").json
    assert (made["type"], made["encrypted"]) == ("ml-dsa-65", False)
    assert KeySigner.from_file_bytes((wcp.folder / "pq.key").read_bytes()).trusted.key_id == made["key_id"]
    signers = "".join(f'[[namespace.signer]]\nkey = "{name}.pub"\n' for name in ("acme.key", "pq.key"))
    (wcp.folder / "hybrid.toml").write_text(f'version = 1\n[[namespace]]\nname = "org.acme"\nthreshold = 2\n{signers}')
    wcp.ok("sign", package, "--key", "pq.key", *IDENTITY)
    wcp.ok("verify", package, *WORKER, "--public-key", "pq.key.pub")
    assert wcp("verify", package, "--policy", "hybrid.toml").status == 1
    wcp.ok("sign", package, "--key", key)
    wcp.ok("verify", package, "--policy", "hybrid.toml")


def test_a_passphrase_beyond_ascii_is_the_same_everywhere(wcp: Command, package: Path) -> None:
    phrase = " p\u00e4ssw\u00f6rd \u043a\u043b\u044e\u0447 "
    (wcp.folder / "phrase").write_text(f"{phrase}\nthe second line is a note\n", encoding="utf-8")
    wcp.ok("keygen", "k", "--passphrase-file", "phrase")
    opened = subprocess.run(
        ["openssl", "pkey", "-in", "k", "-passin", "file:phrase", "-noout"],
        cwd=wcp.folder, capture_output=True, check=False,
    )  # fmt: skip
    assert opened.returncode == 0, opened.stderr
    wcp.ok("sign", package, "--key", "k", "--passphrase-file", "phrase", *IDENTITY)
    for language in (
        {"LC_ALL": "C"},
        {"LC_ALL": "C.UTF-8"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ):
        done = subprocess.run(
            [SCRIPT, "sign", str(package), "--key", "k"],
            cwd=wcp.folder, env={**wcp.environment(), **language, "WCP_ATTEST_KEY_PASSPHRASE": phrase},
            capture_output=True, text=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
