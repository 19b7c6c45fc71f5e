"""A short run of the mutation fuzz; `python -m tests.fuzz --minutes 10` runs it for longer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fuzz.mutations import FILES, SIGNED, run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("seed", [1, 2])
def test_only_what_may_pass_passes(tmp_path: Path, seed: int) -> None:
    counts = run(tmp_path, seed=seed, go_on=lambda number: number < 280)
    assert counts.failures == []
    denied = {name for name, outcome in counts.outcomes if outcome not in ("passed", "crash")}
    assert denied == {*FILES, "tree", SIGNED}, "every target was changed and denied at least once"
