"""What a metric is: a row of the tables in `beacon` and `usage`."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

Reading = TypeVar("Reading")

MAX_COUNT = 2**63 - 1  # what OTLP can carry


class Instrument(Enum):
    """A gauge does not add up over instances; an up-down counter does, and can fall.

    A counter only grows: every backend reads a fall as a reset.
    """

    GAUGE = "observable gauge"
    UP_DOWN_COUNTER = "observable up-down counter"
    COUNTER = "observable counter"


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a metric, in the row's unit."""

    value: int | float
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Metric(Generic[Reading]):
    """One metric; nothing else knows its name, unit, instrument or description."""

    name: str  # dotted, singular, without the unit
    instrument: Instrument
    unit: str  # UCUM; empty, because unit `1` would make the name in Prometheus end in `_ratio`
    description: str  # one sentence, sent with the metric
    read: Callable[[Reading], Iterable[Point]]  # no points if the value is not known
    source: str  # where the value comes from, for the documentation
    attributes: Mapping[str, re.Pattern[str]] = field(default_factory=dict)  # all that it may have
    field: str = ""  # the name in Novu's own report
    since: Callable[[Reading], float | None] | None = None  # Unix time; None: with the process
    least: int = 0
    most: int = MAX_COUNT

    def accepts(self, value: object, attributes: Mapping[str, object]) -> bool:
        """Return whether a data point is in the schema of this row; only seconds have fractions."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if isinstance(value, float) and self.unit != "s":
            return False
        return self.least <= value <= self.most and all(
            isinstance(text, str)
            and text.isprintable()  # no control or invisible characters
            and key in self.attributes
            and self.attributes[key].fullmatch(text)
            for key, text in attributes.items()
        )
