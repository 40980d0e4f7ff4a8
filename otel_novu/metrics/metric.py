"""What a metric is: a row of the tables in `beacon` and `usage`."""

import math
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
class Text:
    """The texts that an attribute may have; `says` is the pattern in words."""

    pattern: str
    says: str

    def accepts(self, value: object) -> bool:
        """Return whether a value matches, without control or invisible characters."""
        if not isinstance(value, str) or not value.isprintable():
            return False
        return re.fullmatch(self.pattern, value) is not None


@dataclass(frozen=True, slots=True)
class Number:
    """The numbers that a metric may have; `says` is the same in words."""

    says: str
    least: int = 0
    most: int = MAX_COUNT
    whole: bool = True

    def accepts(self, value: object) -> bool:
        """Return whether a value is such a number; a boolean and NaN are none."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if isinstance(value, float) and (self.whole or not math.isfinite(value)):
            return False
        return self.least <= value <= self.most


COUNT = Number("a whole number, 0 or more")
SECONDS = Number("seconds, 0 or more", whole=False)
FLAG = Number("0 or 1", most=1)
ONE = Number("1", least=1, most=1)


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of a data point or of the resource."""

    shape: Text
    source: str  # for the documentation, as is `identifies`: can it identify anyone?
    identifies: str


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
    attributes: Mapping[str, Attribute] = field(default_factory=dict)  # all that a point may have
    field: str = ""  # the name in Novu's own report
    since: Callable[[Reading], float | None] | None = None  # Unix time; None: with the process
    shape: Number = COUNT
    identifies: str = ""  # why the value can or can't identify anyone, for the documentation

    def accepts(self, value: object, attributes: Mapping[str, object]) -> bool:
        """Return whether a data point is in the schema of this row."""
        known = self.attributes
        return self.shape.accepts(value) and all(
            key in known and known[key].shape.accepts(text) for key, text in attributes.items()
        )
