"""The questions that the dashboard asks Prometheus: true at any minute between two hourly reports.

docs/viewing.md explains the idioms. What a query names is looked up in the exporter's own tables,
so that no panel can ask for a metric that does not exist.
"""

from textwrap import indent
from typing import Any

from otel_novu.metrics.beacon import BEACON
from otel_novu.metrics.metric import Metric
from otel_novu.metrics.prometheus import prometheus_label, prometheus_name
from otel_novu.metrics.usage import FIGURE, PROVIDER, USAGE

SELECTOR = 'job=~"$job",instance=~"$instance"'

# A reading counts as today's truth for so long: one report may be missing.
COUNTS = "2h"
# One interval, and ten minutes for a report that is late.
ONE_REPORT = "70m"
# The same for the timeline, seconds; its cells are 30 minutes wide, so that a missing hour shows.
BEACON_DUE = 75 * 60
# How far back is looked for what is gone; the exporter's spool reaches as far.
KEPT = "7d"
# A sample is seen by an instant for 5 minutes, so steps of 4 miss none.
STEP = "4m"

# What rows call by their names; each is one row of the exporter's tables.
_ROWS: tuple[Metric[Any], ...] = (*BEACON, *USAGE)
_NAMES = {row.name: prometheus_name(row) for row in _ROWS}

BEACON_TIME = "novu.beacon.timestamp"
USAGE_TIME = "novu.usage.timestamp"
USAGE_ENABLED = "novu.usage.enabled"
HOST_INFO = "novu.host.info"
INTEGRATIONS = "novu.integration.count"

PROVIDER_LABEL = prometheus_label(PROVIDER)
FIGURE_LABEL = prometheus_label(FIGURE)


def series(row: str) -> str:
    """Select all chosen series of a row.

    Args:
        row: the metric's name on the wire.

    Raises:
        KeyError: there is no such row.
    """
    return f"{_NAMES[row]}{{{SELECTOR}}}"


def reporting(more: str = "") -> str:
    """Select whatever tells of a deployment's or instance's reports, for variables.

    Args:
        more: a further matcher.
    """
    names = "|".join(_NAMES[row] for row in (BEACON_TIME, USAGE_TIME))
    matcher = f'__name__=~"{names}"'
    return f"{{{matcher},{more}}}" if more else f"{{{matcher}}}"


def last(row: str, window: str = COUNTS, ago: str = "") -> str:
    """Ask for the last sample within a window, which may lie in the past."""
    return f"last_over_time({series(row)}[{window}]{_offset(ago)})"


def total(row: str, ago: str = "") -> str:
    """Ask for a total of each deployment: that of the exporter that read it last.

    Several exporters may read one database, so neither their sum nor the largest is true.
    """
    value = last(row, ago=ago)
    return _of_one_exporter(value, _reading_time(ago), [value])


def totals_by_provider(ago: str = "") -> str:
    """Ask for the integrations of each deployment and provider, of the exporter that read last.

    A provider that is gone has no sample in the last report, or none at all: what an earlier
    report said of it does not count.
    """
    value = last(INTEGRATIONS, ago=ago)
    freshest = _freshest(_reading_time(ago), [value])
    in_it = (
        f"{_sample_time(INTEGRATIONS, COUNTS, _offset(ago))}\n"
        f"> on (job, instance) group_left ()\n({freshest} - 1)"
    )
    keys = f"job, instance, {PROVIDER_LABEL}"
    return _call(f"sum by (job, {PROVIDER_LABEL})", f"{value}\nand on ({keys})\n({in_it})")


def usage_off() -> str:
    """Ask for NaN where an exporter says that usage figures are off, and for nothing elsewhere."""
    return f"count({last(USAGE_ENABLED)} == 0) * NaN"


def created_per_hour(row: str) -> str:
    """Ask how many documents of each deployment were created in the hour before."""
    now, then = last(row, ONE_REPORT), last(row, COUNTS, "1h")
    return _of_one_exporter(_growth(now, then), last(USAGE_TIME, ONE_REPORT), [now, then])


