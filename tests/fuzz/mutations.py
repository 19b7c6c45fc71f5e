"""Change what a verifier reads, one random step after another, and check that only what may pass passes.

The base is a signed package with a policy and a signed ban list. Each round changes one of them: the manifest, the
signatures, the policy, the ban list, its signatures, the tree, or the manifest with a new signature over it. A changed
manifest, ban list or tree must be denied. Changed signatures may pass only when a line with an original payload and
signature is left: `docs/format.md` calls all else of a line a hint. A changed policy may pass only while it names no
other key. No input may end in a traceback or be called an internal error.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.cli.inprocess import ID, ok
from wcp_attest import load_policy, verify
from wcp_attest.base.errors import ConfigError, DenyCode, VerificationError
from wcp_attest.package.manifest import Manifest
from wcp_attest.package.signature_file import parse_lines
from wcp_attest.package.statement import Statement
from wcp_attest.signing.key import KeySigner
from wcp_attest.signing.signature_lines import make_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TOKENS: Final = (
    b'"', b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r\n", b"\0", b"\xff", b"null", b"true", b"1e999", b"-0",
    b"\\ud800",
    b"\\u0000", b"awp.v1", b"awp.v2", b"sha256", b"blake3", b"../", b"..", b".git/", b"\xe2\x80\xae", b"\xef\xbb\xbf",
    b"manifest.json", b'"executable":true', b"9" * 40, b"threshold = 0", b"[accept]\n", b"org.evil", b"*",
)  # fmt: skip
SIGNED: Final = "signed manifest"
FILES: Final = ("manifest", "signatures", "policy", "bans", "ban signatures")


@dataclass
class Counts:
    """What came of all rounds: how many of each target were denied, unusable, passed as allowed, or unchanged."""

    rounds: int = 0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.rounds} rounds, {len(self.failures)} failures"]
        lines += [f"  {target:<15} {outcome:<28} {n}" for (target, outcome), n in sorted(self.outcomes.items())]
        return "\n".join((*lines, *self.failures[:20]))


class Target:
    """A signed package with a policy and a ban list in a directory of its own, restored after each round."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.package = folder / "p"
        ok("keygen", "k", "--no-passphrase", cwd=folder)
        ok("keygen", "second", "--no-passphrase", cwd=folder)
        for name, data in (("run.py", b"print()\n"), ("data/a", b"a" * 100), ("data/b", b""), ("deep/er/c", b"\xff\n")):
            path = self.package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        (self.package / "run.py").chmod(0o755)
        (self.package / "link").symlink_to("data/a")
        (self.package / "empty").mkdir()
        ok("sign", "p", "--key", "k", "--key", "second", *ID, cwd=folder)
        ok("ban", "new", "bans.json", "--name", "acme", cwd=folder)
        for number in range(3):
            ok("ban", "add", "bans.json", "--worker", f"org.bad.w{number}", "--reason", "test", cwd=folder)
        ok("ban", "sign", "bans.json", "--key", "k", cwd=folder)
        ok(
            "policy", "init", "policy.toml", "--namespace", "org.acme", "--public-key", "k.pub",
            "--bans", "bans.json", "--ban-signer", "k.pub", "--state", "state", cwd=folder,
        )  # fmt: skip
        self.places = {
            "manifest": self.package / "manifest.json",
            "signatures": self.package / "manifest.sig",
            "policy": folder / "policy.toml",
            "bans": folder / "bans.json",
            "ban signatures": folder / "bans.json.sig",
        }
        self.original = {name: path.read_bytes() for name, path in self.places.items()}
        shutil.copytree(self.package, folder / "copy", symlinks=True)
        self.signer = KeySigner.from_file_bytes((folder / "k").read_bytes(), None, what="k")
        self.manifest = Manifest.from_bytes(self.original["manifest"])
        self.keys = load_policy(str(folder / "policy.toml")).keys

    def sign_changed(self, data: bytes) -> None:
        """Sign a changed manifest, as a signer with a broken or hostile tool would."""
        statement = Statement.of(self.manifest, data, signed_at_utc="2026-11-28T00:00:00Z")
        lines, _ = make_lines([self.signer], statement.to_bytes())
        self.places["manifest"].write_bytes(data)
        self.places["signatures"].write_bytes(b"".join(line + b"\n" for line in lines))

    def may_pass_signed(self, data: bytes) -> bool:
        """Tell whether a signed manifest may pass: it is in its one accepted spelling and lists this very tree."""
        try:
            changed = Manifest.from_bytes(data)
        except VerificationError:
            return False
        return changed.body == self.manifest.body and changed.worker_id == self.manifest.worker_id

    def judge(self) -> tuple[str, bool]:
        """Load the policy and verify, and return the outcome and whether the package passed."""
        try:
            policy = load_policy(str(self.folder / "policy.toml"))
        except ConfigError:
            return "policy unusable", False
        try:
            verdict = verify(str(self.package), policy)
        except ConfigError:
            return "not decided", False
        assert verdict.code is not DenyCode.INTERNAL_ERROR, verdict.message
        if verdict.ok:
            assert set(policy.keys) <= set(self.keys), "another key is trusted"
        return (verdict.code.value.lower().removeprefix("attest_") if verdict.code else "passed"), verdict.ok

    def may_pass(self, name: str, data: bytes) -> bool:
        """Tell whether a package may pass after one file was changed."""
        if data == self.original[name] or name == "policy":
            return True
        if name not in ("signatures", "ban signatures"):
            return False
        before = {line.envelope.payload + line.envelope.signature for line in parse_lines(self.original[name])}
        try:
            after = {line.envelope.payload + line.envelope.signature for line in parse_lines(data)}
        except VerificationError:
            return False
        return bool(before & after)

    def restore_tree(self) -> None:
        """Put the package back as it was."""
        shutil.rmtree(self.package)
        shutil.copytree(self.folder / "copy", self.package, symlinks=True)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return bytes that differ in one to four places, in one of the ways that files get damaged or forged."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(9):
            case 0 if data:
                at = min(at, len(data) - 1)
                data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
            case 1:
                data = data[:at] + data[at + rng.randrange(1, 20) :]
            case 2 | 3:
                data = data[:at] + rng.choice(TOKENS) + data[at + rng.randrange(3) :]
            case 4:
                data = data[:at]
            case 5:
                lines = data.splitlines(keepends=True)
                rng.shuffle(lines)
                data = b"".join(lines)
            case 6 if data:
                lines = data.splitlines(keepends=True)
                lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
                data = b"".join(lines)
            case 7 if data:
                lines = data.splitlines(keepends=True)
                del lines[rng.randrange(len(lines))]
                data = b"".join(lines)
            case _:
                data = data[:at] + bytes([rng.randrange(256)]) + data[at:]
    return data


