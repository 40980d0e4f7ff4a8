"""Panels of the dashboard: panels.yaml says how each kind looks."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

Json = dict[str, Any]

KINDS: Json = yaml.safe_load(Path(__file__).with_name("panels.yaml").read_text())
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24


class Text(NamedTuple):
    """A panel's heading, what it shows and from which metric, and its text if nothing answers."""

    title: str
    description: str
    nothing: str = "no reading"


class Column(NamedTuple):
    """A column of a table: a label, or `Value #A` for the value of query A; its heading; a cell."""

    field: str
    name: str
    cell: str = "text"


def panel(
    kind: str,
    text: Text,
    size: tuple[int, int],
    queries: Mapping[str, str] | Sequence[str],
    **defaults: object,
) -> Json:
    """Build a panel.

    Args:
        kind: a key of panels.yaml.
        text: what it says about itself.
        size: width and height on the grid of 24 columns.
        queries: PromQL, by the name of the series where the kind shows names.
        defaults: the field's further defaults, such as its unit.
    """
    template = {key: value for key, value in KINDS[kind].items() if key != "target"}
    field = template["fieldConfig"]
    return template | {
        "title": text.title,
        "description": text.description,
        "datasource": SOURCE,
        "gridPos": dict(zip("wh", size, strict=True)),
        "targets": list(_targets(queries, KINDS[kind]["target"])),
        "fieldConfig": {
            "defaults": {**field["defaults"], "noValue": text.nothing, **defaults},
            "overrides": field.get("overrides", []),
        },
        "repeatDirection": "h",
        "transparent": False,
    }


def _targets(queries: Mapping[str, str] | Sequence[str], common: Json) -> Iterable[Json]:
    named = queries if isinstance(queries, Mapping) else dict.fromkeys(queries, "")
    for letter, (first, second) in zip("ABCDEF", named.items(), strict=False):
        target = {**common, "refId": letter, "datasource": SOURCE}
        yield target | ({"legendFormat": first, "expr": second} if second else {"expr": first})


def table(
    text: Text, size: tuple[int, int], queries: Sequence[str], columns: Sequence[Column]
) -> Json:
    """Build a table; its columns are in the order of the arguments."""
    organize = {
        "includeByName": {column.field: True for column in columns},
        "indexByName": {column.field: index for index, column in enumerate(columns)},
        "renameByName": {column.field: column.name for column in columns},
    }
    built = panel("table", text, size, queries)
    built["fieldConfig"]["overrides"] = [
        {
            "matcher": {"id": "byName", "options": column.name},
            "properties": [{"id": k, "value": v} for k, v in KINDS["cells"][column.cell].items()],
        }
        for column in columns
    ]
    steps = {"merge": {}, "organize": organize}
    return built | {"transformations": [{"id": k, "options": v} for k, v in steps.items()]}


def place(layout: Mapping[str, Iterable[Json]]) -> Iterable[Json]:
    """Put the panels of each row on the grid, from left to right."""
    y = 0
    for title, panels in layout.items():
        grid = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        yield {"type": "row", "title": title, "id": 0, "collapsed": False, "panels": []} | {
            "gridPos": grid
        }
        x, y, height = 0, y + 1, 0
        for each in panels:
            size = each["gridPos"]
            if x + size["w"] > COLUMNS:
                x, y = 0, y + height
            yield each | {"gridPos": {"x": x, "y": y, **size}}
            x, height = x + size["w"], size["h"]
        y += height
