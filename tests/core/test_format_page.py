"""`docs/format.md`: its examples are real, and the verifier it spells out agrees with this one on the vectors."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.vectors.by_key import TRUST
from tests.vectors.cases import policy
from tests.vectors.packages import SECRET, materialise_case, public_pem

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/format.md").read_text()
CASES = {path.stem: json.loads(path.read_bytes()) for path in (ROOT / "tests/vectors/cases").glob("*.json")}


def example(name: str) -> str:
    found = re.search(rf"<!-- example: {re.escape(name)} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found, name
    return found[1]


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """Run the page's Python, top to bottom."""
    names: dict[str, Any] = {"__name__": "page"}
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)):
        exec(compile(code, f"docs/format.md, block {number}", "exec"), names)
    return names


def test_the_manifest_and_the_lines_are_those_of_the_vectors() -> None:
    assert example("manifest.json") == CASES["hmac"]["manifest.json"]["text"]
    assert example("hmac") == CASES["hmac"]["manifest.sig"]["text"]
    assert example("key") == CASES["key-ed25519"]["manifest.sig"]["text"]
    assert example("awp1") == CASES["awp1-bytes"]["manifest.json"]["text"]
    payload = base64.b64decode(json.loads(example("hmac"))["payload"]).decode()
    assert example("statement") == payload + "\n"


def test_the_worked_examples_are_right(page: dict[str, Any]) -> None:
    records = example("records").replace("\n", "").replace("\\n", "\n")
    entries = json.loads(example("manifest.json"))["entries"]
    assert records == "".join(f"{path}\n{e['size']}\n{e['sha256']}\n" for path, e in entries.items() if "sha256" in e)
    package_hash = page["hashlib"].sha256(records.encode()).hexdigest()
    assert f"hash to `{package_hash}`" in PAGE
    encoded = page["pae"](page["PAYLOAD_TYPE"], example("statement").rstrip("\n").encode()).decode()
    assert encoded.startswith(example("pae").rstrip("\n"))
    assert SECRET in PAGE
    manifest = json.loads(example("awp1"))
    assert page["compact"]({name: manifest[name] for name in page["SIGNED"]}) == example("awp1-signed").rstrip("\n")
    assert page["awp1_signature"](manifest, SECRET.encode()) == manifest["signature_hmac_sha256"]


def comparable(vector: dict[str, Any]) -> bool:
    """Whether the page's verifier, which knows one signer and simple patterns, can answer a vector."""
    beyond = {"blake3", "excludes", "age-future", "built-future"}
    name = vector["name"].removeprefix("key-")
    return vector["policy"] in {policy(), TRUST} and not vector["expect"] and name not in beyond


@pytest.mark.parametrize("name", sorted(name for name, vector in CASES.items() if comparable(vector)))
def test_the_verifier_of_the_page_agrees(page: dict[str, Any], tmp_path: Path, name: str) -> None:
    vector = CASES[name]
    root, pair = materialise_case(vector, tmp_path / "package")
    by_key = vector["policy"] == TRUST
    signer = page["by_ed25519"](public_pem("ed25519")) if by_key else page["by_secret"](SECRET.encode())
    if vector["expected"]["ok"]:
        predicate = page["verify"](str(root), signer, "org.acme", pair and str(pair))
        assert predicate["worker_id"] == "org.acme.summarizer"
    else:
        with pytest.raises(page["Refused"]):
            page["verify"](str(root), signer, "org.acme", pair and str(pair))


def test_most_vectors_are_compared() -> None:
    assert sum(map(comparable, CASES.values())) > 160


def test_the_schemas_it_names_are_there() -> None:
    names = set(re.findall(r"\(schemas/([a-z0-9-]+\.json)\)", PAGE))
    assert names == {"manifest-v2.json", "statement.json", "manifest-v1.json"}
    assert all((ROOT / "docs/schemas" / name).is_file() for name in names)
