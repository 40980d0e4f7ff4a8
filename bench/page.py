"""The cost page and the machine-readable figures beside it, and the comparison with older ones."""

import json
import os
import platform
import textwrap
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rows import UNITS, AtMost, Row
from samples import Samples

DOCS = Path(__file__).parent.parent / "docs"
PAGE, FIGURES = DOCS / "cost.md", DOCS / "cost.json"
# A ratio may rise by so much, beyond both spreads, before it is called worse.
WORSE_BY = 1.1

_HEADLINE = ("round.bare", "round.node", "memory.http", "idle.cpu")
_TOP = """\
<!-- Written by `make bench`; edit bench/page.py. -->

# What otel-novu costs

{headline}

Measured by `make bench` on the real servers (bench/README.md tells how), everything side by side
in one run: a ratio is the median of pairs that were measured one after the other, with its
quartiles; absolute times belong to this machine ({machine}) and are shown, not compared.

"""


def headline(rows: Sequence[Row]) -> str:
    """The sentence that the README quotes."""
    by_key = {row.key: row for row in rows}
    bare, node, memory, idle = (by_key[key] for key in _HEADLINE)
    return (
        f"A round of all figures takes {_ratio_of(bare)} times the time of bare pymongo asking the "
        f"same questions, and {_ratio_of(node)} times that of Node with mongoose; `run` stays at "
        f"{written(memory.value, memory.unit)} of memory over HTTP, and between reports uses "
        f"{written(idle.value, idle.unit)} of CPU a day."
    )


def write(rows: Sequence[Row]) -> None:
    """Write both files."""
    PAGE.write_text(_top(rows) + table(rows))
    document = {"machine": _machine(), "rows": {row.key: row.document() for row in rows}}
    FIGURES.write_text(json.dumps(document, indent=1) + "\n")


def _top(rows: Sequence[Row]) -> str:
    text = _TOP.format(headline=headline(rows), machine=_machine())
    paragraphs = text.split("\n\n")
    return "\n\n".join(textwrap.fill(each, 100, break_on_hyphens=False) for each in paragraphs)


def table(rows: Sequence[Row]) -> str:
    """All rows as Markdown, the notes below."""
    notes = [row.note for row in rows if row.note]
    lines = [
        "| measured | value | against | its value | ratio | goal | met |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        mark = f" [{notes.index(row.note) + 1}]" if row.note else ""
        lines.append("| " + " | ".join([row.measure + mark, *_cells(row)]) + " |")
    told = [f"[{number}] {note}" for number, note in enumerate(notes, start=1)]
    return "\n".join(lines) + "\n" + "".join(f"\n{line}\n" for line in told)


def checked_in() -> Mapping[str, Any] | None:
    """The figures checked in, by the rows' keys; None where there are none."""
    if not FIGURES.exists():
        return None
    figures: Mapping[str, Any] = json.loads(FIGURES.read_text())["rows"]
    return figures


def compare(rows: Sequence[Row], before: Mapping[str, Any] | None) -> list[str]:
    """Say what became worse or better than the figures checked in; ratios only."""
    if before is None:
        return ["There are no figures checked in to compare with."]
    said = [line for row in rows if (line := _changed(row, before.get(row.key)))]
    return said or ["No ratio differs from the figures checked in by more than the spread."]


def missed(rows: Sequence[Row]) -> list[str]:
    """Name the rows whose goal is not met."""
    return [row.key for row in rows if not row.met]


def written(samples: Samples, unit: str) -> str:
    """The median, in its unit."""
    factor, name = UNITS[unit]
    return f"{_number(samples.median * factor)} {name}".strip()


def _cells(row: Row) -> list[str]:
    return [
        _spread(row.value, row.unit),
        row.against,
        "" if row.other is None else _spread(row.other, row.unit),
        "" if row.ratio is None else f"{row.ratio.median:.2f} ({_range(row.ratio)})",
        "; ".join(_goal(goal, row.unit) for goal in row.goals) or "shown",
        ("yes" if row.met else "**no**") if row.goals else "",
    ]


def _spread(samples: Samples, unit: str) -> str:
    middle = written(samples, unit)
    if len(samples.values) == 1:
        return middle
    factor, _ = UNITS[unit]
    return f"{middle} ({_number(samples.low * factor)} to {_number(samples.high * factor)})"


def _range(ratio: Samples) -> str:
    return f"{ratio.low:.2f} to {ratio.high:.2f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"  # noqa: PLR2004


def _goal(goal: AtMost, unit: str) -> str:
    if goal.of_ratio:
        return f"at most {goal.limit:g} times"
    return f"at most {written(Samples((goal.limit,)), unit)}"


def _ratio_of(row: Row) -> str:
    return f"{row.ratio.median:.2f}" if row.ratio is not None else "?"


def _changed(row: Row, before: Mapping[str, Any] | None) -> str:
    if before is None or before["ratio"] is None or row.ratio is None:
        return ""
    was, now = before["ratio"], row.ratio
    told = f"{row.key}: {was['median']:.2f} before, {now.median:.2f} now"
    if now.low > was["high"] and now.median > was["median"] * WORSE_BY:
        return f"worse   {told}"
    if now.high < was["low"] and now.median * WORSE_BY < was["median"]:
        return f"better  {told}"
    return ""


def _machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("pymongo", "opentelemetry-sdk"))
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, "
        f"Python {platform.python_version()}, {packages}"
    )
