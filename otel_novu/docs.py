"""Markdown tables for the documentation, from the rows of metrics and settings."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from otel_novu.metrics import beacon, usage
from otel_novu.metrics.metric import Metric
from otel_novu.metrics.prometheus import prometheus_name
from otel_novu.metrics.resource import RESOURCE
from otel_novu.settings import VARIABLES, Variable

TABLES: tuple[tuple[str, str, tuple[Metric[Any], ...]], ...] = (
    (beacon.SCOPE, "always", beacon.BEACON),
    (usage.SCOPE, "only while the telemetry flag is set", usage.USAGE),
)


def metrics_markdown() -> str:
    """Return a table of metrics for each scope."""
    return "\n".join(
        f"## Scope `{scope}`: {when}\n\n"
        + _table(
            ("metric", "in Prometheus", "instrument", "unit", "what", "source", "Novu's field"),
            map(_metric_cells, rows),
        )
        for scope, when, rows in TABLES
    )


def settings_markdown() -> str:
    """Return the table of variables."""
    return _table(("variable", "default", "accepted", "meaning"), map(_setting_cells, VARIABLES))


def privacy_markdown() -> str:
    """Return a table of every value that is sent: the resource's, then each scope's."""
    header = ("value", "accepted", "source", "can it identify anyone?")
    resource = [
        (f"`{key}`", attribute.shape.says, attribute.source, attribute.identifies)
        for key, attribute in RESOURCE.items()
    ]
    parts = ["## Resource: in every report\n\n" + _table(header, resource)]
    for scope, when, rows in TABLES:
        cells = [cell for row in rows for cell in _privacy_cells(row)]
        parts.append(f"## Scope `{scope}`: {when}\n\n" + _table(header, cells))
    return "\n".join(parts)


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )


def _metric_cells(row: Metric[Any]) -> tuple[str, ...]:
    labels = "".join(f", `{key}`" for key in row.attributes)
    return (
        f"`{row.name}`{labels}",
        f"`{prometheus_name(row)}`",
        row.instrument.value,
        f"`{row.unit}`" if row.unit else "",
        row.description,
        row.source,
        row.field,
    )


def _setting_cells(row: Variable) -> tuple[str, ...]:
    names = f"`{row.name}`"
    if row.metrics_name:
        names += f"; `{row.metrics_name}` wins over it"
    default = f"`{row.default}`" if row.default else row.unset
    help_ = f"{row.help} Its value is never shown." if row.secret else row.help
    return (names, default, row.accepts, help_)


def _privacy_cells(row: Metric[Any]) -> Iterator[tuple[str, ...]]:
    yield (f"`{row.name}`", row.shape.says, row.source, row.identifies)
    for key, label in row.attributes.items():
        yield (f"label `{key}`", label.shape.says, label.source, label.identifies)


def write(folder: Path) -> None:
    """Write each page's table between its markers."""
    tables = {
        "metrics": metrics_markdown(),
        "privacy": privacy_markdown(),
        "settings": settings_markdown(),
    }
    for name, table in tables.items():
        page = folder / f"{name}.md"
        before, start, rest = page.read_text().partition(f"<!-- generated: {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        page.write_text(before + start + table + end + after)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
