import json
from pathlib import Path

import page
import pytest
from rows import AtMost, Row, alone, paired
from samples import Samples, Summary, interleave, once

DOCS = Path(__file__).parent.parent / "docs"


def of(*values: float) -> Samples:
    return Samples(values)


def row(ratio: float, *, limit: float = 1.15) -> Row:
    ours, theirs = of(*(ratio * each for each in (0.9, 1.0, 1.1))), of(1.0, 1.0, 1.0)
    return paired(
        "round.bare", "a round", ours, theirs, unit="ms", against="bare", goals=(AtMost(limit),)
    )


def test_ways_are_measured_in_turn_and_each_second_turn_backwards() -> None:
    asked: list[str] = []

    def way(name: str) -> float:
        asked.append(name)
        return float(len(asked))

    taken = interleave({"a": lambda: way("a"), "b": lambda: way("b")}, times=3, warm_up=1)
    assert "".join(asked) == "abbaabba"
    assert taken["a"].values == (4, 5, 8)


def test_a_ratio_is_that_of_what_was_measured_together() -> None:
    assert of(2, 30).over(of(1, 10)).values == (2, 3)


def test_what_was_measured_once_is_its_own_median_and_quartiles() -> None:
    assert once(3).summary() == Summary(median=3, low=3, high=3, count=1)


@pytest.mark.parametrize(("ratio", "met"), [(1.1, True), (1.2, False)])
def test_a_goal_is_met_by_the_median_of_the_ratio(ratio: float, met: bool) -> None:  # noqa: FBT001
    assert row(ratio).met is met
    assert page.missed([row(ratio)]) == ([] if met else ["round.bare"])


def test_a_goal_of_the_value_is_held_against_the_value() -> None:
    heavy = alone("memory", "memory", once(61e6), unit="MB", goals=(AtMost(60e6, of_ratio=False),))
    assert not heavy.met
    assert "| 61 MB |  |  |  | at most 60 MB | **no** |" in page.table([heavy])


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [(2.0, 3.0, "worse"), (3.0, 2.0, "better"), (2.0, 2.1, "Nothing differs")],
)
def test_ratios_are_compared_with_those_checked_in_beyond_their_spread(
    before: float, now: float, said: str
) -> None:
    (line,) = page.compare([row(now)], [row(before)])
    assert line.startswith(said)


def test_a_goal_that_is_missed_now_is_told_though_the_spreads_overlap() -> None:
    (line,) = page.compare([row(1.16)], [row(1.14)])
    assert line == "worse   round.bare: its goal was met before, and is missed now"


def test_without_figures_checked_in_there_is_nothing_to_compare_with() -> None:
    (line,) = page.compare([row(1.0)], [])
    assert line == "There are no figures checked in to compare with."


def test_a_row_is_read_again_as_it_was_written() -> None:
    written = row(1.1)
    assert Row.of_document(written.key, json.loads(json.dumps(written.document()))) == written


def test_the_page_is_what_the_figures_beside_it_make() -> None:
    assert page.PAGE.read_text() == page.page()


def test_every_goal_that_is_missed_has_a_note_that_tells_why() -> None:
    assert all(row.note for row in page.checked_in() if not row.met)


def test_the_readme_quotes_the_headline_of_the_cost_page() -> None:
    headline = (DOCS / "cost.md").read_text().split("\n\n")[2]
    readme = (DOCS.parent / "README.md").read_text()
    assert " ".join(headline.split()) in " ".join(readme.replace("\n> ", "\n").split())
