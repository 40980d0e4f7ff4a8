"""docs/reliability.md against the tests that it names and the settings that it tells."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"
LINK = re.compile(r"\[([^]]+)\]\((\.\./tests/[^)#]+)#(test_\w+)\)")
# Whoever tests a fault there has to tell of it.
OF_FAULTS = (
    "test_faults_collector.py",
    "test_faults_database.py",
    "test_faults_disk.py",
    "test_kills.py",
    "test_life.py",
    "test_soak.py",
    "test_week_of_outage.py",
)


def rows() -> Iterator[list[str]]:
    """The cells of each row of the tables."""
    for line in PAGE.read_text().splitlines():
        if line.startswith("| ") and not line.startswith("| fault "):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


@cache
def names_in(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text())
    return frozenset(
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def named() -> set[tuple[Path, str]]:
    links = LINK.findall(PAGE.read_text())
    return {((PAGE.parent / place).resolve(), name) for _, place, name in links}


def test_each_fault_tells_what_is_seen_and_lost_and_names_a_test() -> None:
    found = list(rows())
    assert len(found) > 30
    for cells in found:
        assert len(cells) == 4, cells
        assert all(cells), cells
        assert LINK.search(cells[3]), cells


def test_each_test_that_is_named_exists() -> None:
    missing = [(file.name, name) for file, name in named() if name not in names_in(file)]
    assert missing == []


def test_each_name_is_shown_as_the_sentence_that_it_is() -> None:
    for text, _, name in LINK.findall(PAGE.read_text()):
        assert text == name.removeprefix("test_").replace("_", " ")


@pytest.mark.parametrize("name", OF_FAULTS)
def test_each_test_of_a_fault_is_named(name: str) -> None:
    file = ROOT / "tests" / "integration" / name
    told = {test for place, test in named() if place == file}
    assert sorted(names_in(file) - told) == []


def test_the_window_that_the_page_shows_is_the_one_that_is_shipped() -> None:
    setting = re.compile(r"out_of_order_time_window: \w+")
    shown = setting.findall(PAGE.read_text())
    for config in ("examples/prometheus/prometheus.yml", "examples/stack/prometheus.yml"):
        assert setting.findall((ROOT / config).read_text()) == shown
