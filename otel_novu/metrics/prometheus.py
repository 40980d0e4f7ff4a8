"""How a row of the tables is called in Prometheus, for dashboards, docs and the demo."""

import re
from typing import Any

from otel_novu.metrics.metric import Instrument, Metric

# The units of the tables and the words that Prometheus has for them.
_UNIT_WORDS = {"By": "bytes", "s": "seconds"}


def prometheus_name(metric: Metric[Any]) -> str:
    """Translate a metric's name as Prometheus and the collector's remote write do by default.

    Dots become underscores; the unit follows, unless it is empty or an annotation in braces; a
    counter ends in ``_total``. A word that the name has already is not added again.

    Source: specification/compatibility/prometheus_and_openmetrics.md of OpenTelemetry, strategy
    ``UnderscoreEscapingWithSuffixes``.

    Returns:
        The name, such as ``novu_host_memory_free_bytes`` or ``novu_event_created_total``.

    Raises:
        ValueError: the tables hold no such unit yet, so its word is not known here.
    """
    words = [word for word in re.split("[^a-zA-Z0-9]+", metric.name) if word]
    unit = _unit_word(metric)
    if unit and unit not in words:
        words.append(unit)
    if metric.instrument is Instrument.COUNTER:
        words = [word for word in words if word != "total"] + ["total"]
    return "_".join(words)


def prometheus_label(key: str) -> str:
    """Translate an attribute's key into a label: ``novu.provider.id`` is ``novu_provider_id``."""
    return re.sub("[^a-zA-Z0-9_]", "_", key)


def _unit_word(metric: Metric[Any]) -> str:
    if not metric.unit or metric.unit.startswith("{"):
        return ""
    if metric.unit not in _UNIT_WORDS:
        known = ", ".join(_UNIT_WORDS)
        raise ValueError(
            f"{metric.name} has the unit {metric.unit}; known are {known}, none and {{...}}"
        )
    return _UNIT_WORDS[metric.unit]
