"""Repeated measurements, taken side by side, and what they amount to."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Way = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Summary:
    """What is told of samples.

    Args:
        median: the middle one.
        low: the lower quartile.
        high: the upper quartile.
        count: how many there were.
    """

    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Samples:
    """The same thing measured several times.

    Args:
        values: in the order of measurement.
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def summary(self) -> Summary:
        """Tell median and quartiles, to four digits."""
        low, high = map(_rounded, self._quartiles())
        return Summary(_rounded(self.median), low, high, len(self.values))

    def over(self, other: "Samples") -> "Samples":
        """Compare with what was measured in the same breath, pair by pair.

        A load that comes and goes slows both of a pair, and leaves their ratio alone.
        """
        pairs = zip(self.values, other.values, strict=True)
        return Samples(tuple(mine / theirs for mine, theirs in pairs))

    def over_median(self, other: "Samples") -> "Samples":
        """Compare with the median of what was measured at another time."""
        return Samples(tuple(value / other.median for value in self.values))

    def times(self, factor: float) -> "Samples":
        """Convert to another unit."""
        return Samples(tuple(value * factor for value in self.values))

    def _quartiles(self) -> tuple[float, float]:
        if len(self.values) == 1:
            return self.values[0], self.values[0]
        first, _, third = statistics.quantiles(self.values, n=4, method="inclusive")
        return first, third


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def once(value: float) -> Samples:
    """Hold what can be measured once only."""
    return Samples((value,))


def interleave(ways: Mapping[str, Way], times: int, warm_up: int = 2) -> dict[str, Samples]:
    """Measure several ways in turn, A B A B, each second turn backwards.

    Args:
        ways: each measures once.
        times: how many turns count.
        warm_up: how many turns before do not.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(warm_up + times):
        for name in _order(tuple(ways), turn):
            value = ways[name]()
            if turn >= warm_up:
                taken[name].append(value)
    return {name: Samples(tuple(values)) for name, values in taken.items()}


def _order(names: Sequence[str], turn: int) -> Sequence[str]:
    return names[::-1] if turn % 2 else names
