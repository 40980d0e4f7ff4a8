"""What a row of the tables is."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Generic, TypeVar

Reading = TypeVar("Reading")

NO_ATTRIBUTES: Mapping[str, str] = MappingProxyType({})
_MOST = 2**63 - 1  # what OTLP carries


class Instrument(Enum):
    """The instrument of a metric, answered once: can it fall, and does it add up?

    A gauge does not add up over instances. An up-down counter adds up and can fall. A counter
    adds up and only grows: a backend reads a fall as a new beginning.
    """

    GAUGE = "observable gauge"
    UP_DOWN_COUNTER = "observable up-down counter"
    COUNTER = "observable counter"


@dataclass(frozen=True, slots=True)
class Text:
    """What a text may look like; none holds a control or an invisible character.

    Args:
        pattern: a regular expression of the whole text.
        says: the same in words.
    """

    pattern: str
    says: str

    def admits(self, value: object) -> bool:
        """Tell whether a value has this shape."""
        text = isinstance(value, str) and value.isprintable()
        return text and re.fullmatch(self.pattern, str(value)) is not None


@dataclass(frozen=True, slots=True)
class Number:
    """What a number may look like; it is finite, and no truth value.

    Args:
        says: the same in words.
        least: the smallest.
        most: the largest.
        whole: it has no fraction.
    """

    says: str
    least: int = 0
    most: int | float = _MOST
    whole: bool = True

    def admits(self, value: object) -> bool:
        """Tell whether a value has this shape."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if isinstance(value, float) and (self.whole or not math.isfinite(value)):
            return False
        return self.least <= value <= self.most


COUNT = Number("a whole number from 0 on")
SECONDS = Number("seconds from 0 on", whole=False)
FLAG = Number("0 or 1", most=1)
ONE = Number("1", least=1, most=1)


@dataclass(frozen=True, slots=True)
class Attribute:
    """One label of a metric, or one attribute of the resource.

    Args:
        shape: what its value may look like.
        source: where the value comes from, for the documentation.
        identifies: why it can or can't identify anyone, for the documentation.
    """

    shape: Text
    source: str
    identifies: str


NO_LABELS: Mapping[str, Attribute] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a metric.

    Args:
        value: the figure, in the row's unit.
        attributes: its labels; the keys are those that the row lists.
    """

    value: int | float
    attributes: Mapping[str, str] = field(default_factory=lambda: NO_ATTRIBUTES)


@dataclass(frozen=True, slots=True)
class Metric(Generic[Reading]):
    """One metric: the only place that knows its name, unit, kind, description and reading.

    Args:
        name: the dotted name on the wire, singular and without a unit.
        instrument: its kind.
        unit: UCUM, or empty (unit ``1`` would make a gauge ``_ratio`` in Prometheus).
        description: one sentence, which leaves with the metric.
        read: the points that a reading holds; none where the figure could not be read.
        source: where the value comes from, for the documentation.
        attributes: every attribute that a point may carry, by its key.
        field: the name in Novu's own report, or empty where Novu has none.
        since: when a counter began (Unix time, seconds); None where it begins with the process.
        shape: what its value may look like.
        identifies: why the value can or can't identify anyone, for the documentation.
    """

    name: str
    instrument: Instrument
    unit: str
    description: str
    read: Callable[[Reading], Iterable[Point]]
    source: str
    attributes: Mapping[str, Attribute] = field(default_factory=lambda: NO_LABELS)
    field: str = ""
    since: Callable[[Reading], float | None] | None = None
    shape: Number = COUNT
    identifies: str = ""

    def admits(self, value: object, attributes: Mapping[str, object]) -> bool:
        """Tell whether a point is one that this row may have."""
        known = all(
            key in self.attributes and self.attributes[key].shape.admits(text)
            for key, text in attributes.items()
        )
        return known and self.shape.admits(value)
