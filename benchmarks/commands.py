"""Which commands are compared on which trees: ours, and what the peers have that comes nearest."""

from __future__ import annotations

import base64
import json
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass

from benchmarks.measure import Series

IDENTITY = ["--worker-id", "org.acme.bench", "--species-id", "wrk.doc.bench", "--worker-version", "1"]
SECRET = {"WCP_ATTEST_HMAC_KEY": "a secret of the benchmark only"}
FLOOR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "floor.py")
WRITTEN = ("manifest.json", "manifest.sig")
SLOW_ROUNDS = 2  # of a peer that takes half a minute
PROGRESS_ROUNDS = 25  # a hundredth is to be seen


@dataclass(frozen=True)
class Ours:
    """The installed program, and the key it signs with.

    Attributes:
        programs: the directory of `wcp-attest` and the `python` that runs it.
        key: path of a private key without passphrase; the public one stands beside it.
    """

    programs: str
    key: str

    @classmethod
    def prepare(cls, programs: str, base: str) -> Ours:
        """Make a key below `base` unless there is one."""
        ours = cls(programs, os.path.join(base, "bench.key"))
        if not os.path.exists(ours.key):
            subprocess.run([ours.program, "keygen", ours.key, "--no-passphrase", "-q"], check=True)
        return ours

    @property
    def program(self) -> str:
        """The path of `wcp-attest`."""
        return os.path.join(self.programs, "wcp-attest")

    @property
    def python(self) -> str:
        """The path of the interpreter that runs it."""
        return os.path.join(self.programs, "python")

    def sign(
        self, tree: str, name: str = "wcp-attest sign", *, hmac: bool = False, options: tuple[str, ...] = ()
    ) -> Series:
        """Build the manifest of a tree without one, sign it, and check what was written."""
        signer = ["--hmac"] if hmac else ["--key", self.key]
        command = [self.program, "sign", tree, "--quiet", "--no-progress", *signer, *IDENTITY, *options]
        return Series(name, command, before=unsigned(tree), environment=SECRET if hmac else {})

    def verify(self, tree: str, name: str = "wcp-attest verify", *, hmac: bool = False) -> Series:
        """Verify what the series before has signed."""
        signer = ["--hmac"] if hmac else ["--public-key", f"{self.key}.pub"]
        command = [self.program, "verify", tree, "--quiet", "--no-progress", "--worker-id", IDENTITY[1], *signer]
        return Series(name, command, environment=SECRET if hmac else {})

    def hash(self, tree: str, name: str = "wcp-attest hash", *options: str) -> Series:
        """Compute the package hash only."""
        return Series(name, [self.program, "hash", tree, *options], before=unsigned(tree))


def unsigned(tree: str) -> list[str]:
    """Return the command that leaves a tree as it was built: no peer is to read what we have written into it."""
    return ["rm", "-f", *(os.path.join(tree, name) for name in WRITTEN)]


def five(ours: Ours, tree: str) -> list[Series]:
    """A package so small that starting is everything."""
    found = [
        Series("python -c pass", [ours.python, "-c", "pass"]),
        _files("sha256sum", tree, "", "sha256sum"),
        ours.sign(tree),
        ours.verify(tree),
        ours.sign(tree, "wcp-attest sign --hmac", hmac=True),
        ours.verify(tree, "wcp-attest verify --hmac", hmac=True),
    ]
    return found + [Series(f"wcp-attest {flag}", [ours.program, flag]) for flag in ("--help", "--version")]


def many(ours: Ours, tree: str) -> list[Series]:
    """Trees where opening files is what takes time."""
    return [
        _files("sha256sum -P2", tree, "-P2", "sha256sum"),
        _files("openssl dgst", tree, "", "openssl dgst -sha256"),
        _files("openssl dgst -P2", tree, "-P2", "openssl dgst -sha256"),
        *_b3sum(tree),
        Series("floor", [ours.python, "-I", "-S", FLOOR, tree], before=unsigned(tree)),
        ours.sign(tree),
        ours.verify(tree),
        ours.hash(tree),
        ours.hash(tree, "wcp-attest hash, one process", "--jobs", "1"),
        ours.hash(tree, "wcp-attest hash, BLAKE3", "--algorithm", "blake3"),
    ]


