"""`otel-novu metrics`: every metric that can be sent, as text, JSON, or Markdown."""

import argparse
import json
from typing import Any

from otel_novu.docs import TABLES, metrics_markdown
from otel_novu.metrics.metric import Metric
from otel_novu.metrics.prometheus import prometheus_name


def main(_settings: None, options: argparse.Namespace) -> int:
    """Print the tables in the form that the options ask for; no setting is needed."""
    if options.markdown:
        print(metrics_markdown(), end="")
        return 0
    for scope, _, rows in TABLES:
        if not options.json:
            print(f"{scope}:")
        for row in rows:
            kind = f"{row.instrument.value:28} {row.unit:14}"
            text = f"  {row.name:30}  {kind} {row.description}"
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
