"""SARIF 2.1.0 (OASIS), the subset that code scanning shows; `tests/formats/sarif-subset.schema.json` says which."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from wcp_attest import __version__
from wcp_attest.base.errors import DenyCode
from wcp_attest.base.site import SITE, code_page
from wcp_attest.cli.text import json_text, visible

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject, JsonValue
    from wcp_attest.cli.formats.report import Finding, Report, ReportRule

SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_FINGERPRINT: Final = "wcpAttest/v1"


def to_sarif(report: Report) -> str:
    """Return a report as one SARIF log with one run.

    A decision that could not be reached is an invocation without success *and* a result.
    """
    rules = list(dict.fromkeys(finding.rule for finding in report.findings))
    invocation: JsonObject = {"executionSuccessful": report.decided, "exitCode": report.exit_status}
    if not report.decided:
        message: JsonObject = {"text": visible(report.summary) or "no message"}
        invocation["toolExecutionNotifications"] = [{"level": "error", "message": message}]
    driver: JsonObject = {"name": "wcp-attest", "version": __version__, "informationUri": SITE}
    run: JsonObject = {
        "tool": {"driver": {**driver, "rules": [_rule(rule) for rule in rules]}},
        "automationDetails": {"id": f"wcp-attest/{_uri(report.subject)}/"},
        "columnKind": "unicodeCodePoints",
        "invocations": [invocation],
        "results": [_result(finding, rules) for finding in report.findings],
    }
    return json_text({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})


def _uri(path: str) -> str:
    """Return a path as a relative reference or `file:` URI; bytes that are no UTF-8 are escaped as they are."""
    escaped = quote(os.fsencode(path.replace(os.sep, "/")))
    if escaped.startswith("/"):
        return f"file://{escaped}"
    # A colon in the first segment would read as a scheme (RFC 3986, 4.2); quote() has escaped it.
    return escaped


def _rule(rule: ReportRule) -> JsonValue:
    found: JsonObject = {
        "id": rule.id,
        "shortDescription": {"text": rule.what},
        "help": {"text": "\n".join(rule.advice) or rule.what},
        "defaultConfiguration": {"level": "error"},
    }
    return {**found, "helpUri": code_page(rule.id)} if rule.id in set(DenyCode) else found


def _result(finding: Finding, rules: list[ReportRule]) -> JsonValue:
    artifact: JsonObject = {"uri": _uri(finding.path)}
    if not finding.path.startswith("/"):
        artifact["uriBaseId"] = "%SRCROOT%"
    # The place and kind, not the contents: an alert stays one alert while the file goes on changing.
    identity = f"{finding.rule.id}\0{finding.path}".encode("utf-8", "surrogateescape")
    return {
        "ruleId": finding.rule.id,
        "ruleIndex": rules.index(finding.rule),
        "level": "error",
        "message": {"text": visible(finding.message) or "no message"},
        "locations": [{"physicalLocation": {"artifactLocation": artifact, "region": {"startLine": 1}}}],
        "partialFingerprints": {_FINGERPRINT: sha256(identity).hexdigest()},
    }
