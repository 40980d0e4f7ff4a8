from typing import Any

import compare
import pytest
from compare import Line, Sample

from otel_novu.metrics.beacon import BEACON
from otel_novu.metrics.metric import Metric
from otel_novu.metrics.usage import FIGURES, USAGE

TABLES: tuple[Metric[Any], ...] = (*BEACON, *USAGE)
ROWS = {row.name: row for row in TABLES}
NOW = 1_800_000_000.0


def lines(name: str, samples: list[Sample], answers: compare.Answers | None = None) -> list[Line]:
    return compare.compare(ROWS[name], answers or {}, samples, NOW)


def sample(value: float, **labels: str) -> Sample:
    return Sample(labels, float(value))


@pytest.mark.parametrize(
    ("samples", "verdict"),
    [
        ([sample(3)], "equal"),
        ([sample(4)], "DIFFERENT"),
        ([sample(3), sample(3)], "DIFFERENT"),
        ([], "MISSING"),
    ],
)
def test_a_total_is_equal_only_if_one_series_has_the_databases_answer(
    samples: list[Sample], verdict: str
) -> None:
    (line,) = lines("novu.user.count", samples, {"userCount": 3})
    assert (line.verdict, line.expected) == (verdict, "3")


def test_providers_are_compared_one_by_one_and_one_that_is_gone_is_zero() -> None:
    seen = [sample(2, novu_provider_id="novu"), sample(0, novu_provider_id="gone")]
    answers = {"integrationCount": {"novu": 2, "slack": 1}}
    verdicts = [
        (line.series, line.verdict) for line in lines("novu.integration.count", seen, answers)
    ]
    assert verdicts == [
        ("novu_integration_count{gone}", "equal"),
        ("novu_integration_count{novu}", "equal"),
        ("novu_integration_count{slack}", "MISSING"),
    ]


def test_unlawful_missing_and_too_many_providers_are_folded_as_the_exporter_does() -> None:
    rows: list[dict[str, Any]] = [
        {"_id": "novu", "count": 9},
        {"_id": None, "count": 2},
        {"_id": "Our Gateway", "count": 3},
        {"_id": 42, "count": 1},
        *({"_id": f"p{n:03}", "count": 1} for n in range(200)),
    ]
    folded = compare.fold_providers(rows)
    assert folded["novu"] == 9
    assert folded["unknown"] == 2
    assert folded["other"] == 4 + 3  # of 203 names 200 are kept
    assert sum(folded.values()) == sum(row["count"] for row in rows)


@pytest.mark.parametrize(
    ("name", "samples", "good"),
    [
        ("novu.beacon.timestamp", [sample(NOW - 60.5)], True),
        ("novu.beacon.timestamp", [sample(NOW - 3600)], False),
        ("novu.beacon.timestamp", [sample(NOW + 3600)], False),
        ("novu.usage.timestamp", [], False),
        ("novu.usage.enabled", [sample(1)], True),
        ("novu.usage.enabled", [sample(0)], False),
        ("novu.event.created", [sample(0)], True),
        ("novu.event.created", [sample(-1)], False),
        ("novu.event.created", [sample(0.5)], False),
        ("novu.event.created", [], False),
        ("novu.host.memory.total", [sample(1)], False),
        ("novu.host.memory.free", [sample(0)], False),
        ("novu.host.info", [sample(1, host_name="elsewhere", os_type="x", os_version="y")], False),
        ("novu.spool.reports", [sample(0)], True),
        ("novu.spool.reports", [], False),
        ("novu.usage.read.duration", [sample(0.1, novu_figure="user.count")], False),
        ("novu.usage.read.failures", [sample(0, novu_figure=f.name) for f in FIGURES], True),
        ("novu.usage.read.failures", [sample(1, novu_figure=f.name) for f in FIGURES], False),
    ],
)
def test_what_the_database_can_not_tell_is_judged_by_sense(
    name: str,
    samples: list[Sample],
    good: bool,  # noqa: FBT001 - a column of the table
) -> None:
    (line,) = lines(name, samples)
    assert line.good is good


def test_the_table_is_aligned() -> None:
    table = compare.format_table(
        [Line("novu_user_count", "3", "3", good=True), Line("novu_x", "10", "", good=False)]
    )
    assert table.splitlines() == [
        "metric           database  Prometheus",
        "novu_user_count         3           3  equal",
        "novu_x                 10              MISSING",
    ]
