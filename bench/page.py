"""The cost page and the machine-readable figures beside it, and the comparison with older ones."""

import json
import os
import platform
import textwrap
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from rows import UNITS, AtMost, Row
from samples import Summary

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
_LINE = """

## Where the line is drawn

What profiling found and was mended: all four connections of a round are made side by side, not
after the first answer; only a thread that has work is woken; the kernel tells of a changed admin
setting, where a look every five seconds cost four seconds of CPU a day (and a C program that merely
wakes up that often, one to two); drivers are loaded by the command that needs them.

What was left, for the sake of plain code:

- A round guards against a resolver and a server that hang, with threads of its own, and lets no
  question starve another: that is what it takes longer than bare pymongo.
- `show`, `check` and `once` wait half a second at their end for pymongo's threads, as any program
  with pymongo does.
- Nine tenths of the memory are the imports of pymongo, which loads asyncio, of the SDK and of
  requests. A sender of our own on plain sockets would save a few megabytes, and would have to
  be trusted with proxies and TLS.
- A container probe is a Python process. It loads no driver, but at one a minute the probes take
  more CPU than everything else together: every five minutes is enough.
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
    """Write both files; rows that were not measured anew stay as they are."""
    known = {row.key: row for row in checked_in()} | {row.key: row for row in rows}
    FIGURES.write_text(_document(known.values()))
    PAGE.write_text(page())


def page() -> str:
    """The page that the machine-readable figures make."""
    rows = checked_in()
    machine = json.loads(FIGURES.read_text())["machine"]
    paragraphs = _TOP.format(headline=headline(rows), machine=machine).split("\n\n")
    filled = (textwrap.fill(each, 100, break_on_hyphens=False) for each in paragraphs)
    return "\n\n".join(filled) + table(rows) + _LINE


def checked_in() -> list[Row]:
    """The rows checked in; none where there are none."""
    if not FIGURES.exists():
        return []
    rows = json.loads(FIGURES.read_text())["rows"]
    return [Row.of_document(key, document) for key, document in rows.items()]


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


def compare(rows: Sequence[Row], before: Sequence[Row]) -> list[str]:
    """Say what became worse or better than the figures checked in: ratios, and goals met."""
    if not before:
        return ["There are no figures checked in to compare with."]
    old = {row.key: row for row in before}
    said = [line for row in rows if (line := _changed(row, old.get(row.key)))]
    return said or ["Nothing differs from the figures checked in by more than the spread."]


def missed(rows: Sequence[Row]) -> list[str]:
    """Name the rows whose goal is not met."""
    return [row.key for row in rows if not row.met]


def written(samples: Summary, unit: str) -> str:
    """The median, in its unit."""
    return _measure(samples.median, unit)


def _measure(value: float, unit: str) -> str:
    factor, name = UNITS[unit]
    return f"{_number(value * factor)} {name}".strip()


def _cells(row: Row) -> list[str]:
    return [
        _spread(row.value, row.unit),
        row.against,
        "" if row.other is None else _spread(row.other, row.unit),
        "" if row.ratio is None else f"{row.ratio.median:.2f} ({_range(row.ratio)})",
        "; ".join(_goal(goal, row.unit) for goal in row.goals) or "shown",
        ("yes" if row.met else "**no**") if row.goals else "",
    ]


def _spread(samples: Summary, unit: str) -> str:
    middle = written(samples, unit)
    if samples.count == 1:
        return middle
    factor, _ = UNITS[unit]
    return f"{middle} ({_number(samples.low * factor)} to {_number(samples.high * factor)})"


def _range(ratio: Summary) -> str:
    return f"{ratio.low:.2f} to {ratio.high:.2f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"  # noqa: PLR2004


def _goal(goal: AtMost, unit: str) -> str:
    if goal.of_ratio:
        return f"at most {goal.limit:g} times"
    return f"at most {_measure(goal.limit, unit)}"


def _ratio_of(row: Row) -> str:
    return f"{row.ratio.median:.2f}" if row.ratio is not None else "?"


def _changed(row: Row, before: Row | None) -> str:
    if before is None:
        return ""
    if before.met and not row.met:
        return f"worse   {row.key}: its goal was met before, and is missed now"
    was, now = before.ratio, row.ratio
    if was is None or now is None:
        return ""
    told = f"{row.key}: {was.median:.2f} before, {now.median:.2f} now"
    if now.low > was.high and now.median > was.median * WORSE_BY:
        return f"worse   {told}"
    if now.high < was.low and now.median * WORSE_BY < was.median:
        return f"better  {told}"
    return ""


def _document(rows: Iterable[Row]) -> str:
    lines = [f"  {json.dumps(row.key)}: {json.dumps(row.document())}" for row in rows]
    machine = json.dumps(_machine())
    return f'{{\n "machine": {machine},\n "rows": {{\n' + ",\n".join(lines) + "\n }\n}\n"


def _machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("pymongo", "opentelemetry-sdk"))
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, "
        f"Python {platform.python_version()}, {packages}"
    )
