"""Turns rows of the tables into observable instruments."""

from collections.abc import Callable, Iterable

from opentelemetry.metrics import CallbackOptions, CallbackT, Meter, Observation

from otel_novu.metrics.metric import Instrument, Metric, Reading


def register(
    meter: Meter,
    rows: Iterable[Metric[Reading]],
    current: Callable[[], Reading | None],
) -> None:
    """Create one observable instrument a row.

    Args:
        meter: makes the instruments.
        rows: what to make.
        current: the last reading, or None where there is none. It is called at collection and
            must do no I/O: the SDK holds a lock meanwhile, and loses a collection that overruns.
    """
    create = {
        Instrument.GAUGE: meter.create_observable_gauge,
        Instrument.UP_DOWN_COUNTER: meter.create_observable_up_down_counter,
        Instrument.COUNTER: meter.create_observable_counter,
    }
    for row in rows:
        create[row.instrument](
            row.name,
            callbacks=[_callback(row, current)],
            unit=row.unit,
            description=row.description,
        )


def _callback(row: Metric[Reading], current: Callable[[], Reading | None]) -> CallbackT:
    def observe(_: CallbackOptions) -> list[Observation]:
        reading = current()
        if reading is None:
            return []
        return [Observation(point.value, dict(point.attributes)) for point in row.read(reading)]

    return observe
