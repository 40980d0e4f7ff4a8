"""The dashboard "Novu", from novu.yaml.

As a command it writes dashboards/novu.json, and the recording rules that its queries read:

    python examples/grafana/novu_dashboard.py
"""

import json
import re
import sys
from pathlib import Path

import rules
import yaml
from panels import KINDS, SOURCE, Json, build, place

FILE = Path(__file__).parent / "dashboards" / "novu.json"
BOARD: Json = yaml.safe_load(Path(__file__).with_name("novu.yaml").read_text())


def to_json() -> str:
    """Return the text of the file."""
    layout = {
        row: [build(panel | {"queries": _spelt(panel["queries"])}) for panel in panels]
        for row, panels in BOARD["rows"].items()
    }
    reporting = '__name__=~"novu_beacon_timestamp_seconds|novu_usage_timestamp_seconds"'
    variables = [
        KINDS["source"],
        _variable("job", "Deployment", f"{{{reporting}}}"),
        KINDS["environment"],
        _variable("instance", "Exporter", f'{{{reporting},job=~"$job"}}'),
    ]
    panels = list(place(layout, BOARD["closed"]))
    board = {"templating": {"list": variables}, "panels": panels}
    return json.dumps({**KINDS["dashboard"], **board}, indent=2, sort_keys=True) + "\n"


def _spelt(queries: dict[str, str]) -> dict[str, str]:
    """Put in what the words in capitals stand for, some of which contain another one."""
    words = BOARD["words"]
    pattern = re.compile(rf"\b({'|'.join(words)})\b")
    for _ in range(2):
        queries = {
            name: pattern.sub(lambda word: words[word[0]], query) for name, query in queries.items()
        }
    return queries


def _variable(name: str, label: str, selector: str) -> Json:
    query = f"label_values({selector}, {name})"
    return {**KINDS["variable"], "name": name, "label": label, "query": query} | {
        "datasource": SOURCE
    }


if __name__ == "__main__":
    FILE.write_text(to_json())
    rules.FILE.write_text(rules.to_yaml())
    sys.stdout.write(f"wrote {FILE} and {rules.FILE}\n")
