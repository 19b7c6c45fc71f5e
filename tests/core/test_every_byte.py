"""Every byte of a small package and of both its files, changed one at a time: refused, and nothing crashes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.trees import plant
from wcp_attest.base.errors import DenyCode
from wcp_attest.build import build_manifest
from wcp_attest.sign_package import sign
from wcp_attest.signing.hmac import HmacSecret
from wcp_attest.signing.key import KeySigner, generate
from wcp_attest.trust.policy import Accept, Namespace, Policy
from wcp_attest.verification import verify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wcp_attest.verdict import Verdict

FILES = {"code/run.py": b"import sys\n", "requirements.lock": b"", "weights.bin": bytes(range(40))}
WHO: dict[str, Any] = {
    "worker_id": "org.acme.summarizer",
    "worker_species_id": "wrk.doc.summarizer",
    "worker_version": "1.4.0",
    "built_at": 0.0,
}
SECRET = HmacSecret(b"0123456789abcdef0123456789abcdef")
NOW = 1_795_356_005.0
MASKS = (0x01, 0x20)  # another digit or letter; the other case


def changes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield every byte changed, every byte dropped, and every prefix, each with its position."""
    for position, byte in enumerate(data):
        before, after = data[:position], data[position + 1 :]
        for mask in MASKS:
            yield position, before + bytes([byte ^ mask]) + after
        yield position, before + after
        yield position, before


class Signed:
    """A signed package on disk, with the policy that trusts its signers."""

    def __init__(self, root: Path, *signers: HmacSecret | KeySigner) -> None:
        self.root = plant(root, FILES)
        (root / "cache").mkdir()
        (root / "link").symlink_to("code/run.py")
        sign(root, signers, manifest=build_manifest(root, **WHO), now=NOW)
        keys = tuple(signer.trusted if isinstance(signer, KeySigner) else signer for signer in signers)
        self.policy = Policy((Namespace("org.acme", keys=keys),), accept=Accept(schemas=("awp.v2", "awp.v1")))

    def verdict(self) -> Verdict:
        return verify(self.root, self.policy, now=NOW)

    def passing(self, name: str) -> set[int]:
        """Change every byte of a file and return the positions where the package still passed."""
        path = self.root / name
        data = path.read_bytes()
        passed = set()
        for position, changed in changes(data):
            path.write_bytes(changed)
            verdict = self.verdict()
            assert verdict.code is not DenyCode.INTERNAL_ERROR, (position, changed, verdict.message)
            if verdict.ok:
                passed.add(position)
        path.write_bytes(data)
        assert self.verdict().ok
        return passed


@pytest.mark.parametrize("name", FILES)
def test_no_changed_byte_of_the_package_passes(tmp_path: Path, name: str) -> None:
    assert Signed(tmp_path / "package", SECRET).passing(name) == set()


def test_no_byte_more_passes(tmp_path: Path) -> None:
    signed = Signed(tmp_path / "package", SECRET)
    for name in (*FILES, "manifest.json", "manifest.sig"):
        path = signed.root / name
        data = path.read_bytes()
        for more in (b"\n", b"\0", b" ", b"x"):
            path.write_bytes(data + more)
            assert not signed.verdict().ok, (name, more)
        path.write_bytes(data)
    assert signed.verdict().ok


def test_no_changed_byte_of_the_manifest_passes(tmp_path: Path) -> None:
    assert Signed(tmp_path / "package", SECRET).passing("manifest.json") == set()


@pytest.mark.parametrize("kind", ["hmac", "p256"])
def test_no_changed_byte_of_the_signature_file_passes(tmp_path: Path, kind: Literal["hmac", "p256"]) -> None:
    signed = Signed(tmp_path / "package", SECRET if kind == "hmac" else generate(kind))
    last = len((signed.root / "manifest.sig").read_bytes()) - 1  # the newline at the end carries nothing
    assert signed.passing("manifest.sig") <= {last}


def test_beside_another_signer_only_hints_carry_nothing(tmp_path: Path) -> None:
    """A line whose hint names nobody known is a stranger's line, and those are passed over.

    The hint (`publicKey.hint`, `keyid`) only helps to find the key; whoever can change it can as well drop the line.
    """
    signed = Signed(tmp_path / "package", SECRET, generate("ed25519"))
    data = (signed.root / "manifest.sig").read_bytes()
    lines = [json.loads(line) for line in data.splitlines()]
    hints = [lines[0]["signatures"][0]["keyid"], lines[1]["verificationMaterial"]["publicKey"]["hint"]]
    allowed = {position for hint in hints for position in _places(data, hint.encode())}
    ends = {position for position, byte in enumerate(data) if byte == ord("\n")}
    start_of_second = {data.index(b"\n") + 1}  # cut here, the first line stands alone and whole
    assert signed.passing("manifest.sig") <= allowed | ends | start_of_second


def _places(data: bytes, part: bytes) -> range:
    start = data.index(part)
    return range(start, start + len(part))
