"""`verify --format sarif` and `--format github` as programs see them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest

from tests import forked
from tests.composite_action.commands import parse
from wcp_attest.base.site import SITE

if TYPE_CHECKING:
    import subprocess

ROOT = Path(__file__).parents[2]
SUBSET = json.loads((Path(__file__).parent / "sarif-subset.schema.json").read_text())
WORKER = "org.acme.worker"


def wcp(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return forked.run(arguments, cwd=folder, env=os.environ)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a signed package and its public key."""
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/data").write_text("1\n")
    assert wcp(tmp_path, "keygen", "key", "--no-passphrase").returncode == 0
    ids = ("--worker-id", WORKER, "--species-id", "wrk.doc.worker", "--worker-version", "1")
    signed = wcp(tmp_path, "sign", "pkg", "--key", "key", *ids)
    assert signed.returncode == 0, signed.stderr
    return tmp_path


def verify(folder: Path, how: str, *more: str) -> subprocess.CompletedProcess[str]:
    return wcp(folder, "verify", "pkg", "--public-key", "key.pub", "--worker-id", WORKER, "--format", how, *more)


def test_sarif_of_a_pass_and_of_a_denial(folder: Path) -> None:
    passed = verify(folder, "sarif")
    assert passed.returncode == 0
    jsonschema.validate(json.loads(passed.stdout), SUBSET)
    assert json.loads(passed.stdout)["runs"][0]["results"] == []
    (folder / "pkg/data").write_text("2\n")
    (folder / "pkg/##[error]x").write_text("")
    denied = verify(folder, "sarif", "--output", "denied.sarif")
    assert (denied.returncode, denied.stdout) == (1, "")
    document = json.loads((folder / "denied.sarif").read_text())
    jsonschema.validate(document, SUBSET)
    places = [result["locations"][0]["physicalLocation"] for result in document["runs"][0]["results"]]
    assert [place["artifactLocation"]["uri"] for place in places] == [
        "pkg/manifest.json", "pkg/%23%23%5Berror%5Dx", "pkg/data",
    ]  # fmt: skip


def test_annotations_of_a_pass_and_of_a_denial(folder: Path) -> None:
    assert verify(folder, "github").stdout.startswith(
        "::notice title=wcp-attest::Package attested by namespace org.acme"
    )
    (folder / "pkg/data").write_text("2\n")
    (folder / "pkg/##[error]x").write_text("")
    denied = verify(folder, "github")
    assert denied.returncode == 1
    commands = [parse(line) for line in denied.stdout.splitlines()]
    assert [command.properties["file"] for command in commands if command] == [
        "pkg/manifest.json", "pkg/##[error]x", "pkg/data",
    ]  # fmt: skip


@pytest.mark.parametrize("how", ["sarif", "github"])
def test_what_cannot_be_decided_prints_no_report_that_could_pass_for_one(folder: Path, how: str) -> None:
    done = wcp(folder, "verify", "pkg", "--policy", "absent.toml", "--format", how)
    assert (done.returncode, done.stdout) == (2, "")
    assert "absent.toml" in done.stderr


def test_a_denial_names_the_page_of_its_code_in_text_and_json(folder: Path) -> None:
    passed = json.loads(verify(folder, "json").stdout)
    assert (passed["code"], passed["code_url"]) == (None, None)
    (folder / "pkg/data").write_text("3\n")
    page = f"{SITE}codes/ATTEST_HASH_MISMATCH/"
    assert verify(folder, "text").stdout.endswith(f"says more; an example:\n    {page}\n")
    assert json.loads(verify(folder, "json").stdout)["code_url"] == page


def test_sarif_names_the_page_of_each_code(folder: Path) -> None:
    (folder / "pkg/data").write_text("3\n")
    driver = json.loads(verify(folder, "sarif").stdout)["runs"][0]["tool"]["driver"]
    assert driver["informationUri"] == SITE
    assert [rule["helpUri"] for rule in driver["rules"]] == [f"{SITE}codes/ATTEST_HASH_MISMATCH/"]
    explained = json.loads(wcp(folder, "explain", "hash-mismatch", "--format", "json").stdout)
    assert explained["codes"][0]["url"] == f"{SITE}codes/ATTEST_HASH_MISMATCH/"
    assert explained["codes"][0]["url"] in wcp(folder, "explain", "hash-mismatch").stdout
