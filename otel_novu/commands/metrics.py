"""`otel-novu metrics`: the tables."""

import json
from typing import Any

from otel_novu.documents import metrics_markdown, settings_markdown
from otel_novu.metrics import beacon, usage
from otel_novu.metrics.metric import Metric
from otel_novu.metrics.prometheus import prometheus_name
from otel_novu.privacy_doc import privacy_markdown

TABLES: tuple[tuple[str, tuple[Metric[Any], ...]], ...] = (
    (beacon.SCOPE, beacon.BEACON),
    (usage.SCOPE, usage.USAGE),
)


def metrics(form: str) -> int:
    """Print every metric that may leave.

    Args:
        form: `text`, `markdown` or `json`.
    """
    if form == "markdown":
        print(metrics_markdown(), end="")
    elif form == "json":
        for scope, rows in TABLES:
            for row in rows:
                print(json.dumps(_document(scope, row)))
    else:
        _print_text()
    return 0


def privacy() -> int:
    """Print every value that leaves, as docs/privacy.md has them."""
    print(privacy_markdown(), end="")
    return 0


def settings() -> int:
    """Print every variable, as docs/settings.md has them."""
    print(settings_markdown(), end="")
    return 0


def _print_text() -> None:
    width = max(len(row.name) for _, rows in TABLES for row in rows)
    for scope, rows in TABLES:
        print(f"{scope}:")
        for row in rows:
            print(
                f"  {row.name:{width}}  {row.instrument.value:28} {row.unit:14} {row.description}"
            )


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
