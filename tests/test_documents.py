"""What is written twice: the documentation's tables against the code that makes them."""

import re
from pathlib import Path
from typing import Any

import pytest
from servers import ExporterRunner

from otel_novu.documents import metrics_markdown, settings_markdown
from otel_novu.environment.table import VARIABLES
from otel_novu.metrics.beacon import BEACON
from otel_novu.metrics.metric import Metric
from otel_novu.metrics.prometheus import prometheus_name
from otel_novu.metrics.usage import USAGE

METRICS: tuple[Metric[Any], ...] = (*BEACON, *USAGE)
DOCS = Path(__file__).parent.parent / "docs"


def rows(markdown: str) -> list[list[str]]:
    """The cells of every table row but the headings."""
    lines = [line for line in markdown.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


@pytest.mark.parametrize(
    ("file", "option"), [("metrics.md", "--markdown"), ("settings.md", "--settings")]
)
def test_the_page_is_what_the_command_prints(
    file: str, option: str, exporter: ExporterRunner
) -> None:
    printed = exporter("metrics", option)
    assert printed.returncode == 0
    assert (DOCS / file).read_text() == printed.stdout, "`make docs` writes it anew"


def test_every_metric_has_one_line_with_all_cells_filled() -> None:
    table = rows(metrics_markdown())
    assert [row[0].split(",")[0].strip("`") for row in table] == [row.name for row in METRICS]
    for cells, row in zip(table, METRICS, strict=True):
        assert f"`{prometheus_name(row)}`" in cells
        assert row.instrument.value in cells
        assert row.description in cells
        for key in row.attributes:
            assert f"`{key}`" in cells[0]


def test_every_variable_has_one_line_with_default_accepted_and_meaning() -> None:
    table = rows(settings_markdown())
    assert [row[0].split(";")[0].strip("`") for row in table] == [v.name for v in VARIABLES]
    for cells, variable in zip(table, VARIABLES, strict=True):
        assert len(cells) == 4
        assert all(cells), variable.name
        if variable.winner:
            assert f"`{variable.winner}` wins over it" in cells[0]
        if variable.secret:
            assert cells[3].endswith("Shown nowhere.")
