"""Rules, compiled once: the first match wins, and each rule is proved reachable or reported.

For each capability a table says which rule decides in each of the 144 cells; a second table stands for every
capability that no rule names. The deciding rule is the earlier of the two, so a decision costs two look-ups whatever
the number of rules. The tables come out of one pass, in which each rule takes the cells that no earlier rule took.
A rule that takes none is dead, whether one earlier rule covers it or several do together (conformance row 8).

Rules may name tenants. Each tenant that a rule names has its own pair of tables, and one more pair is for all other
tenants. A rule is dead only if it takes no cell for any of its tenants.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from wcp_attest.base.errors import ConfigError
from wcp_route.rules.match_space import CELLS, EVERYWHERE, cell_of, cells_in, describe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wcp_attest.base.strictjson import JsonValue
    from wcp_route.domain.decision import Candidate, Escalation, Preconditions
    from wcp_route.domain.values import RouteInput

MAX_RULES: Final = 65_000  # rule numbers are 16 bits in the tables
MAX_TENANTS: Final = 1000  # that the rules of one set name
MAX_WORK: Final = 2_000_000  # rules times named tenants, each of which is compiled
MAX_TABLES: Final = 1_000_000  # capabilities times tenants, over all rules; each takes half a kilobyte
MAX_NAMED_COVERS: Final = 16  # of one dead rule; a message stays readable
_NONE: Final = 0xFFFF

ShadowKind: TypeAlias = Literal["duplicate", "pairwise", "union"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        rule_id: unique in its set.
        capabilities: which ones it is for; None means any.
        cells: where it matches, a set of `wcp_route.rules.match_space`.
        candidates: species in rank order.
        required_controls: folded, sorted.
        recommended_profiles: copied into the decision as they stand.
        escalation: what it says about people and policy.
        human_cells: cells in which `human_required_if` asks for a human.
        preconditions: what must be true before the worker runs.
        demands_artifact_hash: the rule itself sets `must_record_artifact_hash_if_executes`, so a Hall for prod or edge
            must keep receipts.
        tenants: the tenants that it is for; None means all.
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
    tenants: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Shadow:
    """A rule that can never match, and the earlier rules that take all its cells.

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
        tenant_id: for which tenant, if its gaps differ from those of tenants that no rule names; empty for the latter.
    """

    capability_id: str
    cells: tuple[str, ...]
    tenant_id: str = ""


class RuleSet:
    """Compiled rules. Immutable, safe to share between threads.

    Args:
        rules: in order of precedence.
        digest: `sha256:` of the document they come from.

    Raises:
        ConfigError: no rules, too many, or two with the same id.
    """

    __slots__ = ("_others", "_tenants", "digest", "rules", "shadows")

    def __init__(self, rules: Sequence[Rule], digest: str) -> None:
        if not rules:
            raise ConfigError("the rule set is empty: every request would be refused; add a rule")
        if len(rules) > MAX_RULES:
            raise ConfigError(f"the rule set has {len(rules)} rules; at most {MAX_RULES} are accepted")
        twice = [name for name, count in Counter(rule.rule_id for rule in rules).items() if count > 1]
        if twice:
            raise ConfigError(f"two rules are called `{twice[0]}`; rename one")
        self.rules = tuple(rules)
        self.digest = digest
        named = sorted({tenant for rule in rules if rule.tenants for tenant in rule.tenants})
        if len(named) > MAX_TENANTS or len(named) * len(rules) > MAX_WORK:
            raise ConfigError(
                f"the rule set names {len(named)} tenants in {len(rules)} rules; at most {MAX_TENANTS} tenants and "
                f"{MAX_WORK} rules times tenants are accepted"
            )
        tables = sum(len(one.capabilities or ()) * len(one.tenants or (*named, None)) for one in rules)
        if tables > MAX_TABLES:
            raise ConfigError(
                f"the rules name {tables} capabilities times tenants; at most {MAX_TABLES} are accepted; let rules"
                " name fewer of them, or none"
            )
        self._others = _Tables(self.rules, None)
        self._tenants = {tenant: _Tables(self.rules, tenant) for tenant in named}
        self.shadows = tuple(_shadows(self.rules, (self._others, *self._tenants.values())))

    def match(self, request: RouteInput) -> Rule | None:
        """Return the first rule that matches, or None.

        Args:
            request: what is asked, checked.
        """
        cell = cell_of(request.env, request.data_label, request.tenant_risk, request.qos_class)
        tables = self._tenants.get(request.tenant_id, self._others)
        found = tables.any[cell]
        named = tables.named.get(request.capability_id)
        if named is not None and named[cell] < found:
            found = named[cell]
        return None if found == _NONE else self.rules[found]

    def gaps(self) -> tuple[Gap, ...]:
        """Return the cells without a rule: first for unnamed capabilities, then for each named one, sorted.

        After these come the gaps of tenants that rules name, where they differ, by tenant.
        """
        common = self._others.gaps()
        found = [Gap(name, cells) for name, cells in common.items()]
        for tenant, tables in self._tenants.items():
            own = tables.gaps()
            found += [Gap(name, cells, tenant) for name, cells in own.items() if common.get(name) != cells]
        return tuple(found)


def _unset(table: array[int]) -> int:
    """Return the cells of a table that no rule took."""
    if _NONE not in table:
        return 0
    return sum(1 << cell for cell, number in enumerate(table) if number == _NONE)


class _Tables:
    """The tables of one tenant, or of all that no rule names: one pass over the rules that are for it.

    `taken` and `taken_any` are the cells that earlier rules took.
    """

    def __init__(self, rules: Sequence[Rule], tenant: str | None) -> None:
        self.any = array("H", [_NONE]) * CELLS
        self.named: dict[str, array[int]] = {}
        self.alive: set[int] = set()
        self.tenant = tenant
        self._taken: dict[str, int] = {}
        self._taken_any = 0
        for number, rule in enumerate(rules):
            if not self.has(rule):
                continue
            if rule.capabilities is None:
                # A capability that no rule names always exists, so only earlier rules for any capability count.
                new = rule.cells & ~self._taken_any
                self._taken_any |= new
                for cell in cells_in(new):
                    self.any[cell] = number
                if new:
                    self.alive.add(number)
            else:
                self._take_named(number, rule, rule.capabilities)

    def has(self, rule: Rule) -> bool:
        """Tell whether a rule is for this tenant."""
        return rule.tenants is None or self.tenant in rule.tenants

    def gaps(self) -> dict[str, tuple[str, ...]]:
        """Return the cells without a rule in words, by capability; empty for those that no rule names."""
        open_to_any = _unset(self.any)
        gaps = {"": describe(open_to_any)}
        gaps |= {name: describe(open_to_any & _unset(self.named[name])) for name in sorted(self.named)}
        return {name: cells for name, cells in gaps.items() if cells}

    def covering(self, rule: Rule) -> set[int]:
        """Return the rules that decide where this one would; every one of its cells has such a rule."""
        cells = cells_in(rule.cells)
        if rule.capabilities is None:
            return {self.any[cell] for cell in cells}
        found: set[int] = set()
        for name in rule.capabilities:
            table = self.named.get(name, self.any)
            found |= {min(table[cell], self.any[cell]) for cell in cells}
        return found

    def _take_named(self, number: int, rule: Rule, capabilities: frozenset[str]) -> None:
        for name in capabilities:
            new = rule.cells & ~self._taken_any & ~self._taken.get(name, 0)
            if not new:
                continue
            self.alive.add(number)
            self._taken[name] = self._taken.get(name, 0) | new
            if new == EVERYWHERE:
                self.named[name] = array("H", [number]) * CELLS
                continue
            table = self.named.get(name)
            if table is None:
                table = self.named[name] = array("H", [_NONE]) * CELLS
            for cell in cells_in(new):
                table[cell] = number


def _shadows(rules: Sequence[Rule], tables: Sequence[_Tables]) -> Iterator[Shadow]:
    """Return the rules that take nothing in any of the tables, with the rules that take all of theirs."""
    alive = set().union(*(each.alive for each in tables))
    matches: dict[tuple[frozenset[str] | None, int, frozenset[str] | None], str] = {}
    for number, rule in enumerate(rules):
        key = (rule.capabilities, rule.cells, rule.tenants)
        if number in alive:
            matches.setdefault(key, rule.rule_id)
            continue
        if key in matches:
            yield Shadow(rule.rule_id, "duplicate", (matches[key],))
            continue
        matches[key] = rule.rule_id
        numbers = sorted(set().union(*(each.covering(rule) for each in tables if each.has(rule))))
        whole = [other for other in numbers if _covers(rules[other], rule)]
        names = tuple(rules[other].rule_id for other in (whole[:1] or numbers[:MAX_NAMED_COVERS]))
        yield Shadow(rule.rule_id, "pairwise" if whole else "union", names)


def _covers(early: Rule, late: Rule) -> bool:
    """Tell whether a rule alone takes all that a later one could match."""
    if late.cells & ~early.cells:
        return False
    if early.tenants is not None and (late.tenants is None or not late.tenants <= early.tenants):
        return False
    if early.capabilities is None:
        return True
    return late.capabilities is not None and late.capabilities <= early.capabilities