def large(ours: Ours, tree: str) -> list[Series]:
    """Trees where only the bytes count."""
    return [
        _files("openssl dgst", tree, "", "openssl dgst -sha256"),
        _files("openssl dgst -P2", tree, "-n1 -P2", "openssl dgst -sha256"),
        *_b3sum(tree),
        ours.sign(tree),
        ours.verify(tree),
        ours.sign(tree, "wcp-attest sign, BLAKE3", options=("--algorithm", "blake3")),
        ours.verify(tree, "wcp-attest verify, BLAKE3"),
    ]


def growth(ours: Ours, trees: dict[int, str]) -> list[Series]:
    """The same kind of tree in several sizes, which take turns."""
    found = []
    for files, tree in trees.items():
        for series in (ours.sign(tree, f"sign, {files:,} files"), ours.verify(tree, f"verify, {files:,} files")):
            series.files = files
            found.append(series)
    return found


def progress(ours: Ours, tree: str) -> list[Series]:
    """One command with its counter on a terminal, without, and without again: what measuring can tell."""
    subprocess.run(ours.sign(tree).command, check=True, stdout=subprocess.DEVNULL)
    shown, hidden, again = (ours.verify(tree, name) for name in ("shown", "not shown", "not shown, again"))
    shown.command = [word if word != "--no-progress" else "--progress" for word in shown.command]
    for one in (shown, hidden, again):
        one.command.append("--jobs=1")  # long enough for the counter to appear, and no helper's start in the figures
        one.terminal = True
    return [shown, hidden, again]


def model_signing(program: str, tree: str, *, rounds: int = SLOW_ROUNDS) -> list[Series]:
    """Return the nearest peer, signing and verifying with a key, once it has shown that it does."""
    key, signature = f"{tree}.p256.pem", f"{tree}.model.sig"
    if not os.path.exists(f"{key}.pub"):
        subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key], check=True)
        subprocess.run(["openssl", "ec", "-in", key, "-pubout", "-out", f"{key}.pub"], check=True, capture_output=True)
    sign = [program, "sign", "key", tree, "--signature", signature, "--private_key", key]
    verify = [program, "verify", "key", tree, "--signature", signature, "--public_key", f"{key}.pub"]
    return [
        Series("model-signing sign", sign, before=unsigned(tree), most=rounds),
        Series("model-signing verify", verify, before=unsigned(tree), most=rounds),
    ]


def prove_model_signing(program: str, tree: str) -> str:
    """See that the peer signs every file and refuses a tree that was changed; return its version."""
    copy = f"{tree}.changed"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(tree, copy)
    sign, verify = model_signing(program, copy)
    subprocess.run(sign.command, check=True, capture_output=True)
    subprocess.run(verify.command, check=True, capture_output=True)
    with open(f"{copy}.model.sig", encoding="utf-8") as file:
        statement = json.loads(base64.b64decode(json.load(file)["dsseEnvelope"]["payload"]))
    listed = len(statement["predicate"]["resources"])
    files = [os.path.join(folder, name) for folder, _, names in os.walk(copy) for name in names]
    with open(files[0], "ab") as file:
        file.write(b" ")
    refused = subprocess.run(verify.command, check=False, capture_output=True).returncode
    shutil.rmtree(copy)
    for suffix in (".p256.pem", ".p256.pem.pub", ".model.sig"):
        os.unlink(copy + suffix)
    if listed != len(files) or refused != 1:
        raise SystemExit(f"model-signing listed {listed} of {len(files)} files and answered {refused} to a changed one")
    return version([program, "--version"])


def version(command: list[str]) -> str:
    """Return the first line of what a program says of its version, empty when it is not there."""
    if shutil.which(command[0]) is None:
        return ""
    said = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    return said.splitlines()[0] if said else ""


def _b3sum(tree: str) -> list[Series]:
    return [_files("b3sum", tree, "", "b3sum")] if shutil.which("b3sum") else []


def _files(name: str, tree: str, options: str, program: str) -> Series:
    """Return a series that hands all files of a tree to a program."""
    command = f"find {shlex.quote(tree)} -type f -print0 | xargs -0 {options} {program}"
    return Series(name, ["sh", "-c", command], before=unsigned(tree))
