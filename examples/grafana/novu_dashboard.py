"""The dashboard "Novu", built from the exporter's own tables.

As a command it writes dashboards/novu.json anew:

    python examples/grafana/novu_dashboard.py
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import panels
import promql
from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models
from panels import BAD, GOOD, LATE, Column, Panel, Query, Size, Text

from otel_novu.metrics.beacon import BEACON
from otel_novu.metrics.metric import Metric
from otel_novu.metrics.usage import USAGE

FILE = Path(__file__).parent / "dashboards" / "novu.json"

_TABLES: tuple[Metric[Any], ...] = (*BEACON, *USAGE)
_ROWS = {row.name: row for row in _TABLES}

# In the order of reading: who is served, with what, how it is made, and by whom.
_TOTALS = {
    "novu.subscriber.count": "Subscribers",
    "novu.event.count": "Events",
    "novu.workflow.count": "Workflows",
    "novu.workflow.step.count": "Steps",
    "novu.topic.count": "Topics",
    "novu.user.count": "Users",
    "novu.organization.count": "Organizations",
    promql.INTEGRATIONS: "Integrations",
}
_OTHERS_CREATED = {
    "novu.workflow.created": "workflows",
    "novu.topic.created": "topics",
    "novu.user.created": "users",
    "novu.organization.created": "organizations",
}
_LOSSES = {
    "novu.spool.dropped": "reports given up",
    "novu.spool.rejected": "points rejected",
    "novu.schema.dropped": "points not sent",
}
_HOUR, _DAY = "1h", "1d"
_SPANS = {
    _HOUR: "Each bar is the difference of two reports an hour apart. An outage of more than an "
    "hour leaves a gap; the bars per day make up for it.",
    _DAY: "Each bar is a day of UTC: the difference of its last report and that of the day before.",
}
_CREATED = {_HOUR: promql.created_per_hour, _DAY: promql.created_per_day}
_FRESHEST = (
    "Of several exporters of a deployment that one counts that read last, if within two hours."
)
_OFF_OR_UNREAD = "Usage figures are off, or none was read in this time."

_JOB = "{{job}}"
_HOST = "{{host_name}} ({{id}})"
_PROVIDER = f"{{{{{promql.PROVIDER_LABEL}}}}}"
_FIGURE = f"{{{{{promql.FIGURE_LABEL}}}}}"


def build() -> models.Dashboard:
    """Build the dashboard."""
    board = (
        dashboard.Dashboard("Novu")
        .uid("otel-novu")
        .description("What a self-hosted Novu holds, and how its exporters fare, hour by hour.")
        .tags(["novu", "otel-novu"])
        .time("now-7d", "now")
        .refresh("5m")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
    )
    for variable in _variables():
        board.with_variable(variable)
    for title, row in _LAYOUT.items():
        board.with_row(dashboard.Row(title))
        for panel in row():
            board.with_panel(panel)
    return board.build()


def to_json() -> str:
    """Give the text of the file."""
    return json.dumps(build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _variables() -> Iterator[Builder[models.VariableModel]]:
    yield (
        dashboard.DatasourceVariable("datasource")
        .label("Data source")
        .description("The Prometheus that the collector writes to.")
        .type("prometheus")
    )
    yield _label_variable("job", "Deployment", promql.reporting())
    yield _label_variable("instance", "Instance", promql.reporting('job=~"$job"'))


def _label_variable(name: str, label: str, selector: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(panels.SOURCE)
        .query(f"label_values({selector}, {name})")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".+")
        .current(models.VariableOption(selected=True, text="All", value="$__all"))
    )


# --- At a glance ---------------------------------------------------------------------------------


def _at_a_glance() -> Iterator[Panel]:
    yield from map(_tile, _TOTALS)
    yield _age()
    yield _telemetry()


def _tile(name: str) -> Panel:
    now, then = _total_by_deployment(name), _total_by_deployment(name, "$__range")
    return panels.tile(
        Text(
            _TOTALS[name],
            f"{_described(name)} {_FRESHEST} Deployments add up. The change is that over the "
            "chosen time range; it is left out where there was no reading at its beginning.",
        ),
        Size(6, 4),
        f"sum({now})\nor\n{promql.usage_off()}",
        f"sum({now}\n-\n{then})",
    )


def _total_by_deployment(name: str, ago: str = "") -> str:
    if name == promql.INTEGRATIONS:
        return f"sum by (job) ({promql.totals_by_provider(ago)})"
    return promql.total(name, ago)


def _described(name: str) -> str:
    row = _ROWS[name]
    return f"{row.description} From `{row.name}`: {row.source}."


def _age() -> Panel:
    return panels.age(
        Text(
            "Age of the last report",
            "Time since the last beacon of each deployment was read, by whichever of its "
            "exporters and by that one's clock; looks back seven days. From "
            "`novu.beacon.timestamp`.",
        ),
        Size(8, 6),
        Query(promql.age_by_deployment(), _JOB),
    )


def _telemetry() -> Panel:
    states = {1: ("on", GOOD), 0: ("off", LATE)}
    return panels.rows(
        Text(
            "Telemetry",
            "Whether each exporter may send usage figures, as its last beacon said; looks back "
            f"seven days. From `novu.usage.enabled`: {_ROWS['novu.usage.enabled'].source}.",
        ),
        Size(16, 6),
        [
            promql.by_instance(promql.last(promql.USAGE_ENABLED, promql.KEPT)),
            promql.by_instance(promql.beacon_age()),
            promql.hosts("host_name"),
        ],
        [
            Column("job", "Deployment"),
            Column("host_name", "Host name"),
            Column("instance", "Instance"),
            Column("Value #A", "Usage figures", properties=panels.words(states)),
            Column("Value #B", "Last beacon", "s", properties=panels.ages()),
        ],
        "Last beacon",
    )


# --- Growth --------------------------------------------------------------------------------------


def _growth() -> Iterator[Panel]:
    yield from map(_total_over_time, _TOTALS)
    for span, words in ((_HOUR, "per hour"), (_DAY, "per day")):
        yield _created(f"Events triggered {words}", "novu.event.created", span)
        yield _created(f"Subscribers created {words}", "novu.subscriber.created", span)
        yield _others_created(f"Others created {words}", span)
    yield _provider_ranking()
    yield _providers_over_time()


def _total_over_time(name: str) -> Panel:
    return panels.lines(
        Text(f"{_TOTALS[name]} over time", f"{_described(name)} {_FRESHEST}", _OFF_OR_UNREAD),
        Size(6, 7),
        [Query(_total_by_deployment(name), _JOB)],
        "locale",
    )


def _created(title: str, name: str, span: str) -> Panel:
    return panels.bars(
        Text(title, f"{_described(name)} {_SPANS[span]}", _OFF_OR_UNREAD),
        Size(8, 8),
        [Query(_CREATED[span](name), _JOB)],
        "locale",
        span,
    )


def _others_created(title: str, span: str) -> Panel:
    description = (
        "Workflows, topics, users and organizations created, all deployments together. "
        f"`novu.workflow.created` and its like, by the time in `_id`. {_SPANS[span]}"
    )
    return panels.bars(
        Text(title, description, _OFF_OR_UNREAD),
        Size(8, 8),
        [Query(f"sum({_CREATED[span](n)})", word) for n, word in _OTHERS_CREATED.items()],
        "locale",
        span,
    )


def _provider_ranking() -> Panel:
    by_provider = f"sum by ({promql.PROVIDER_LABEL}) ({promql.totals_by_provider()})"
    return panels.ranking(
        Text(
            "Integrations by provider",
            f"{_described(promql.INTEGRATIONS)} The fifteen most used. {_FRESHEST}",
            _OFF_OR_UNREAD,
        ),
        Size(8, 10),
        Query(f"sort_desc(topk(15, {by_provider} > 0))", _PROVIDER),
        "locale",
    )


def _providers_over_time() -> Panel:
    by_provider = f"sum by ({promql.PROVIDER_LABEL}) ({promql.totals_by_provider()})"
    return panels.lines(
        Text(
            "Integrations by provider over time",
            f"{_described(promql.INTEGRATIONS)} {_FRESHEST} Deployments add up.",
            _OFF_OR_UNREAD,
        ),
        Size(16, 10),
        [Query(by_provider, _PROVIDER)],
        "locale",
    )


# --- Hosts ---------------------------------------------------------------------------------------


def _hosts() -> Iterator[Panel]:
    yield _host_table()
    yield _memory()
    yield _beacons()


def _host_table() -> Panel:
    labels = {"job": "Deployment", "host_name": "Host name", "novu_host_ip": "Address"}
    labels |= {"os_type": "Platform", "os_version": "Release"}
    return panels.rows(
        Text(
            "Instances",
            "The machines (or containers) that the exporters run on, which need not be those of "
            "Novu, as their last beacons described them; looks back seven days. From "
            "`novu.host.info`, `novu.host.memory.free` and `.total`, `novu.beacon.timestamp`.",
        ),
        Size(24, 8),
        [
            promql.by_instance(promql.last("novu.host.memory.free", promql.KEPT)),
            promql.by_instance(promql.last("novu.host.memory.total", promql.KEPT)),
            promql.by_instance(promql.beacon_age()),
            promql.hosts("host_name", "novu_host_ip", "os_type", "os_version"),
        ],
        [
            *(Column(field, name) for field, name in labels.items()),
            Column("Value #A", "Free memory", "bytes"),
            Column("Value #B", "Total memory", "bytes"),
            Column("Value #C", "Last beacon", "s", properties=panels.ages()),
            Column("instance", "Instance"),
        ],
        "Last beacon",
    )


def _memory() -> Panel:
    free, total = promql.last("novu.host.memory.free"), promql.last("novu.host.memory.total")
    panel = panels.lines(
        Text(
            "Memory used",
            "Share of the memory of each exporter's host that is not available to new work. From "
            "`novu.host.memory.free` and `novu.host.memory.total`: "
            f"{_ROWS['novu.host.memory.free'].source}.",
        ),
        Size(12, 11),
        [Query(promql.with_host_name(f"100 - 100 * {free} / {total}"), _HOST)],
        "percent",
        line_width=1,
    )
    return panel.min(0).max(100)


def _beacons() -> Panel:
    return panels.timeline(
        Text(
            "Beacons",
            "Whether each exporter sent its hourly beacon: red where the last one was more than "
            "75 minutes old, for up to seven days. From `novu.beacon.timestamp`.",
        ),
        Size(12, 11),
        Query(promql.with_host_name(promql.beacon_in_time()), _HOST),
        {1: ("in time", GOOD), 0: ("missing", BAD)},
    )


# --- Reading -------------------------------------------------------------------------------------


def _reading() -> Iterator[Panel]:
    yield _durations()
    yield _failures()
    yield _waiting()
    yield _lost()


def _durations() -> Panel:
    return panels.lines(
        Text(
            "Duration of reading by figure",
            f"{_described('novu.usage.read.duration')} The slowest exporter's.",
            _OFF_OR_UNREAD,
        ),
        Size(12, 9),
        [
            Query(
                f"max by ({promql.FIGURE_LABEL}) ({promql.last('novu.usage.read.duration')})",
                _FIGURE,
            )
        ],
        "s",
        line_width=1,
    )


def _failures() -> Panel:
    failed = promql.counted_in_the_last_hour("novu.usage.read.failures")
    return panels.bars(
        Text(
            "Failed readings per hour by figure",
            "Readings of Novu's database that failed, all exporters together; a figure that could "
            "not be read is absent elsewhere. From `novu.usage.read.failures`.",
            _OFF_OR_UNREAD,
        ),
        Size(12, 9),
        [Query(f"sum by ({promql.FIGURE_LABEL}) ({failed})", _FIGURE)],
        "locale",
        _HOUR,
    )


def _waiting() -> Panel:
    panel = panels.lines(
        Text(
            "Reports waiting",
            f"{_ROWS['novu.spool.reports'].description} `novu.spool.reports`, as each beacon was "
            "read, which is not counted itself.",
        ),
        Size(12, 8),
        [Query(promql.with_host_name(promql.last("novu.spool.reports")), _HOST)],
        "locale",
        line_width=1,
    )
    return panel.min(0).axis_soft_max(5)


def _lost() -> Panel:
    return panels.bars(
        Text(
            "Dropped and rejected per hour",
            "Reports given up (`novu.spool.dropped`), data points that a receiver rejected "
            "(`novu.spool.rejected`), data points that fitted no table and were not sent "
            "(`novu.schema.dropped`); all exporters together.",
        ),
        Size(12, 8),
        [Query(f"sum({promql.counted_in_the_last_hour(n)})", word) for n, word in _LOSSES.items()],
        "locale",
        _HOUR,
    )


_LAYOUT: Mapping[str, Callable[[], Iterator[Panel]]] = {
    "At a glance": _at_a_glance,
    "Growth": _growth,
    "Hosts: the machines that the exporters run on, not Novu's own": _hosts,
    "Reading and delivery": _reading,
}


def main() -> int:
    """Write the file anew."""
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(to_json())
    print(f"{FILE.name} is written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
