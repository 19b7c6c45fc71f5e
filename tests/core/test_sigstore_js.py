"""Somebody else's verifier accepts what a key signed, as an ordinary public-key bundle over `manifest.json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests import js
from wcp_attest import build_manifest, sign
from wcp_attest.signing.key import KEY_TYPES, generate

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = js.needs_sigstore_js


# ML-DSA-65 is no key of Sigstore's; its signatures are held against another implementation's vectors.
@pytest.mark.parametrize("key_type", [kind for kind in KEY_TYPES if kind != "ml-dsa-65"])
def test_a_line_by_a_key_is_a_bundle_that_sigstore_js_verifies(tmp_path: Path, key_type: Any) -> None:
    package = tmp_path / "worker"
    package.mkdir()
    (package / "run").write_text("hello")
    manifest = build_manifest(
        package, worker_id="org.acme.summarizer", worker_species_id="wrk.doc.summarizer", worker_version="1"
    )
    key, stranger = generate(key_type), generate(key_type)
    sign(package, [key], manifest=manifest)
    line = (package / "manifest.sig").read_bytes().rstrip(b"\n")
    content = (package / "manifest.json").read_bytes()
    assert js.verify(line, content, public_key=key.public_pem()) == js.JsVerdict(ok=True)
    assert not js.verify(line, content, public_key=stranger.public_pem()).ok
    assert not js.verify(line, content.replace(b'"size":5', b'"size":6'), public_key=key.public_pem()).ok
