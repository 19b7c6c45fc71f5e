"""What must be reached, as data, and whether it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Figures = Mapping[str, Mapping[str, Mapping[str, float]]]  # corpus, series, measure

UNITS: Final = {"wall": "s", "processor": "s of processor time", "memory": "MiB"}


@dataclass(frozen=True)
class Bar:
    """One thing to reach.

    Attributes:
        corpus: on which trees.
        series: whose figure.
        most: what it may be at most: a number of times that of `of`, or seconds or MiB.
        of: the series of the same corpus that it is compared with, when it is.
        measure: `wall` and `processor`, the median of the rounds, or `memory`, the most of any.
    """

    corpus: str
    series: str
    most: float
    of: str = ""
    measure: str = "wall"

    def value(self, figures: Figures) -> float | None:
        """Return what was measured, or None when it or what it is compared with was not."""
        rows = figures.get(self.corpus, {})
        if self.series not in rows or (self.of and self.of not in rows):
            return None
        return rows[self.series][self.measure] / (rows[self.of][self.measure] if self.of else 1)

    def describe(self, value: float | None) -> str:
        """Return the bar and what came of it in one line."""
        unit = f"x {self.of}" if self.of else UNITS[self.measure]
        if self.measure != "wall" and self.of:
            unit += f" ({self.measure})"
        if value is None:
            return f"not measured  {self.corpus}: {self.series}, at most {self.most:.3g} {unit}"
        verdict = "reached     " if value <= self.most else "NOT REACHED "
        return f"{verdict}  {self.corpus}: {self.series} {value:.3g}, at most {self.most:.3g} {unit}"


def _both(corpus: str, most: float, of: str, *, what: str = "") -> Iterator[Bar]:
    for command in ("sign", "verify"):
        yield Bar(corpus, f"wcp-attest {command}{what}", most, of)


def _memory(corpus: str, most: float, *, what: str = "") -> Iterator[Bar]:
    for command in ("sign", "verify"):
        yield Bar(corpus, f"wcp-attest {command}{what}", most, measure="memory")


BARS: Final = (
    *_both("small", 0.75, "sha256sum -P2"),
    *(Bar("small", f"wcp-attest {name}", 1 / 30, f"model-signing {name}") for name in ("sign", "verify")),
    *_memory("small", 150),
    *_both("environment", 0.45, "sha256sum -P2"),
    *(bar for corpus in ("small", "environment") for bar in _both(corpus, 1.5, "floor")),
    *_both("one", 1.05, "openssl dgst"),
    *_memory("one", 80),
    *_both("one", 1.15, "b3sum", what=", BLAKE3"),
    *_memory("one", 400, what=", BLAKE3"),
    *_both("eight", 0.60, "openssl dgst"),
    *_both("five", 0.080, ""),
    *_both("five", 0.080, "", what=" --hmac"),
    *_memory("five", 30),
    *_memory("five", 30, what=" --hmac"),
    *(Bar("five", f"wcp-attest {flag}", 0.060) for flag in ("--help", "--version")),
    *(
        Bar("growth", f"{command}, 1,000,000 files", 1.1 * 1_000_000 / fewer, f"{command}, {fewer:,} files")
        for command in ("sign", "verify")
        for fewer in (10_000, 100_000)
    ),
    *(Bar("library", f"manifest of 100,000 {what}", 0.25) for what in ("written", "read")),
    Bar("library", "verify beyond its reads", 0.001),
    Bar("progress", "shown", 1.01, "not shown", measure="processor"),
)

# `python -m benchmarks.store`, whose series are all of one corpus.
STORE_BARS: Final = (
    *(Bar("store", f"run, {name}", 1.5, "verify, five") for name in ("five", "many", "large")),
    *(Bar("store", f"run, {name}", 1.0, f"model-signing verify, {name}") for name in ("five", "many", "large")),
    *(Bar("store", "run beyond verify, five", 0.020, measure=measure) for measure in ("wall", "processor")),
    *(Bar("store", f"store add, {name}", 1.25, f"cp -r and verify, {name}") for name in ("many", "large")),
)
