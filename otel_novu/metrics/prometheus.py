"""The names that metrics and attributes have in Prometheus."""

import re
from typing import Any

from otel_novu.metrics.metric import Instrument, Metric

_UNITS = {"": "", "By": "bytes", "s": "seconds"}  # a new unit needs its word here


def prometheus_name(metric: Metric[Any]) -> str:
    """Translate a name as Prometheus and the collector do (`UnderscoreEscapingWithSuffixes`)."""
    words = [word for word in re.split("[^a-zA-Z0-9]+", metric.name) if word]
    unit = _UNITS[re.sub(r"\{.*\}", "", metric.unit)]
    if unit and unit not in words:
        words.append(unit)
    if metric.instrument is Instrument.COUNTER:
        words = [word for word in words if word != "total"] + ["total"]
    return "_".join(words)


def prometheus_label(key: str) -> str:
    """Translate an attribute's key: `novu.provider.id` is `novu_provider_id`."""
    return re.sub("[^a-zA-Z0-9_]", "_", key)
