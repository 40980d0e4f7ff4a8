"""Repeated measurements, and the rows of the table that they make."""

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

UNITS = {"ms": 1e3, "s": 1.0, "MB": 1e-6, "kB": 1e-3, "": 1.0}
"""The factor from seconds, bytes or pieces."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Values in the order of measurement: seconds, bytes or pieces."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    def over(self, other: "Samples") -> "Samples":
        """The ratios of pairs measured one after the other: both have the load of that moment."""
        pairs = zip(self.values, other.values, strict=True)
        return Samples(tuple(ours / theirs for ours, theirs in pairs))

    def text(self, unit: str = "") -> str:
        """Median and quartiles."""
        quartiles = [self.median]
        if len(self.values) > 1:
            quartiles = statistics.quantiles(self.values, n=4, method="inclusive")
        low, middle, high = (_number(q * UNITS[unit]) for q in (quartiles * 3)[:3])
        spread = f" ({low} to {high})" if low != high else ""
        return f"{middle} {unit}".strip() + spread


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table.

    Args:
        what: what was measured.
        value: of otel-novu.
        unit: a key of `UNITS`.
        against: what it is compared with; empty for nothing.
        other: the other's value.
        limit: the goal: the ratio, or the value if there is no other, is at most this.
    """

    what: str
    value: Samples
    unit: str
    against: str = ""
    other: Samples | None = None
    limit: float | None = None

    @property
    def met(self) -> bool:
        """Whether the goal is met, by the median."""
        ratio = self.value if self.other is None else self.value.over(self.other)
        return self.limit is None or ratio.median <= self.limit

    def cells(self) -> list[str]:
        """The texts of the columns."""
        other = ratio = goal = ""
        if self.other is not None:
            other, ratio = self.other.text(self.unit), self.value.over(self.other).text()
        if self.limit is not None:
            limit = self.limit * (UNITS[self.unit] if self.other is None else 1)
            goal = f"at most {limit:g}" + ("" if self.met else ", **missed**")
        return [self.what, self.value.text(self.unit), self.against, other, ratio, goal]


def table(rows: Iterable[Row]) -> str:
    """All rows as a Markdown table."""
    heading = ["measured", "otel-novu", "compared with", "its value", "ratio", "goal"]
    lines = [heading, ["---"] * len(heading), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def interleave(
    ways: Mapping[str, Callable[[], float]], times: int, warm_up: int = 2
) -> dict[str, Samples]:
    """Measure several ways in turn, A B B A, after some turns that do not count."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-warm_up, times):
        for name in reversed(list(ways)) if turn % 2 else ways:
            value = ways[name]()
            if turn >= 0:
                taken[name].append(value)
    return {name: Samples(tuple(values)) for name, values in taken.items()}
