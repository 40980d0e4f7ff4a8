"""`otel-novu metrics`: every metric that can be sent, as text, JSON, or Markdown."""

import argparse
import json
from typing import Any

from otel_novu.commands import output
from otel_novu.metrics import beacon, usage
from otel_novu.metrics.metric import Metric
from otel_novu.metrics.prometheus import prometheus_name

# The scopes, when they are sent, and their rows.
_TABLES: tuple[tuple[str, str, tuple[Metric[Any], ...]], ...] = (
    (beacon.SCOPE, "always", beacon.BEACON),
    (usage.SCOPE, "only while the telemetry flag is set", usage.USAGE),
)
_HEADER = ("metric", "in Prometheus", "instrument", "unit", "what", "source", "Novu's field")


def main(_settings: None, options: argparse.Namespace) -> int:
    """Print the tables in the form that the options ask for; no setting is needed."""
    if options.markdown:
        print(markdown(), end="")
        return 0
    for scope, _, rows in _TABLES:
        if not options.json:
            print(f"{scope}:")
        for row in rows:
            kind = f"{row.instrument.value}{f', {row.unit}' if row.unit else ''}"
            text = output.row(f"  {row.name}", f"{row.description} ({kind})", 31)
            print(json.dumps(_document(scope, row)) if options.json else text)
    return 0


def _document(scope: str, row: Metric[Any]) -> dict[str, Any]:
    return {
        "scope": scope,
        "name": row.name,
        "prometheus": prometheus_name(row),
        "instrument": row.instrument.value,
        "unit": row.unit,
        "attributes": list(row.attributes),
        "description": row.description,
        "source": row.source,
        "field": row.field or None,
    }


def markdown() -> str:
    """Return the tables of docs/metrics.md."""
    head = [_HEADER, ("---",) * len(_HEADER)]
    return "\n".join(
        f"## Scope `{scope}`: {when}\n\n" + "".join(map(_line, [*head, *map(_cells, rows)]))
        for scope, when, rows in _TABLES
    )


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |\n"


def _cells(row: Metric[Any]) -> tuple[str, ...]:
    names = ", ".join(f"`{name}`" for name in (row.name, *row.attributes))
    kind, unit = row.instrument.value, f"`{row.unit}`" if row.unit else ""
    return names, f"`{prometheus_name(row)}`", kind, unit, row.description, row.source, row.field
