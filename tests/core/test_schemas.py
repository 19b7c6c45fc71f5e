"""The published schemas accept what is written and refuse what is refused."""

from __future__ import annotations

import base64
import copy
import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator

from tests.core.strategies import manifests
from tests.trees import SIMPLE, plant
from wcp_attest import legacy_tree
from wcp_attest.base.characters import HIDDEN
from wcp_attest.base.errors import VerificationError
from wcp_attest.base.site import SITE
from wcp_attest.build import build_manifest
from wcp_attest.package import legacy_manifest as awp1
from wcp_attest.package.provenance import AiOrigin, SourceOrigin
from wcp_attest.package.statement import Statement
from wcp_attest.sign_package import sign
from wcp_attest.signing.hmac import HmacSecret

if TYPE_CHECKING:
    from collections.abc import Callable

    from wcp_attest.package.manifest import Manifest

HERE = Path(__file__).parents[2]
PACKAGED, PUBLISHED = HERE / "wcp_attest" / "schemas", HERE / "docs" / "schemas"
SECRET = HmacSecret(b"0123456789abcdef")
WHO: dict[str, Any] = {
    "worker_id": "org.acme.summarizer",
    "worker_species_id": "wrk.doc.summarizer",
    "worker_version": "1.4.0",
    "built_at": 0.0,
}
DIGEST = "ab" * 32


@cache
def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((PACKAGED / f"{name}.json").read_bytes()))


def accepts(name: str, document: object) -> bool:
    return bool(validator(name).is_valid(document))


@pytest.mark.parametrize("path", sorted(PACKAGED.glob("*.json")), ids=lambda path: path.name)
def test_every_schema_is_one_and_is_published(path: Path) -> None:
    schema = json.loads(path.read_bytes())
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"{SITE}schemas/{path.name}"
    assert schema["title"]
    assert (PUBLISHED / path.name).read_bytes() == path.read_bytes()  # cp wcp_attest/schemas/*.json docs/schemas/


def test_nothing_else_is_published() -> None:
    assert {path.name for path in PUBLISHED.iterdir()} == {path.name for path in PACKAGED.iterdir()}


def test_the_schema_hides_no_other_characters_than_the_code() -> None:
    schema = json.loads((PACKAGED / "manifest-v2.json").read_bytes())
    for name in ("text", "path"):
        pattern = schema["$defs"][name]["pattern"]
        for code in [
            *range(0x3000),
            *range(0xF000, 0x10000),
            *range(0x13000, 0x14000),
            *range(0xE0000, 0xE1001),
            0x1F600,
        ]:
            hidden = re.search(f"[{HIDDEN}]", chr(code)) is not None or (name == "path" and chr(code) in "\\/")
            assert (re.search(pattern, chr(code)) is None) == hidden or chr(code) == ".", (name, hex(code))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = plant(tmp_path_factory.mktemp("p") / "p", {**SIMPLE, ".git/config": b""})
    (root / "code/bootstrap.py").chmod(0o755)
    (root / "link").symlink_to("code")
    (root / "empty").mkdir()
    return root


@pytest.fixture(scope="module")
def documents(package: Path) -> dict[str, Any]:
    ai, source = AiOrigin(generated=True, service="s", model="m", session_fingerprint="f"), SourceOrigin("r", "9f" * 20)
    signed = sign(package, [SECRET], manifest=build_manifest(package, **WHO, ai=ai, source=source), now=0)
    line = json.loads((package / "manifest.sig").read_bytes())
    (package / "link").unlink()
    (package / "empty").rmdir()
    (package / ".git/config").unlink()
    (package / ".git").rmdir()
    return {
        "manifest-v2": json.loads(signed.manifest.to_bytes()),
        "manifest-v1": json.loads(legacy_tree.build(package, **WHO, secret=SECRET)),
        "statement": json.loads(base64.b64decode(line["payload"])),
    }


@pytest.mark.parametrize("name", ["manifest-v2", "manifest-v1", "statement"])
def test_what_is_written_is_accepted(documents: dict[str, Any], name: str) -> None:
    validator(name).validate(documents[name])


@given(manifests())
def test_every_manifest_is_accepted_when_its_worker_has_a_namespace(manifest: Manifest) -> None:
    validator("manifest-v2").validate(json.loads(manifest.to_bytes()))


