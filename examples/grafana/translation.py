"""Dashboard, rules and alerts for backends that translate OpenTelemetry's names in another way.

Everything else here is written for the default of Prometheus and the collector; docs/viewing.md
tells which of the others is whose. As a command it writes the files:

    python examples/grafana/translation.py
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import novu_dashboard
import rules

from otel_novu.metrics.beacon import BEACON
from otel_novu.metrics.metric import Metric
from otel_novu.metrics.prometheus import prometheus_label, prometheus_name
from otel_novu.metrics.usage import USAGE

DEFAULT = "UnderscoreEscapingWithSuffixes"
STRATEGIES = ("UnderscoreEscapingWithoutSuffixes", "NoUTF8EscapingWithSuffixes", "NoTranslation")

_FOLDER = Path(__file__).parents[1] / "translation"
_HEAD = "# Those of examples/prometheus for `{}`; written by `make dashboard`.\n\ngroups:\n"
_ROWS: tuple[Metric[Any], ...] = (*BEACON, *USAGE)


def folder(strategy: str) -> Path:
    """Return where rules.yml and alerts.yml are."""
    return rules.FILE.parent if strategy == DEFAULT else _FOLDER / strategy


def dashboard(strategy: str) -> Path:
    """Return the file."""
    return novu_dashboard.FILE if strategy == DEFAULT else _FOLDER / strategy / "novu.json"


def files() -> Iterator[tuple[Path, str]]:
    """Yield the files and their texts."""
    board = json.loads(novu_dashboard.to_json())
    for strategy in STRATEGIES:
        translator = Translator(strategy)
        yield dashboard(strategy), json.dumps(translator.board(board)) + "\n"
        for name in ("rules.yml", "alerts.yml"):
            groups = (folder(DEFAULT) / name).read_text().partition("\ngroups:\n")[2]
            yield folder(strategy) / name, _HEAD.format(strategy) + translator.query(groups)


class Translator:
    """Translates from the default; a dotted name is quoted, and inside the braces."""

    def __init__(self, strategy: str) -> None:
        self._dots, self._suffixes = strategy.startswith("No"), strategy.endswith("WithSuffixes")
        self._names = {prometheus_name(row): self._name(row) for row in _ROWS}
        keys = {key for row in _ROWS for key in row.attributes if self._dots}
        self._labels = {prometheus_label(key): key for key in keys}
        # Values of the label `figure`, which the rules cut out of the names.
        figures = {re.sub(r"^novu\.|\.count$", "", row.name) for row in _ROWS if self._dots}
        self._figures = {figure.replace(".", "_"): figure for figure in figures}

    def query(self, text: str) -> str:
        """Translate PromQL, also inside YAML."""
        text = re.sub(r"\$labels\.(\w+)", self._template, text)
        text = _replace(text, self._figures, '(?<=["|(])', '(?=["|)])')
        text = _replace(text, self._names, '(?<=["|])', "")  # inside a regular expression
        text = re.sub(r'(?<![\w:."])(novu_\w+)\b(\{)?', self._selector, text)
        for word, key in self._labels.items():
            text = re.sub(rf'(?<![\w.])"?\b{word}\b"?(?!\w)', f'"{key}"', text)
        return self._patterns(text)

    def plain(self, text: str) -> str:
        """Translate labels and figures outside of PromQL."""
        return _replace(text, self._labels | self._figures, r"\b", r"\b")

    def board(self, node: object, key: str = "") -> object:
        """Translate a dashboard."""
        if isinstance(node, dict):
            return {self.plain(name): self.board(value, name) for name, value in node.items()}
        if isinstance(node, list):
            return [self.board(value, key) for value in node]
        if isinstance(node, str):
            return self.query(node) if key in ("expr", "query") else self.plain(node)
        return node

    def _name(self, row: Metric[Any]) -> str:
        escaped = row.name.replace(".", "_")
        suffix = prometheus_name(row).removeprefix(escaped) if self._suffixes else ""
        return (row.name if self._dots else escaped) + suffix

    def _selector(self, found: re.Match[str]) -> str:
        name, brace = self._names.get(found[1]), found[2] or ""
        if name is None or not self._dots:
            return (name or found[1]) + brace
        return f'{{"{name}"' + (", " if brace else "}")

    def _template(self, found: re.Match[str]) -> str:
        label = self._labels.get(found[1])
        return f'index $labels "{label}"' if label else found[0]

    def _patterns(self, text: str) -> str:
        """Translate the regular expressions of rules.py."""
        if not self._suffixes:
            text = text.replace(')_total"', ')"')
        if self._dots:
            text = text.replace(')_count"', ')[.]count"')
            text = re.sub(r"\bnovu_(\.\+)_\(", "novu[.].+[.](", text).replace("novu_(", "novu[.](")
        return text


def _replace(text: str, words: Mapping[str, str], before: str, after: str) -> str:
    pattern = f"{before}({'|'.join(sorted(words, key=len, reverse=True))}){after}"
    return re.sub(pattern, lambda found: words[found[1]], text) if words else text


if __name__ == "__main__":
    for file, text in files():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        sys.stdout.write(f"wrote {file}\n")
