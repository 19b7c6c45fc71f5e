"""What the GitHub page gives to `gh`, as far as it can be looked at without GitHub."""

from __future__ import annotations

import json
import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs/howto/github.md").read_text()


def test_the_ruleset_restricts_every_change_of_the_tags_that_the_policy_trusts() -> None:
    body = re.search(r"rulesets --input - <<'JSON'\n(.*?)^JSON$", PAGE, re.MULTILINE | re.DOTALL)
    assert body is not None
    ruleset = json.loads(body[1])
    assert (ruleset["target"], ruleset["enforcement"]) == ("tag", "active")
    assert ruleset["conditions"] == {"ref_name": {"include": ["refs/tags/v*"], "exclude": []}}
    assert {rule["type"] for rule in ruleset["rules"]} == {"creation", "update", "deletion"}
    assert [actor["actor_type"] for actor in ruleset["bypass_actors"]] == ["RepositoryRole"]