def created_per_day(row: str) -> str:
    """Ask how many documents of each deployment were created in the day before.

    Where no exporter reported the day before, what the reports of the day itself tell.
    """
    now, then, first = last(row, "1d"), last(row, "1d", "1d"), f"min_over_time({series(row)}[1d])"
    read = last(USAGE_TIME, "1d")
    whole = _of_one_exporter(_growth(now, then), read, [now, then])
    part = _of_one_exporter(f"{now} - {first}", read, [now])
    return f"{whole}\nor\n{part}"


def counted_in_the_last_hour(row: str) -> str:
    """Ask each exporter how much a counter grew that begins at 0 with its process."""
    now, then = last(row, ONE_REPORT), last(row, KEPT, "1h")
    return f"{_growth(now, then)}\nor ({now} unless {then})"


def age_by_deployment() -> str:
    """Ask how long ago the last beacon of each deployment was read, seconds; the oldest first."""
    newest = f"max by (job) (max_over_time({series(BEACON_TIME)}[{KEPT}]))"
    return f"sort_desc(clamp_min(time() - {newest}, 0))"


def beacon_age() -> str:
    """Ask how long ago the last beacon of each instance was read, seconds."""
    return f"clamp_min(time() - max_over_time({series(BEACON_TIME)}[{KEPT}]), 0)"


def beacon_in_time() -> str:
    """Ask whether the last beacon of each instance is no older than one report may be: 1 or 0."""
    return f"max_over_time({series(BEACON_TIME)}[{KEPT}]) > bool time() - {BEACON_DUE}"


def hosts(*labels: str) -> str:
    """Ask for what each instance's newest beacon says of its host, as labels."""
    return _call(f"max by (job, instance, {', '.join(labels)})", _newest_host())


def by_instance(query: str) -> str:
    """Keep job and instance of the labels, so that a table can join rows."""
    return _call("max by (job, instance)", query)


def with_host_name(query: str) -> str:
    """Add `host_name`, the newest, and `id`, the beginning of the instance id, for legends."""
    host = _newest_host(" @ end()")
    named = f"({query}) * on (job, instance) group_left (host_name) ({host} > bool 0)"
    nameless = f"({query}) unless on (job, instance) {host}"
    joined = indent(f"{named}\nor\n{nameless}", "  ")
    return f'label_replace(\n{joined},\n  "id", "$1", "instance", "(.{{8}}).*"\n)'


def _newest_host(at: str = "") -> str:
    """Choose one host of each instance: a restart may have changed its name or its kernel."""
    return _call("topk by (job, instance)", f"1,\n{_sample_time(HOST_INFO, KEPT, at)}")


def _offset(ago: str) -> str:
    return f" offset {ago}" if ago else ""


def _reading_time(ago: str) -> str:
    """When each exporter read last; without those that have said since that usage is off."""
    read = last(USAGE_TIME, ago=ago)
    off_since = f"{last(BEACON_TIME, ago=ago)} * (1 - {last(USAGE_ENABLED, ago=ago)})"
    # Usage and beacon are two scopes: a collector may tell them apart by a label.
    return f"{read}\nunless on (job, instance) (\n  {read}\n  < on (job, instance) {off_since}\n)"


def _of_one_exporter(value: str, reading_time: str, needed: list[str]) -> str:
    """Take of each deployment the value of the exporter that read last."""
    value = f"({value})" if " or " in value else value
    freshest = _freshest(reading_time, needed)
    return _call("max by (job)", f"{value}\nand on (job, instance)\n{freshest}")


def _freshest(reading_time: str, needed: list[str]) -> str:
    """Choose the exporter of each deployment that read last, of those that have what is needed."""
    conditions = "".join(f"\nand on (job, instance) {query}" for query in needed)
    return _call("topk by (job)", f"1,\n{reading_time}{conditions}")


def _sample_time(row: str, window: str, at: str = "") -> str:
    """Ask when the last sample within a window was taken; `last_over_time` does not tell."""
    recent = f"timestamp({series(row)}{at})"
    earlier = f"max_over_time(timestamp({series(row)})[{window}:{STEP}]{at})"
    return f"({recent} or {earlier})"


def _growth(now: str, then: str) -> str:
    """Take the difference; of a counter that began anew, what it has counted since."""
    return f"({now} - {then} >= 0) or ({now} < {then})"


def _call(function: str, arguments: str) -> str:
    return f"{function} (\n{indent(arguments, '  ')}\n)"
