"""The tables of docs/metrics.md; `python -m otel_novu.docs FILE` writes them into the page."""

import re
import sys
from pathlib import Path
from typing import Any

from otel_novu.metrics import beacon, usage
from otel_novu.metrics.metric import Metric
from otel_novu.metrics.prometheus import prometheus_name

# The scopes, when they are sent, and their rows.
TABLES: tuple[tuple[str, str, tuple[Metric[Any], ...]], ...] = (
    (beacon.SCOPE, "always", beacon.BEACON),
    (usage.SCOPE, "only while the telemetry flag is set", usage.USAGE),
)
_HEADER = ("metric", "in Prometheus", "instrument", "unit", "what", "source", "Novu's field")


def metrics_markdown() -> str:
    """Return a table of metrics for each scope."""
    head = [_HEADER, ("---",) * len(_HEADER)]
    return "\n".join(
        f"## Scope `{scope}`: {when}\n\n" + "".join(map(_line, [*head, *map(_cells, rows)]))
        for scope, when, rows in TABLES
    )


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |\n"


def _cells(row: Metric[Any]) -> tuple[str, ...]:
    names = ", ".join(f"`{name}`" for name in (row.name, *row.attributes))
    kind, unit = row.instrument.value, f"`{row.unit}`" if row.unit else ""
    return names, f"`{prometheus_name(row)}`", kind, unit, row.description, row.source, row.field


if __name__ == "__main__":
    page = Path(sys.argv[1])
    between = "(?s)(?<=<!-- generated: metrics -->\n).*(?=<!-- end -->)"
    page.write_text(re.sub(between, lambda _: metrics_markdown(), page.read_text()))
