"""The schemas by which editors check `policy.toml` and `wcp-attest.toml`, against the parsers themselves."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from wcp_attest import ConfigError
from wcp_attest.advice.project_config import parse_config
from wcp_attest.signing.key import generate
from wcp_attest.trust.policy_file import parse_policy

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
KEYS: dict[str, bytes] = {}
POLICY = """
version = 1
[sigstore]
require_timestamp = true
instance = "staging"
[accept]
schemas = ["awp.v2"]
excludes = false
max_age = "400d"
permissions = "strict"
[bans]
max_age = "24h"
threshold = 1
refresh = "5m"
state = "state"
signer = [{ key = "soc.pub" }]
source = [{ file = "bans.json", compiled = "bans.idx" }, { file = "own.json", signed = false },
          { url = "https://acme.example/bans.json" }, { registry = "https://registry.example", signed = false }]
[registry]
require = true
url = "https://registry.example"
timeout = "10s"
[[namespace]]
name = "org.acme"
threshold = 2
signer = [{ key = "a.pub" }, { hmac = { env = "SECRET" } },
          { sigstore = { issuer = "https://accounts.example.com", identity = "a@acme.example" } },
          { sigstore = { issuer = "https://gitlab.com", repository = "https://gitlab.com/a/b", ref = "refs/tags/*" } }]
"""
CONFIG = """
[[package]]
path = "workers/a"
worker_id = "org.acme.a"
species_id = "wrk.a"
worker_version = "1.0.0"
exclude = ["*.log"]
algorithm = "blake3"
bytecode = "leave"
allow_twins = true
[[package]]
path = "."
"""


def schema(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((ROOT / f"wcp_attest/schemas/{name}.json").read_text()))


def as_toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {as_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(value)


def to_bytes(document: dict[str, Any]) -> bytes:
    return "".join(f"{json.dumps(key)} = {as_toml(value)}\n" for key, value in document.items()).encode()


def parses(name: str, document: dict[str, Any]) -> bool:
    def read(file: str, limit: int, what: str) -> bytes:
        del limit, what
        return KEYS.setdefault(file, generate().public_pem())

    try:
        if name == "policy":
            parse_policy(to_bytes(document), read=read, environ={"SECRET": "0" * 32, "X": "1" * 32, "HOME": "/"})
        else:
            parse_config(to_bytes(document), name="wcp-attest.toml")
    except ConfigError:
        return False
    return True


def changed(value: Any) -> Iterator[Any]:
    """Yield copies of a document with one thing missing, unknown or of another kind."""
    if isinstance(value, dict):
        yield {**value, "unknown": 1}
        for key, item in value.items():
            yield {name: other for name, other in value.items() if name != key}
            for other in changed(item):
                yield {**value, key: other}
    elif isinstance(value, list):
        yield []
        for number, item in enumerate(value):
            for other in changed(item):
                yield [*value[:number], other, *value[number + 1 :]]
    else:
        for other in ("", "x", 0, 7, True, False, [], {}, [1], "refs/x*y", "400d", "org.acme"):
            if other != value:
                yield copy.copy(other)


@pytest.mark.parametrize(("name", "text"), [("policy", POLICY), ("project-config", CONFIG)])
def test_what_the_parser_takes_the_schema_takes(name: str, text: str) -> None:
    document, check = tomllib.loads(text), schema(name)
    assert check.is_valid(document)
    assert parses(name, document)
    seen = {True: 0, False: 0}
    for other in changed(document):
        good = parses(name, other)
        seen[good] += 1
        if good:
            assert check.is_valid(other), other
    assert seen[True] > 10
    assert seen[False] > 50


@pytest.mark.parametrize(("name", "text"), [("policy", POLICY), ("project-config", CONFIG)])
def test_unknown_keys_and_wrong_kinds_are_marked_in_the_editor(name: str, text: str) -> None:
    check = schema(name)
    marked = missed = 0
    for other in changed(tomllib.loads(text)):
        if parses(name, other):
            continue
        if check.is_valid(other):
            missed += 1
        else:
            marked += 1
    assert marked > 8 * missed, (marked, missed)  # what only the parser knows: names, URLs, files, counts


def documents() -> Iterator[tuple[str, str, str]]:
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for number, block in enumerate(re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)):
            if "[[namespace]]" in block and "version = 1" in block:
                yield f"{page.name} {number}", "policy", block
            elif block.lstrip().startswith("[[package]]"):
                yield f"{page.name} {number}", "project-config", block


@pytest.mark.parametrize(("place", "name", "text"), list(documents()))
def test_the_examples_of_the_pages_are_valid(place: str, name: str, text: str) -> None:
    assert place
    problems = [error.message for error in schema(name).iter_errors(tomllib.loads(text))]
    assert problems == []
