"""`wcp-route rules check | coverage | test`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from wcp_attest.cli.text import count as counted
from wcp_route.cli.files import read_file
from wcp_route.cli.groups import HintingGroup
from wcp_route.cli.opening import opened, optional_hall_options, read_rules_file
from wcp_route.cli.say import format_option, say, say_json

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject, JsonValue

MAX_TESTS_BYTES = 16 << 20

rules_argument = click.argument("rules_path", metavar="RULES")


@click.group(cls=HintingGroup)
def rules() -> None:
    """Check, cover and test a rule set."""


@rules.command()
@rules_argument
@format_option
def check(rules_path: str, form: str) -> int:
    """Compile a rule set and prove every rule reachable. Exit 1 when one can never match."""
    found = read_rules_file(rules_path)
    if form == "json":
        shadows: list[JsonValue] = [
            {"rule_id": each.rule_id, "kind": each.kind, "covered_by": [*each.covered_by]} for each in found.shadows
        ]
        say_json({"rules": len(found.rules), "digest": found.digest, "shadows": shadows}, "rules-check")
    else:
        for shadow in found.shadows:
            say(str(shadow))
        say(f"{counted(len(found.rules), 'rule')}, {len(found.shadows)} unreachable, {found.digest}")
    return 1 if found.shadows else 0


@rules.command()
@rules_argument
@click.option("--strict", is_flag=True, help="Exit 1 when anything has no rule.")
@format_option
def coverage(rules_path: str, strict: bool, form: str) -> int:
    """List what no rule matches, by environment, label, risk and class. Such requests are denied."""
    gaps = read_rules_file(rules_path).gaps()
    status = 1 if strict and gaps else 0
    if form == "json":
        say_json(
            [
                {
                    "capability_id": gap.capability_id or None,
                    "no_rule": [*gap.cells],
                    **({"tenant_id": gap.tenant_id} if gap.tenant_id else {}),
                }
                for gap in gaps
            ],
            "rules-coverage",
        )
        return status
    for gap in gaps:
        for cell in gap.cells:
            who = f"tenant {gap.tenant_id}: " if gap.tenant_id else ""
            say(f"{who}{gap.capability_id or 'any other capability'}: {cell} has no rule")
    if not gaps:
        say("every request has a rule")
    return status


@rules.command()
@rules_argument
@click.argument("tests_path", metavar="TESTS")
@click.option("--goldens", metavar="FILE", help="Recorded answers to compare with.")
@click.option("--update", is_flag=True, help="Write the answers that the rules give now to the goldens file.")
@click.option(
    "--decisions",
    is_flag=True,
    help="Test whole decisions of the Hall that --config names. Nothing is dispatched or stored.",
)
@click.option("--every-rule", is_flag=True, help="Exit 1 when a rule is matched by no test.")
@optional_hall_options
@format_option
def test(
    rules_path: str,
    tests_path: str,
    goldens: str | None,
    update: bool,
    decisions: bool,
    every_rule: bool,
    form: str,
    **places: Any,
) -> int:
    """Run rule tests: each names a request and the answer it must get. Exit 1 when one differs or expects nothing."""
    from wcp_route.rules.rule_tests import compare, read_goldens, read_tests, run_tests, untested, write_goldens

    if update and goldens is None:
        raise click.UsageError("--update needs --goldens FILE")
    cases = read_tests(read_file(tests_path, limit=MAX_TESTS_BYTES, what="rule tests"))
    compiled = read_rules_file(rules_path)
    if decisions:
        with opened(rules_path=rules_path, rehearsal=True, **places) as each:
            answers = run_tests(compiled, cases, lambda asked, who: each.hall.explain(asked, principal=who).decision)
    else:
        answers = run_tests(compiled, cases)
    recorded = None
    if goldens is not None and update:
        write_goldens(goldens, answers)
        recorded = answers
    elif goldens is not None:
        recorded = read_goldens(read_file(goldens, limit=MAX_TESTS_BYTES, what="goldens"))
    problems = [*compare(cases, answers, recorded)]
    missed = untested(compiled, answers)
    if every_rule:
        problems += [f"rule {name}: no test matches it" for name in missed]
    covered = len(compiled.rules) - len(missed)
    if form == "json":
        counts: JsonObject = {"tests": len(cases), "rules": len(compiled.rules), "rules_matched": covered}
        say_json({**counts, "problems": [*problems], "rules_without_a_test": [*missed]}, "rules-test")
        return 1 if problems else 0
    for problem in problems:
        say(problem)
    matched = f"{covered} of {len(compiled.rules)} rules matched"
    say(f"{counted(len(cases), 'test')}, {len(problems)} wrong; {matched}")
    return 1 if problems else 0