BROKEN: dict[str, list[Callable[[Any], object]]] = {
    "manifest-v2": [
        *(lambda d, name=name: d.pop(name) for name in ("schema_version", "worker_id", "excludes", "entries")),
        lambda d: d.update(extra=1),
        lambda d: d.update(schema_version="awp.v1"),
        lambda d: d.update(worker_id="org.acme"),
        lambda d: d.update(worker_id="wrk.acme.x"),
        lambda d: d.update(worker_id="org.acme.summarizer\n"),
        lambda d: d.update(worker_id="org.acme." + "x" * 128),
        lambda d: d.update(worker_species_id="wrk"),
        lambda d: d.update(worker_version=""),
        lambda d: d.update(built_at_utc="2026-11-22T24:00:00Z"),
        lambda d: d.update(built_at_utc="2026-11-22T14:00:00+00:00"),
        lambda d: d.update(build_source="x"),
        lambda d: d.update(hash_algorithm="md5"),
        lambda d: d.update(hash_algorithm="blake3"),
        lambda d: d.update(package_hash=DIGEST.upper()),
        lambda d: d.update(package_hash=DIGEST + "\n"),
        lambda d: d.update(excludes=["a", "a"]),
        lambda d: d.update(excludes=[""]),
        lambda d: d.update(excludes=["a\n"]),
        lambda d: d.update(excludes=["x" * 513]),
        lambda d: d.update(excludes=[str(number) for number in range(1001)]),
        lambda d: d.update(ai={}),
        lambda d: d.update(ai=None),
        lambda d: d["ai"].update(prompt="x"),
        lambda d: d.update(source={}),
        lambda d: d["source"].update(commit="main"),
        lambda d: d.update(entries={}),
        lambda d: d.update(entries=[]),
        *(
            lambda d, path=path: d["entries"].update({path: {"directory": True}})
            for path in ("", ".", "..", "/a", "a/", "a//b", "a/../b", "./a", "a\\b", "a\nb", "a\u202eb", "a\n")
        ),
        *(
            lambda d, entry=entry: d["entries"].update(a=entry)
            for entry in (
                {},
                None,
                {"directory": False},
                {"symlink": "/etc"},
                {"symlink": ""},
                {"symlink": "x", "size": 1},
                {"sha256": DIGEST},
                {"size": 1},
                {"sha256": DIGEST, "size": -1},
                {"sha256": DIGEST, "size": 1.5},
                {"sha256": DIGEST, "size": 2**53},
                {"sha256": DIGEST, "size": 1, "executable": False},
                {"sha256": DIGEST, "size": 1, "mode": 420},
                {"sha256": DIGEST, "blake3": DIGEST, "size": 1},
                {"blake3": DIGEST, "size": 1},
            )
        ),
    ],
    "manifest-v1": [
        *(lambda d, name=name: d.pop(name) for name in ("package_hash", "signature_hmac_sha256", "worker_id")),
        lambda d: d.update(extra=1),
        lambda d: d.update(schema_version="awp.v2"),
        lambda d: d.update(worker_version="1<2"),
        lambda d: d.update(trust_statement=None),
        lambda d: d.update(signature_hmac_sha256=DIGEST.upper()),
    ],
    "statement": [
        *(lambda d, name=name: d.pop(name) for name in ("_type", "subject", "predicateType", "predicate")),
        lambda d: d.update(extra=1),
        lambda d: d.update(_type="https://in-toto.io/Statement/v0.1"),
        lambda d: d.update(predicateType="https://slsa.dev/provenance/v1"),
        lambda d: d.update(subject=[]),
        lambda d: d["subject"].append(d["subject"][0]),
        lambda d: d["subject"][0].update(name="other.json"),
        lambda d: d["subject"][0].update(uri="x"),
        lambda d: d["subject"][0]["digest"].update(sha512=DIGEST * 2),
        lambda d: d["subject"][0]["digest"].update(sha256=DIGEST.upper()),
        lambda d: d["predicate"].pop("signed_at_utc"),
        lambda d: d["predicate"].update(extra="x"),
        lambda d: d["predicate"].update(hash_algorithm="md5"),
    ],
}


def read_v1(data: bytes) -> None:
    awp1.check_signature(awp1.parse(data), SECRET.secret)


READERS: dict[str, Callable[[bytes], object]] = {"manifest-v1": read_v1, "statement": Statement.from_bytes}


@pytest.mark.parametrize(("name", "number"), [(name, number) for name in BROKEN for number in range(len(BROKEN[name]))])
def test_what_is_broken_is_refused_by_the_schema_and_by_the_reader(
    documents: dict[str, Any], name: str, number: int
) -> None:
    document = copy.deepcopy(documents[name])
    BROKEN[name][number](document)
    assert not accepts(name, document)
    if name in READERS:  # the reader of awp.v2 refuses every other spelling anyhow
        with pytest.raises(VerificationError):
            READERS[name](json.dumps(document).encode())
