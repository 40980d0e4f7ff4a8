"""What a row of the tables is."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Generic, TypeVar

Reading = TypeVar("Reading")

NO_ATTRIBUTES: Mapping[str, str] = MappingProxyType({})


class Instrument(Enum):
    """The instrument of a metric, answered once: can it fall, and does it add up?

    A gauge does not add up over instances. An up-down counter adds up and can fall. A counter
    adds up and only grows: a backend reads a fall as a new beginning.
    """

    GAUGE = "observable gauge"
    UP_DOWN_COUNTER = "observable up-down counter"
    COUNTER = "observable counter"


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
        attributes: every attribute key that a point may carry.
        field: the name in Novu's own report, or empty where Novu has none.
        since: when a counter began (Unix time, seconds); None where it begins with the process.
    """

    name: str
    instrument: Instrument
    unit: str
    description: str
    read: Callable[[Reading], Iterable[Point]]
    source: str
    attributes: tuple[str, ...] = ()
    field: str = ""
    since: Callable[[Reading], float | None] | None = None
