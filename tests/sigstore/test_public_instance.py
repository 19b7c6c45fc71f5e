"""Trust in a public instance comes through TUF; here a loopback repository stands in its place.

The library finds the repository by a constant, which the tests point elsewhere; all else is as in the field.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from sigstore.models import ClientTrustConfig

from tests.loopback_sigstore import DIRECT, Fault, LoopbackSigstore
from tests.sigstore.packages import BUILD, keyless_line, wcp_attest, write_package
from wcp_attest.base.errors import TrustUnusable
from wcp_attest.cli import main
from wcp_attest.package.signature_file import Line, parse_line
from wcp_attest.signing import SigstoreTrust
from wcp_attest.signing.sigstore import trusted_root as sigstore_trust
from wcp_attest.signing.sigstore.bundle import verify_bundle

if TYPE_CHECKING:
    from pathlib import Path

STATEMENT = (
    b'{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"manifest.json","digest":{"sha256":"%s"}}],'
    b'"predicateType":"https://acme.test/v1","predicate":{}}' % (b"0" * 64)
)


@pytest.fixture
def line(instance: LoopbackSigstore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Line:
    """Return a keyless line, and let the library take the loopback repository for the public instance's."""
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    url, root = instance.tuf_repository()
    (tmp_path / "root.json").write_bytes(root)
    ClientTrustConfig.from_tuf(url, bootstrap_root=tmp_path / "root.json")
    monkeypatch.setattr("sigstore.models.DEFAULT_TUF_URL", url)
    monkeypatch.setattr("sigstore.models.STAGING_TUF_URL", url)
    monkeypatch.setattr(sigstore_trust, "_remembered", {})
    return parse_line(keyless_line(instance, STATEMENT))


def asked(instance: LoopbackSigstore) -> int:
    return instance.requests.count("GET /tuf/timestamp.json")


@pytest.mark.parametrize("which", ["production", "staging"])
def test_the_root_is_fetched_once_for_many_lines(instance: LoopbackSigstore, line: Line, which: str) -> None:
    trust = SigstoreTrust(instance="staging" if which == "staging" else "production")
    before = asked(instance)
    for _ in range(3):
        assert verify_bundle(line, trust).by.identity == "https://ci.test/acme/worker"
    assert asked(instance) == before + 1


def test_a_root_that_cannot_be_fetched_is_asked_for_once_and_said_how_to_pin(
    instance: LoopbackSigstore, line: Line
) -> None:
    before = asked(instance)
    with instance.failing(Fault.TUF_500):
        for _ in range(3):
            with pytest.raises(TrustUnusable, match=r"production instance cannot be fetched.*pin a trusted root"):
                verify_bundle(line, SigstoreTrust())
    assert asked(instance) == before + 1


def test_a_root_is_fetched_again_when_it_is_old(
    instance: LoopbackSigstore, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify_bundle(line, SigstoreTrust())
    before, now = asked(instance), time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now + sigstore_trust.FRESH + 1)
    verify_bundle(line, SigstoreTrust())
    assert asked(instance) == before + 1


def test_a_home_that_cannot_be_written_to_is_said_to_be(
    line: Line, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "file" / name))
    with pytest.raises(TrustUnusable, match="pin a trusted root"):
        verify_bundle(line, SigstoreTrust())


def test_a_cached_root_that_somebody_replaced_is_not_believed(
    instance: LoopbackSigstore, line: Line, tmp_path: Path
) -> None:
    """The library reads the cached copy unverified when it is told to be offline; it is never told so."""
    verify_bundle(line, SigstoreTrust())
    sigstore_trust._remembered.clear()
    cached = list((tmp_path / "XDG_CACHE_HOME").rglob("trusted_root.json"))
    with LoopbackSigstore() as attacker:
        for path in cached:
            path.write_text(json.dumps(attacker.trusted_root()))
    assert cached
    assert verify_bundle(line, SigstoreTrust()).by.issuer == instance.issuer


def test_signing_with_the_public_instance_without_a_network_names_its_repository(
    instance: LoopbackSigstore, tmp_path: Path
) -> None:
    """A proxy that refuses connections stands for a network that is not there."""
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", **DIRECT, "HOME": str(tmp_path)}
    for flag, name in ((), "production"), (("--staging",), "staging"):
        failed = wcp_attest(
            "sign",
            write_package(tmp_path / "my-worker"),
            "--sigstore",
            *flag,
            *BUILD,
            "--identity-token",
            "-",
            env=nowhere,
            stdin=instance.token(),
        )
        assert failed.status == 2
        assert f"the update repository of Sigstore's {name} instance failed" in failed.err


def test_the_public_root_is_written_to_a_file_that_pins_it(
    instance: LoopbackSigstore, line: Line, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pinned = tmp_path / "trusted_root.json"
    assert main(["policy", "root", str(pinned)]) == 0
    assert verify_bundle(line, SigstoreTrust(pinned.read_bytes())).by.issuer == instance.issuer
    sigstore_trust._remembered.clear()
    with instance.failing(Fault.TUF_500):
        assert main(["policy", "root", str(tmp_path / "other.json")]) == 2
    assert "cannot be fetched" in capsys.readouterr().err
    assert not (tmp_path / "other.json").exists()
