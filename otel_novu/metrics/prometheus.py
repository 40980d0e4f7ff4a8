"""The names that metrics and attributes have in Prometheus."""

import re
from typing import Any

from otel_novu.metrics.metric import Instrument, Metric

_UNIT_WORDS = {"": "", "By": "bytes", "s": "seconds"}


def prometheus_name(metric: Metric[Any]) -> str:
    """Translate a name as Prometheus and the collector do (`UnderscoreEscapingWithSuffixes`).

    Raises:
        ValueError: the metric's unit has no known word.
    """
    words = [word for word in re.split("[^a-zA-Z0-9]+", metric.name) if word]
    unit = re.sub(r"\{.*\}", "", metric.unit)
    if unit not in _UNIT_WORDS:
        raise ValueError(f"{metric.name}: the unit {unit} has no word in Prometheus yet")
    if unit and _UNIT_WORDS[unit] not in words:
        words.append(_UNIT_WORDS[unit])
    if metric.instrument is Instrument.COUNTER:
        words = [word for word in words if word != "total"] + ["total"]
    return "_".join(words)


def prometheus_label(key: str) -> str:
    """Translate an attribute's key: `novu.provider.id` is `novu_provider_id`."""
    return re.sub("[^a-zA-Z0-9_]", "_", key)
