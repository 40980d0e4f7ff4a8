"""Panels of the dashboard: novu.yaml says what each shows, panels.yaml how each kind looks."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]

KINDS: Json = yaml.safe_load(Path(__file__).with_name("panels.yaml").read_text())
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24
NOTHING = "Needs two hourly reports with usage figures, and rules.yml"


def build(given: Json) -> Json:
    """Build a panel of novu.yaml."""
    kind, size = given["kind"].split()
    template = {key: value for key, value in KINDS[kind].items() if key != "target"}
    defaults = template["fieldConfig"]["defaults"] | {"noValue": given.get("nothing", NOTHING)}
    built = template | {
        "title": given["title"],
        "description": given["about"],
        "datasource": SOURCE,
        "gridPos": dict(zip("wh", map(int, size.split("x")), strict=True)),
        "targets": list(_targets(given, KINDS[kind]["target"])),
        "fieldConfig": {
            "defaults": defaults | _look(given.get("look", {})),
            "overrides": list(_overrides(given)),
        },
        "repeatDirection": "h",
        "transparent": False,
    }
    return built | (_joined(given, built) if "columns" in given else {})


def place(layout: Mapping[str, list[Json]], closed: Iterable[str]) -> Iterator[Json]:
    """Put the panels of each row on the grid; those of a closed row are inside it."""
    y = 0
    for title, panels in layout.items():
        row: Json = {"type": "row", "title": title, "id": 0, "collapsed": title in closed}
        row["gridPos"] = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        y += 1
        placed, below = _placed(panels, y)
        yield row | {"panels": placed if title in closed else []}
        if title not in closed:
            yield from placed
            y = below


def _placed(panels: list[Json], y: int) -> tuple[list[Json], int]:
    """Go from left to right, and return where the next row begins."""
    placed, x, height = [], 0, 0
    for panel in panels:
        size = panel["gridPos"]
        if x + size["w"] > COLUMNS:
            x, y = 0, y + height
        placed.append(panel | {"gridPos": {"x": x, "y": y, **size}})
        x, height = x + size["w"], size["h"]
    return placed, y + height


def _targets(given: Json, common: Json) -> Iterator[Json]:
    over_time = KINDS["parts"]["range"] | {"format": "time_series"}
    for letter, (name, query) in zip("ABCDEFGH", given["queries"].items(), strict=False):
        target = {**common, "refId": letter, "datasource": SOURCE, "expr": query}
        if "columns" in given:
            yield target | (over_time if letter in _trends(given) else {})
        else:
            yield target | {"legendFormat": name}


def _trends(given: Json) -> list[str]:
    """Return the queries of a table that are drawn."""
    return [name for name, column in given["columns"].items() if column.endswith(", trend")]


def _overrides(given: Json) -> Iterator[Json]:
    for column in given.get("columns", {}).values():
        name, cell = column.split(", ")
        yield _override("byName", name, KINDS["cells"][cell])
    for key, look in given.items():
        if key.startswith("part "):
            yield _override("byFrameRefID", key[-1], look)
    for name, colour in given.get("colours", {}).items():
        yield _override("byName", name, {"color": {"mode": "fixed", "fixedColor": colour}})


def _override(matcher: str, name: str, look: Json) -> Json:
    properties = [{"id": key, "value": value} for key, value in _look(look).items()]
    return {"matcher": {"id": matcher, "options": name}, "properties": properties}


def _look(look: Json) -> Json:
    """Spell out thresholds such as [green, 4200 orange]."""
    if not isinstance(look.get("thresholds"), list):
        return look
    first, *others = look["thresholds"]
    steps: list[Json] = [{"value": None, "color": first}]
    for value, colour in map(str.split, others):
        steps.append({"value": float(value), "color": colour})
    return look | {"thresholds": {"mode": "absolute", "steps": steps}}


def _joined(given: Json, built: Json) -> Json:
    """Join the rows of several queries, by the first column or by all labels."""
    names = {
        key if len(key) > 1 else f"{'Trend' if key in _trends(given) else 'Value'} #{key}": column
        for key, column in given["columns"].items()
    }
    organize = {
        "includeByName": dict.fromkeys(names, True),
        "indexByName": {name: index for index, name in enumerate(names)},
        "renameByName": {name: column.split(", ")[0] for name, column in names.items()},
    }
    # Only a drawn query has a time series: of others a trend would be a point.
    steps = [
        {
            "id": "timeSeriesTable",
            "filter": {"id": "byRefId", "options": letter},
            "options": {letter: {"timeField": "Time"}},
        }
        for letter in _trends(given)
    ]
    by_all = given.get("join") == "all"
    by_field = {"byField": next(iter(names)), "mode": "outer"}
    steps.append(
        {"id": "merge" if by_all else "joinByField", "options": {} if by_all else by_field}
    )
    steps.append({"id": "organize", "options": organize})
    sort = [{"displayName": given["sort"], "desc": True}]
    return {"transformations": steps, "options": built["options"] | {"sortBy": sort}}
