"""The dashboard "Novu", built from the exporter's own rows.

As a command it writes dashboards/novu.json:

    python examples/grafana/novu_dashboard.py
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import promql
from panels import KINDS, SOURCE, Column, Json, Text, panel, place, table
from promql import FIGURE_LABEL, INTEGRATIONS, PROVIDER_LABEL, ROWS

FILE = Path(__file__).parent / "dashboards" / "novu.json"

TOTALS = {
    "novu.subscriber.count": "Subscribers",
    "novu.event.count": "Events",
    "novu.workflow.count": "Workflows",
    "novu.workflow.step.count": "Steps",
    "novu.topic.count": "Topics",
    "novu.user.count": "Users",
    "novu.organization.count": "Organizations",
    INTEGRATIONS: "Integrations",
}
_OTHERS_CREATED = ("workflow", "topic", "user", "organization")
_LOSSES = {
    "reports given up": "novu.spool.dropped",
    "points rejected": "novu.spool.rejected",
    "points not sent": "novu.schema.dropped",
}
_HOUR = (
    "Each bar is the difference of two reports an hour apart. An outage of more than an hour "
    "leaves a gap; the bars per day make up for it."
)
_DAY = "Each bar is a day of UTC: the difference of its last report and that of the day before."
_FRESHEST = (
    "Of several exporters of a deployment that one counts that read last, if within two hours."
)
_OFF_OR_UNREAD = "Usage figures are off, or none was read in this time."

_JOB = "{{job}}"
_HOST = "{{host_name}} ({{id}})"
_PROVIDER = f"{{{{{PROVIDER_LABEL}}}}}"
_FIGURE = f"{{{{{FIGURE_LABEL}}}}}"


def to_json() -> str:
    """Return the text of the file."""
    layout = {
        "At a glance": _at_a_glance(),
        "Growth": _growth(),
        "Hosts: the machines that the exporters run on, not Novu's own": _hosts(),
        "Reading and delivery": _reading(),
    }
    variables = [
        KINDS["source"],
        _variable("job", "Deployment", promql.reporting()),
        _variable("instance", "Instance", promql.reporting('job=~"$job"')),
    ]
    board = {"templating": {"list": variables}, "panels": list(place(layout))}
    return json.dumps({**KINDS["dashboard"], **board}, indent=2, sort_keys=True) + "\n"


def _variable(name: str, label: str, selector: str) -> Json:
    query = f"label_values({selector}, {name})"
    return {**KINDS["variable"], "name": name, "label": label, "query": query} | {
        "datasource": SOURCE
    }


def _at_a_glance() -> Iterator[Json]:
    for name, title in TOTALS.items():
        text = Text(
            title,
            f"{_described(name)} {_FRESHEST} Deployments add up. The change is that over the "
            "chosen time range; it is left out where there was no reading at its beginning.",
        )
        now, then = promql.total(name), promql.total(name, "$__range")
        total, change = f"sum({now})\nor\n{promql.usage_off()}", f"sum({now}\n-\n{then})"
        yield panel("tile", text, (6, 4), {"now": total, "change": change})
    text = Text(
        "Age of the last report",
        "Time since the last beacon of each deployment was read, by whichever of its exporters and "
        "by that one's clock; looks back seven days. From `novu.beacon.timestamp`.",
    )
    yield panel("age", text, (8, 6), {_JOB: promql.age_by_deployment()})
    text = Text(
        "Telemetry",
        "Whether each exporter may send usage figures, as its last beacon said; looks back seven "
        f"days. From `novu.usage.enabled`: {ROWS['novu.usage.enabled'].source}.",
    )
    enabled = promql.last("novu.usage.enabled", promql.KEPT)
    queries = [
        *map(promql.by_instance, (enabled, promql.beacon_age())),
        promql.hosts("host_name"),
    ]
    columns = [
        Column("job", "Deployment"),
        Column("host_name", "Host name"),
        Column("instance", "Instance"),
        Column("Value #A", "Usage figures", "on_or_off"),
        Column("Value #B", "Last beacon", "age"),
    ]
    yield table(text, (16, 6), queries, columns)


def _growth() -> Iterator[Json]:
    for name, title in TOTALS.items():
        text = Text(f"{title} over time", f"{_described(name)} {_FRESHEST}", _OFF_OR_UNREAD)
        yield panel("lines", text, (6, 7), {_JOB: promql.total(name)})
    yield from _created("1h", "per hour", _HOUR)
    yield from _created("1d", "per day", _DAY)
    yield from _providers()


def _created(interval: str, words: str, explained: str) -> Iterator[Json]:
    query = promql.created_per_day if interval == "1d" else promql.created_per_hour
    more = {"interval": interval}
    for title, name in (
        ("Events triggered", "novu.event.created"),
        ("Subscribers created", "novu.subscriber.created"),
    ):
        text = Text(f"{title} {words}", f"{_described(name)} {explained}", _OFF_OR_UNREAD)
        yield panel("bars", text, (8, 8), {_JOB: query(name)}) | more
    text = Text(
        f"Others created {words}",
        "Workflows, topics, users and organizations created, all deployments together. "
        f"`novu.workflow.created` and its like, by the time in `_id`. {explained}",
        _OFF_OR_UNREAD,
    )
    queries = {f"{name}s": f"sum({query(f'novu.{name}.created')})" for name in _OTHERS_CREATED}
    yield panel("bars", text, (8, 8), queries) | more


def _providers() -> Iterator[Json]:
    by_provider = f"sum by ({PROVIDER_LABEL}) ({promql.totals_by_provider()})"
    title, described = "Integrations by provider", _described(INTEGRATIONS)
    text = Text(title, f"{described} The fifteen most used. {_FRESHEST}", _OFF_OR_UNREAD)
    largest = f"sort_desc(topk(15, {by_provider} > 0))"
    yield panel("ranking", text, (8, 10), {_PROVIDER: largest})
    description = f"{described} {_FRESHEST} Deployments add up."
    text = Text(f"{title} over time", description, _OFF_OR_UNREAD)
    yield panel("lines", text, (16, 10), {_PROVIDER: by_provider})


def _hosts() -> Iterator[Json]:
    yield _instances()
    free, total = promql.last("novu.host.memory.free"), promql.last("novu.host.memory.total")
    text = Text(
        "Memory used",
        "Share of the memory of each exporter's host that is not available to new work. From "
        "`novu.host.memory.free` and `novu.host.memory.total`: "
        f"{ROWS['novu.host.memory.free'].source}.",
    )
    used = {_HOST: promql.with_host_name(f"100 - 100 * {free} / {total}")}
    yield panel("many_lines", text, (12, 11), used, unit="percent", min=0, max=100)
    text = Text(
        "Beacons",
        "Whether each exporter sent its hourly beacon: red where the last one was more than 75 "
        "minutes old, for up to seven days. From `novu.beacon.timestamp`.",
    )
    in_time = {_HOST: promql.with_host_name(promql.beacon_in_time())}
    yield panel("timeline", text, (12, 11), in_time)


def _instances() -> Json:
    text = Text(
        "Instances",
        "The machines (or containers) that the exporters run on, which need not be those of Novu, "
        "as their last beacons described them; looks back seven days. From `novu.host.info`, "
        "`novu.host.memory.free` and `.total`, `novu.beacon.timestamp`.",
    )
    free = promql.last("novu.host.memory.free", promql.KEPT)
    total = promql.last("novu.host.memory.total", promql.KEPT)
    queries = [
        *map(promql.by_instance, (free, total, promql.beacon_age())),
        promql.hosts("host_name", "novu_host_ip", "os_type", "os_version"),
    ]
    columns = [
        Column("job", "Deployment"),
        Column("host_name", "Host name"),
        Column("novu_host_ip", "Address"),
        Column("os_type", "Platform"),
        Column("os_version", "Release"),
        Column("Value #A", "Free memory", "bytes"),
        Column("Value #B", "Total memory", "bytes"),
        Column("Value #C", "Last beacon", "age"),
        Column("instance", "Instance"),
    ]
    return table(text, (24, 8), queries, columns)


def _reading() -> Iterator[Json]:
    description = f"{_described('novu.usage.read.duration')} The slowest exporter's."
    text = Text("Duration of reading by figure", description, _OFF_OR_UNREAD)
    slowest = f"max by ({FIGURE_LABEL}) ({promql.last('novu.usage.read.duration')})"
    yield panel("many_lines", text, (12, 9), {_FIGURE: slowest}, unit="s")
    text = Text(
        "Failed readings per hour by figure",
        "Readings of Novu's database that failed, all exporters together; a figure that could not "
        "be read is absent elsewhere. From `novu.usage.read.failures`.",
        _OFF_OR_UNREAD,
    )
    failed = promql.counted_in_the_last_hour("novu.usage.read.failures")
    by_figure = {_FIGURE: f"sum by ({FIGURE_LABEL}) ({failed})"}
    yield panel("bars", text, (12, 9), by_figure) | {"interval": "1h"}
    yield from _delivery()


def _delivery() -> Iterator[Json]:
    text = Text(
        "Reports waiting",
        f"{ROWS['novu.spool.reports'].description} `novu.spool.reports`, as each beacon was read, "
        "which is not counted itself.",
    )
    waiting = {_HOST: promql.with_host_name(promql.last("novu.spool.reports"))}
    found = panel("many_lines", text, (12, 8), waiting, unit="locale", decimals=0, min=0)
    custom = found["fieldConfig"]["defaults"]["custom"]
    found["fieldConfig"]["defaults"]["custom"] = custom | {"axisSoftMax": 5}
    yield found
    text = Text(
        "Dropped and rejected per hour",
        "Reports given up (`novu.spool.dropped`), data points that a receiver rejected "
        "(`novu.spool.rejected`), data points that fitted no table and were not sent "
        "(`novu.schema.dropped`); all exporters together.",
    )
    lost = {word: f"sum({promql.counted_in_the_last_hour(name)})" for word, name in _LOSSES.items()}
    yield panel("bars", text, (12, 8), lost) | {"interval": "1h"}


def _described(name: str) -> str:
    row = ROWS[name]
    return f"{row.description} From `{name}`: {row.source}."


if __name__ == "__main__":
    FILE.write_text(to_json())
    sys.stdout.write(f"wrote {FILE}\n")
