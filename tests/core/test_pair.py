"""A pair without its tree: the same refusals as with it, and never a `Verified`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from wcp_attest import HmacSecret, Namespace, Policy, Verified, check_pair, sign
from wcp_attest.base.errors import IdentityMismatch, SignatureInvalid, SignatureMissing, VerificationError
from wcp_attest.build import build_manifest
from wcp_attest.verdict import Expectation

if TYPE_CHECKING:
    from pathlib import Path

SECRET = HmacSecret(b"a secret of more than sixteen bytes")
POLICY = Policy((Namespace("org.acme", keys=(SECRET,)),))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[bytes, bytes]:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.py").write_text("print()\n")
    manifest = build_manifest(
        tmp_path / "p",
        worker_id="org.acme.w",
        worker_species_id="wrk.doc.w",
        worker_version="1.0",
        built_at=1_700_000_000,
    )
    sign(tmp_path / "p", [SECRET], manifest=manifest)
    return (tmp_path / "p" / "manifest.json").read_bytes(), (tmp_path / "p" / "manifest.sig").read_bytes()


def test_tells_what_was_signed_and_is_no_proof_of_a_tree(pair: tuple[bytes, bytes]) -> None:
    signed = check_pair(*pair, POLICY)
    assert (signed.worker_id, signed.worker_version, list(signed.entries)) == ("org.acme.w", "1.0", ["a.py"])
    assert type(signed).__name__ != Verified.__name__


def test_refuses_each_changed_byte_of_the_manifest(pair: tuple[bytes, bytes]) -> None:
    manifest, signatures = pair
    for at in range(0, len(manifest), 7):
        changed = manifest[:at] + bytes([manifest[at] ^ 1]) + manifest[at + 1 :]
        with pytest.raises(VerificationError):
            check_pair(changed, signatures, POLICY)


def test_refuses_a_pair_that_is_cut_short_or_by_a_stranger(pair: tuple[bytes, bytes]) -> None:
    manifest, signatures = pair
    with pytest.raises(SignatureMissing):
        check_pair(manifest, b"", POLICY)
    with pytest.raises(SignatureInvalid):
        check_pair(manifest, signatures[:-10], POLICY)
    stranger = Policy((Namespace("org.acme", keys=(HmacSecret(b"another secret of enough bytes"),)),))
    with pytest.raises(VerificationError):
        check_pair(manifest, signatures, stranger)
    with pytest.raises(IdentityMismatch):
        check_pair(manifest, signatures, POLICY, expect=Expectation(worker_id="org.acme.other"))
