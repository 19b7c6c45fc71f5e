"""Rules, compiled once: first match wins, every rule provably reachable.

For each capability a table says which rule decides in each of the 144 cells; a second table stands for every
capability that no rule names. The deciding rule is the earlier of the two, so a decision costs two look-ups whatever
the number of rules. The tables come out of one pass, in which each rule takes the cells that no earlier rule took.
A rule that takes none is dead, whether one earlier rule covers it or several do together (conformance row 8).
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from wcp_attest.base.errors import ConfigError
from wcp_route.rules.match_space import CELLS, EVERYWHERE, cell_of, cells_in, describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.base.strictjson import JsonValue
    from wcp_route.domain.decision import Candidate, Escalation, Preconditions
    from wcp_route.domain.values import RouteInput

MAX_RULES: Final = 65_000  # rule numbers are 16 bits in the tables
MAX_NAMED_COVERS: Final = 16  # of one dead rule; a message stays readable
_NONE: Final = 0xFFFF

ShadowKind: TypeAlias = Literal["duplicate", "pairwise", "union"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        rule_id: unique in its set.
        capabilities: which ones it is for; none means any.
        cells: where it matches, a set of `wcp_route.rules.match_space`.
        candidates: species in rank order.
        required_controls: folded, sorted.
        recommended_profiles: copied into the decision as they stand.
        escalation: what it says about people and policy.
        human_cells: cells in which `human_required_if` asks for a human.
        preconditions: what must be before anything runs.
        demands_artifact_hash: it says `must_record_artifact_hash_if_executes` itself, so a Hall for prod or edge must
            keep receipts.
    """

    rule_id: str
    capabilities: frozenset[str] | None
    cells: int
    candidates: tuple[Candidate, ...]
    required_controls: tuple[str, ...]
    recommended_profiles: tuple[JsonValue, ...]
    escalation: Escalation
    human_cells: int
    preconditions: Preconditions
    demands_artifact_hash: bool = False


@dataclass(frozen=True, slots=True)
class Shadow:
    """A rule that can never match, and the earlier rules that take all it could match.

    Attributes:
        rule_id: the dead rule.
        kind: the same match again, covered by one rule, or by several together.
        covered_by: ids of the covering rules in their order, at most 16.
    """

    rule_id: str
    kind: ShadowKind
    covered_by: tuple[str, ...]

    def __str__(self) -> str:
        names = ", ".join(f"`{name}`" for name in self.covered_by)
        return f"rule `{self.rule_id}` can never match: {names} take all of its cases ({self.kind})"


@dataclass(frozen=True, slots=True)
class Gap:
    """Cells without a rule.

    Attributes:
        capability_id: for which capability; empty for all those that no rule names.
        cells: in words, `prod/RESTRICTED`.
    """

    capability_id: str
    cells: tuple[str, ...]


class RuleSet:
    """Compiled rules. Immutable, safe to share between threads.

    Args:
        rules: in order of precedence.
        digest: `sha256:` of the document they come from.

    Raises:
        ConfigError: no rules, too many, or two with the same id.
    """

    __slots__ = ("_any", "_named", "digest", "rules", "shadows")

    def __init__(self, rules: Sequence[Rule], digest: str) -> None:
        _check(rules)
        self.rules = tuple(rules)
        self.digest = digest
        compiled = _Compiler(self.rules)
        self._any, self._named = compiled.any, compiled.named
        self.shadows = tuple(compiled.shadows)

    def match(self, request: RouteInput) -> Rule | None:
        """Return the first rule that matches, or none."""
        cell = cell_of(request.env, request.data_label, request.tenant_risk, request.qos_class)
        found = self._any[cell]
        named = self._named.get(request.capability_id)
        if named is not None and named[cell] < found:
            found = named[cell]
        return None if found == _NONE else self.rules[found]

    def gaps(self) -> tuple[Gap, ...]:
        """Return what no rule is for: first for unnamed capabilities, then for each named one, sorted."""
        open_to_any = _unset(self._any)
        gaps = [Gap("", describe(open_to_any))]
        gaps += [Gap(name, describe(open_to_any & _unset(self._named[name]))) for name in sorted(self._named)]
        return tuple(gap for gap in gaps if gap.cells)


def _check(rules: Sequence[Rule]) -> None:
    if not rules:
        raise ConfigError("the rule set is empty: every request would be refused; add a rule")
    if len(rules) > MAX_RULES:
        raise ConfigError(f"the rule set has {len(rules)} rules; at most {MAX_RULES} are accepted")
    seen: set[str] = set()
    for rule in rules:
        if rule.rule_id in seen:
            raise ConfigError(f"two rules are called `{rule.rule_id}`; rename one")
        seen.add(rule.rule_id)


def _unset(table: array[int]) -> int:
    return sum(1 << cell for cell, number in enumerate(table) if number == _NONE)


class _Compiler:
    """One pass over the rules. `taken` and `taken_any` are the cells that earlier rules took."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.any = array("H", [_NONE]) * CELLS
        self.named: dict[str, array[int]] = {}
        self.shadows: list[Shadow] = []
        self._rules = rules
        self._taken: dict[str, int] = {}
        self._taken_any = 0
        self._matches: dict[tuple[frozenset[str] | None, int], str] = {}
        for number, rule in enumerate(rules):
            alive = self._take_any(number, rule) if rule.capabilities is None else self._take_named(number, rule)
            if not alive:
                self.shadows.append(self._shadow(rule))
            self._matches.setdefault((rule.capabilities, rule.cells), rule.rule_id)

    def _take_any(self, number: int, rule: Rule) -> bool:
        """A capability that no rule names always exists, so only earlier rules for any capability count."""
        new = rule.cells & ~self._taken_any
        self._taken_any |= new
        for cell in cells_in(new):
            self.any[cell] = number
        return new != 0

    def _take_named(self, number: int, rule: Rule) -> bool:
        alive = False
        for name in rule.capabilities or ():
            new = rule.cells & ~self._taken_any & ~self._taken.get(name, 0)
            if new:
                alive = True
                self._taken[name] = self._taken.get(name, 0) | new
                self._set(name, new, number)
        return alive

    def _set(self, name: str, new: int, number: int) -> None:
        if new == EVERYWHERE:
            self.named[name] = array("H", [number]) * CELLS
            return
        table = self.named.get(name)
        if table is None:
            table = self.named[name] = array("H", [_NONE]) * CELLS
        for cell in cells_in(new):
            table[cell] = number

    def _shadow(self, rule: Rule) -> Shadow:
        twin = self._matches.get((rule.capabilities, rule.cells))
        if twin is not None:
            return Shadow(rule.rule_id, "duplicate", (twin,))
        numbers = sorted(self._covering(rule))
        whole = [number for number in numbers if _covers(self._rules[number], rule)]
        names = tuple(self._rules[number].rule_id for number in (whole[:1] or numbers[:MAX_NAMED_COVERS]))
        return Shadow(rule.rule_id, "pairwise" if whole else "union", names)

    def _covering(self, rule: Rule) -> set[int]:
        """Return the rules that decide where this one would; every one of its cells has such a rule."""
        cells = cells_in(rule.cells)
        if rule.capabilities is None:
            return {self.any[cell] for cell in cells}
        found: set[int] = set()
        for name in rule.capabilities:
            table = self.named.get(name, self.any)
            found |= {min(table[cell], self.any[cell]) for cell in cells}
        return found


def _covers(early: Rule, late: Rule) -> bool:
    if late.cells & ~early.cells:
        return False
    if early.capabilities is None:
        return True
    return late.capabilities is not None and late.capabilities <= early.capabilities
