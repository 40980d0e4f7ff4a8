"""Tables as Markdown, for the documentation that is derived from rows."""

from collections.abc import Iterable
from typing import Any

from otel_novu.environment.table import VARIABLES
from otel_novu.environment.variable import Variable
from otel_novu.metrics import beacon, usage
from otel_novu.metrics.metric import Metric
from otel_novu.metrics.prometheus import prometheus_name

_SETTINGS = """\
# Settings

Written by `otel-novu metrics --settings`; do not edit.

An empty variable is an unset one. `.env` in the working directory, or the file of `--env-file`,
is read too; the real environment wins, name by name. A value that can't be used ends the command
with exit code 2 and one sentence that names the variable.

"""

_METRICS = """\
# Metrics

Written by `otel-novu metrics --markdown`; do not edit.

Each metric is one row of `otel_novu/metrics/`. Temporality is cumulative.
"""


def settings_markdown() -> str:
    """Write docs/settings.md."""
    return _SETTINGS + as_markdown(VARIABLES)


def metrics_markdown() -> str:
    """Write docs/metrics.md."""
    parts = [
        _METRICS,
        f"\n## Scope `{beacon.SCOPE}`: always\n\n",
        *_metrics_table(beacon.BEACON),
        f"\n## Scope `{usage.SCOPE}`: only while the telemetry flag is set\n\n",
        *_metrics_table(usage.USAGE),
    ]
    return "".join(parts)


def _metrics_table(rows: Iterable[Metric[Any]]) -> Iterable[str]:
    yield "| metric | in Prometheus | instrument | unit | what | where from | Novu's field |\n"
    yield "|---|---|---|---|---|---|---|\n"
    for row in rows:
        labels = "".join(f", `{key}`" for key in row.attributes)
        cells = (
            f"`{row.name}`{labels}",
            f"`{prometheus_name(row)}`",
            row.instrument.value,
            f"`{row.unit}`" if row.unit else "",
            row.description,
            row.source,
            row.field,
        )
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def as_markdown(rows: Iterable[Variable[Any]]) -> str:
    """Return the table of variables.

    Args:
        rows: one for each line.

    Returns:
        A Markdown table that ends with a line feed.
    """
    lines = ["| variable | default | accepted | meaning |", "|---|---|---|---|"]
    return "\n".join([*lines, *map(_line, rows)]) + "\n"


def _line(row: Variable[Any]) -> str:
    names = f"`{row.name}`"
    if row.winner:
        names += f"; `{row.winner}` wins over it"
    default = f"`{row.default}`" if row.default else row.unset
    meaning = f"{row.meaning} Shown nowhere." if row.secret else row.meaning
    cells = (names, default, row.reader.accepted, meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
