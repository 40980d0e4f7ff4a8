"""The reports for people: two as Novu documents them, and one of what was delivered."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from otel_novu.metrics.beacon import BeaconReading
from otel_novu.metrics.usage import DELIVERY, FIGURES, Figure, UsageReading

Document = Mapping[str, Any]


def beacon_document(beacon: BeaconReading, instance: UUID) -> Document:
    """Write a beacon as Novu's "Keep Alive Beacon"; what is not known is null."""
    host = beacon.host
    return {
        "freeMemory": host.memory_free,
        "hostname": host.name,
        "instanceId": str(instance),
        "ipAddress": host.ip,
        "platform": host.os_type,
        "release": host.os_version,
        "timestamp": _time(beacon.timestamp),
        "totalMemory": host.memory_total,
    }


def usage_document(usage: UsageReading) -> Document:
    """Write a usage reading as Novu's "Usage Statistics"; a figure that failed is null."""
    fields = {figure.field: _value(figure, usage) for figure in FIGURES if figure.field}
    fields["timestamp"] = _time(usage.timestamp)
    return dict(sorted(fields.items()))


def delivery_document(usage: UsageReading) -> Document:
    """Write the delivery figures, with the labels of each number; zeros are left out."""
    return {
        figure.name: [
            {key.removeprefix("novu."): word for key, word in point.attributes.items()}
            | {"value": f"{_time(point.value)}Z" if figure is DELIVERY[0] else round(point.value)}
            for point in figure.points(usage)
            if point.value
        ]
        for figure in DELIVERY
        if figure.name in usage.values
    }


def _value(figure: Figure, usage: UsageReading) -> Any:  # noqa: ANN401 - JSON
    values = usage.values.get(figure.name)
    if values is None:
        return None
    if not figure.query.labels:
        return values[()]
    return [{"count": n, "providerId": labels[0]} for labels, n in sorted(values.items())]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
