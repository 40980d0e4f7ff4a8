"""A row of the cost table: what was measured, against what, and the goal that it is held to."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NotRequired, Self, TypedDict, Unpack

from samples import Samples, Summary

UNITS: Mapping[str, tuple[float, str]] = {
    "ms": (1e3, "ms"),
    "s": (1.0, "s"),
    "MB": (1e-6, "MB"),
    "kB": (1e-3, "kB"),
    "": (1.0, ""),
}
"""By unit, the factor from seconds, bytes or pieces, and how it is written."""


@dataclass(frozen=True, slots=True)
class AtMost:
    """A goal.

    Args:
        limit: of the ratio, or of the value itself in seconds, bytes or pieces.
        of_ratio: which of both.
    """

    limit: float
    of_ratio: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """One measure.

    Args:
        key: its lasting name in the machine-readable figures.
        measure: what was measured, as people read it.
        value: in seconds, bytes or pieces.
        unit: a key of `UNITS`, for people.
        against: what it is compared with; empty if with nothing.
        other: the other's value.
        ratio: value over other, None where there is nothing to compare with.
        goals: all of them; none where the figure is only shown.
        note: one sentence on what the figure is made of, or how it was taken.
    """

    key: str
    measure: str
    value: Summary
    unit: str
    against: str = ""
    other: Summary | None = None
    ratio: Summary | None = None
    goals: tuple[AtMost, ...] = ()
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether every goal is met, by the medians."""
        return all(self._measured(goal) <= goal.limit for goal in self.goals)

    def _measured(self, goal: AtMost) -> float:
        if goal.of_ratio and self.ratio is not None:
            return self.ratio.median
        return self.value.median

    def document(self) -> dict[str, Any]:
        """As the machine-readable figures hold it; seconds, bytes or pieces."""
        return {key: value for key, value in asdict(self).items() if key != "key"}

    @classmethod
    def of_document(cls, key: str, document: Mapping[str, Any]) -> Self:
        """The row that `document` made this of."""
        summaries = {
            name: None if document[name] is None else Summary(**document[name])
            for name in ("value", "other", "ratio")
        }
        goals = tuple(AtMost(**goal) for goal in document["goals"])
        return cls(**{**document, **summaries, "key": key, "goals": goals})


class _Rest(TypedDict):
    unit: str
    against: NotRequired[str]
    goals: NotRequired[tuple[AtMost, ...]]
    note: NotRequired[str]


def alone(key: str, measure: str, value: Samples, **rest: Unpack[_Rest]) -> Row:
    """Make the row of what is compared with nothing."""
    return Row(key, measure, value.summary(), **rest)


def beside(key: str, measure: str, value: Samples, other: Samples, **rest: Unpack[_Rest]) -> Row:
    """Make the row of two things whose ratio would tell nothing."""
    return Row(key, measure, value.summary(), other=other.summary(), **rest)


def paired(key: str, measure: str, value: Samples, other: Samples, **rest: Unpack[_Rest]) -> Row:
    """Make the row of two things that were measured in turn."""
    ratio = value.over(other).summary()
    return Row(key, measure, value.summary(), other=other.summary(), ratio=ratio, **rest)


def apart(key: str, measure: str, value: Samples, other: Samples, **rest: Unpack[_Rest]) -> Row:
    """Make the row of two things that were measured at different times."""
    ratio = value.over_median(other).summary()
    return Row(key, measure, value.summary(), other=other.summary(), ratio=ratio, **rest)
