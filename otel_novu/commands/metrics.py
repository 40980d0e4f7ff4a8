"""`otel-novu metrics`: every metric that can be sent, as text, JSON, or Markdown."""

import argparse
import json
from typing import Any

from otel_novu import docs
from otel_novu.metrics.metric import Metric
from otel_novu.metrics.prometheus import prometheus_name

_MARKDOWN = {
    "markdown": docs.metrics_markdown,
    "privacy": docs.privacy_markdown,
    "settings": docs.settings_markdown,
}


def main(options: argparse.Namespace) -> int:
    """Print the tables in the form that the options ask for."""
    forms = ("json", *_MARKDOWN)
    form = next((form for form in forms if getattr(options, form)), "text")
    if form in _MARKDOWN:
        print(_MARKDOWN[form](), end="")
        return 0
    width = max(len(row.name) for _, _, rows in docs.TABLES for row in rows)
    for scope, _, rows in docs.TABLES:
        if form == "text":
            print(f"{scope}:")
        for row in rows:
            kind = f"{row.instrument.value:28} {row.unit:14}"
            text = f"  {row.name:{width}}  {kind} {row.description}"
            print(text if form == "text" else json.dumps(_document(scope, row)))
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
