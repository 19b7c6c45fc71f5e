"""SARIF and workflow commands: valid for their readers, whatever names a package has."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.composite_action.commands import parse
from wcp_attest.base.differences import Change, Difference
from wcp_attest.base.errors import DenyCode
from wcp_attest.cli.formats import render_report
from wcp_attest.cli.formats.report import MAX_FINDINGS, Report, from_verdict, place
from wcp_attest.verdict import SEAL, Verdict, Verified

SUBSET = json.loads((Path(__file__).parent / "sarif-subset.schema.json").read_text())
PROOF = Verified(
    "org.acme", "org.acme.w", "wrk.w", "1", "0" * 64, "sha256", "1" * 64, (), "2026-11-22T14:00:05Z", seal=SEAL
)
DIFFERENT = (
    Difference("code/run.py", Change.MODIFIED, "file, 2 bytes", "file, 3 bytes", "line endings converted"),
    Difference("new file.txt", Change.ADDED, found="file, 1 byte"),
)
DENIED = Verdict(None, DenyCode.HASH_MISMATCH, "2 entries differ", DIFFERENT, 2)


def sarif(report: Report) -> Any:
    document = json.loads(render_report(report, "sarif"))
    jsonschema.Draft202012Validator(SUBSET).validate(document)
    return document["runs"][0]


def test_a_pass_is_a_successful_run_without_results() -> None:
    run = sarif(from_verdict("pkg", Verdict(PROOF, message="attested"), 0))
    assert run["results"] == []
    assert run["invocations"] == [{"executionSuccessful": True, "exitCode": 0}]


def test_a_denial_has_one_result_for_the_package_and_one_for_each_file() -> None:
    run = sarif(from_verdict("pkg", DENIED, 1))
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["ATTEST_HASH_MISMATCH"]
    places = [result["locations"][0]["physicalLocation"]["artifactLocation"] for result in run["results"]]
    assert [place["uri"] for place in places] == ["pkg/manifest.json", "pkg/code/run.py", "pkg/new%20file.txt"]
    assert {place["uriBaseId"] for place in places} == {"%SRCROOT%"}
    assert "line endings converted" in run["results"][1]["message"]["text"]
    assert len({result["partialFingerprints"]["wcpAttest/v1"] for result in run["results"]}) == 3


def test_every_deny_code_can_be_reported() -> None:
    for code in DenyCode:
        run = sarif(from_verdict("pkg", Verdict(None, code, "because"), 1))
        assert run["results"][0]["ruleId"] == code.value


def test_what_could_not_be_decided_is_neither_success_nor_empty() -> None:
    run = sarif(from_verdict("pkg", Verdict(None, DenyCode.INTERNAL_ERROR, "broke"), 2))
    assert run["invocations"][0]["executionSuccessful"] is False
    assert run["invocations"][0]["exitCode"] == 2
    assert len(run["results"]) == 1


def test_the_number_of_results_is_bounded_and_the_rest_counted() -> None:
    many = tuple(Difference(f"{number:05}", Change.ADDED) for number in range(MAX_FINDINGS + 10))
    run = sarif(from_verdict("pkg", Verdict(None, DenyCode.HASH_MISMATCH, "many", many, 9000), 1))
    assert len(run["results"]) == MAX_FINDINGS
    assert f"{9000 - MAX_FINDINGS + 1} further" in run["results"][0]["message"]["text"]


def test_places_are_relative_to_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert place("a/b", "c") == place(str(tmp_path / "a/b"), "c") == place("./a//b/", "c") == "a/b/c"
    assert place(".", "c") == "c"
    assert place("/elsewhere/x", "c") == "/elsewhere/x/c"
    run = sarif(from_verdict("/elsewhere/x y", DENIED, 1))
    artifact = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert artifact == {"uri": "file:///elsewhere/x%20y/manifest.json"}


def test_annotations_for_the_decision_and_each_file() -> None:
    text = render_report(from_verdict("pkg", DENIED, 1), "github")
    commands = [parse(line) for line in text.splitlines()]
    assert [(command.name, command.properties["file"]) for command in commands if command] == [
        ("error", "pkg/manifest.json"),
        ("error", "pkg/code/run.py"),
        ("error", "pkg/new file.txt"),
    ]
    assert commands[0] is not None
    assert commands[0].data == "2 entries differ"
    assert (
        render_report(from_verdict("p", Verdict(PROOF, message="ok"), 0), "github") == "::notice title=wcp-attest::ok\n"
    )
    with pytest.raises(ValueError, match="unknown"):
        render_report(from_verdict("p", DENIED, 1), "xml")


NAMES = st.one_of(
    st.sampled_from(["a::b", "%0A::error::x", "##[set-output name=ok]1", "x,line=1::y", "-n", "C:x", "é\u202e"]),
    st.binary(min_size=1, max_size=20).map(os.fsdecode).filter(lambda name: "\0" not in name and "/" not in name),
)


@given(st.lists(NAMES, min_size=1, max_size=4))
def test_no_name_speaks_for_itself(names: list[str]) -> None:
    differences = tuple(Difference(name, Change.ADDED) for name in names)
    report = from_verdict("pkg", Verdict(None, DenyCode.HASH_MISMATCH, "differs", differences, len(names)), 1)
    lines = render_report(report, "github").split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(names) + 1
    for line in lines:
        command = parse(line)
        assert command is not None
        assert command.name == "error"
        assert set(command.properties) == {"file", "title"}
    for result, name in zip(sarif(report)["results"][1:], names, strict=True):
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert unquote_to_bytes(uri) == os.fsencode(os.path.normpath(f"pkg/{name}"))