def _inner(rng: random.Random) -> str:
    return rng.choice(("run.py", "data/a", "data/b", "deep/er/c"))


def _resize(root: Path, rng: random.Random) -> None:
    path = root / _inner(rng)
    path.write_bytes(path.read_bytes() + b"x" * rng.randrange(1, 5))


def _twist(root: Path, rng: random.Random) -> None:
    path = root / rng.choice(("run.py", "data/a", "deep/er/c"))
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data))


def _replace(root: Path, rng: random.Random, make: Callable[[Path], object]) -> None:
    path = root / _inner(rng)
    path.unlink()
    make(path)


def _relink(root: Path, _: random.Random) -> None:
    (root / "link").unlink()
    (root / "link").symlink_to("data/b")


def _compile(root: Path, _: random.Random) -> None:
    (root / "__pycache__").mkdir()
    (root / "__pycache__/run.cpython-311.pyc").write_bytes(b"")


TREE: Final[tuple[Callable[[Path, random.Random], object], ...]] = (
    _resize,
    _twist,
    lambda root, rng: (root / _inner(rng)).unlink(),
    lambda root, rng: (root / rng.choice(("new", "data/new", "deep/new", ".hidden", "Run.py", "a\nb"))).write_bytes(
        b""
    ),
    lambda root, rng: (root / _inner(rng)).rename(root / f"moved{rng.randrange(9)}"),
    lambda root, rng: (root / _inner(rng)).chmod(rng.choice((0o4755, 0o2755))),
    lambda root, _: (root / "run.py").chmod(0o644),
    lambda root, rng: (root / rng.choice(("data/a", "deep/er/c"))).chmod(0o755),
    lambda root, rng: _replace(root, rng, os.mkfifo),
    lambda root, rng: _replace(root, rng, os.mkdir),
    lambda root, rng: _replace(root, rng, lambda path: os.symlink(rng.choice(("/etc/passwd", "run.py", "x")), path)),
    lambda root, _: (root / "empty").rmdir(),
    lambda root, _: (root / "added").mkdir(),
    _relink,
    _compile,
    lambda root, _: os.truncate(root / "data/b", 1 << 40),
)


def run(folder: Path, *, seed: int, go_on: Callable[[int], bool]) -> Counts:
    """Run rounds.

    Args:
        folder: an empty directory.
        seed: of the random choices; the same seed gives the same rounds.
        go_on: told the number of the round, whether to run it.
    """
    rng = random.Random(seed)
    target, counts = Target(folder), Counts()
    assert target.judge() == ("passed", True)
    while go_on(counts.rounds):
        counts.rounds += 1
        name = rng.choice((*FILES, "tree", SIGNED))
        data = b""
        if name == "tree":
            rng.choice(TREE)(target.package, rng)
        elif name == SIGNED:
            data = mutate(target.original["manifest"], rng)
            target.sign_changed(data)
        else:
            data = mutate(target.original[name], rng)
            target.places[name].write_bytes(data)
        try:
            outcome, passed = target.judge()
            allowed = target.may_pass_signed(data) if name == SIGNED else name != "tree" and target.may_pass(name, data)
            if passed and not allowed:
                counts.failures.append(f"round {counts.rounds}: a changed {name} passed: {data[:200]!r}")
        except Exception as problem:  # noqa: BLE001  # any exception is what is looked for
            outcome = "crash"
            counts.failures.append(
                f"round {counts.rounds}: {name}: {type(problem).__name__}: {problem}: {data[:200]!r}"
            )
        counts.outcomes[name, outcome] += 1
        if name == "tree":
            target.restore_tree()
        for place, path in target.places.items():
            path.write_bytes(target.original[place])
    return counts
