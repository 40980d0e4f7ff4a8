"""The dashboard's queries, which are right at any minute between two hourly reports.

docs/viewing.md explains the idioms. A query gets its names from the exporter's own rows, so a panel
can't ask for a metric that does not exist.
"""

from textwrap import indent
from typing import Any

from otel_novu.metrics.beacon import BEACON
from otel_novu.metrics.labels import FIGURE, PROVIDER
from otel_novu.metrics.metric import Metric
from otel_novu.metrics.prometheus import prometheus_label, prometheus_name
from otel_novu.metrics.usage import USAGE

SELECTOR = 'job=~"$job",instance=~"$instance"'
COUNTS = "2h"  # how long a reading counts as current: one report may be missing
ONE_REPORT = "70m"  # one interval, and ten minutes for a late report
BEACON_DUE = 75 * 60  # seconds; the timeline's cells are 30 minutes wide, so a gap is seen
KEPT = "7d"  # how far to look back; the exporter keeps reports as long
STEP = "4m"  # an instant query sees a sample for 5 minutes, so steps of 4 miss none

_TABLES: tuple[Metric[Any], ...] = (*BEACON, *USAGE)
ROWS = {row.name: row for row in _TABLES}

BEACON_TIME = "novu.beacon.timestamp"
USAGE_TIME = "novu.usage.timestamp"
USAGE_ENABLED = "novu.usage.enabled"
HOST_INFO = "novu.host.info"
INTEGRATIONS = "novu.integration.count"

PROVIDER_LABEL = prometheus_label(PROVIDER.key)
FIGURE_LABEL = prometheus_label(FIGURE.key)


def series(row: str) -> str:
    """Select the chosen series of a row by its name on the wire; KeyError if there is none."""
    return f"{prometheus_name(ROWS[row])}{{{SELECTOR}}}"


def reporting(more: str = "") -> str:
    """Select the series of all reports, for variables; `more` is a further matcher."""
    names = "|".join(prometheus_name(ROWS[row]) for row in (BEACON_TIME, USAGE_TIME))
    matcher = f'__name__=~"{names}"'
    return f"{{{matcher},{more}}}" if more else f"{{{matcher}}}"


def last(row: str, window: str = COUNTS, ago: str = "") -> str:
    """Return the last sample within a window, which may lie in the past."""
    return f"last_over_time({series(row)}[{window}]{_offset(ago)})"


def total(row: str, ago: str = "") -> str:
    """Return a total of each deployment, of the exporter that read last."""
    # Several exporters may read one database, so neither the sum nor the largest is right.
    if row == INTEGRATIONS:
        return f"sum by (job) ({totals_by_provider(ago)})"
    value = last(row, ago=ago)
    return _of_one_exporter(value, _reading_time(ago), [value])


def totals_by_provider(ago: str = "") -> str:
    """Return the integrations of each deployment and provider, of the exporter that read last."""
    # A provider without integrations may have no sample in the last report; older ones don't count.
    value = last(INTEGRATIONS, ago=ago)
    freshest = _freshest(_reading_time(ago), [value])
    in_it = (
        f"{_sample_time(INTEGRATIONS, COUNTS, _offset(ago))}\n"
        f"> on (job, instance) group_left ()\n({freshest} - 1)"
    )
    keys = f"job, instance, {PROVIDER_LABEL}"
    return _call(f"sum by (job, {PROVIDER_LABEL})", f"{value}\nand on ({keys})\n({in_it})")


def usage_off() -> str:
    """Return NaN if an exporter says that usage figures are off, else nothing."""
    return f"count({last(USAGE_ENABLED)} == 0) * NaN"


def created_per_hour(row: str) -> str:
    """Return how many documents of each deployment were created in the hour before."""
    now, then = last(row, ONE_REPORT), last(row, COUNTS, "1h")
    return _of_one_exporter(_growth(now, then), last(USAGE_TIME, ONE_REPORT), [now, then])


def created_per_day(row: str) -> str:
    """Return how many documents of each deployment were created in the day before."""
    # If there is no report on the day before that, the reports of the day itself count.
    now, then, first = last(row, "1d"), last(row, "1d", "1d"), f"min_over_time({series(row)}[1d])"
    read = last(USAGE_TIME, "1d")
    whole = _of_one_exporter(_growth(now, then), read, [now, then])
    part = _of_one_exporter(f"{now} - {first}", read, [now])
    return f"{whole}\nor\n{part}"


def counted_in_the_last_hour(row: str) -> str:
    """Return the growth of each exporter's counter that begins at 0 with the process."""
    now, then = last(row, ONE_REPORT), last(row, KEPT, "1h")
    return f"{_growth(now, then)}\nor ({now} unless {then})"


def age_by_deployment() -> str:
    """Return the age of the last beacon of each deployment in seconds, the oldest first."""
    newest = f"max by (job) (max_over_time({series(BEACON_TIME)}[{KEPT}]))"
    return f"sort_desc(clamp_min(time() - {newest}, 0))"


def beacon_age() -> str:
    """Return the age of the last beacon of each instance in seconds."""
    return f"clamp_min(time() - max_over_time({series(BEACON_TIME)}[{KEPT}]), 0)"


def beacon_in_time() -> str:
    """Return 1 if the last beacon of an instance is not older than it may be, else 0."""
    return f"max_over_time({series(BEACON_TIME)}[{KEPT}]) > bool time() - {BEACON_DUE}"


def hosts(*labels: str) -> str:
    """Return labels of each instance's host, from its newest beacon."""
    return _call(f"max by (job, instance, {', '.join(labels)})", _newest_host())


def by_instance(query: str) -> str:
    """Keep the labels job and instance only, so that a table can join rows."""
    return _call("max by (job, instance)", query)


def with_host_name(query: str) -> str:
    """Add `host_name`, the newest, and `id`, the first part of the instance id, for legends."""
    host = _newest_host(" @ end()")
    named = f"({query}) * on (job, instance) group_left (host_name) ({host} > bool 0)"
    nameless = f"({query}) unless on (job, instance) {host}"
    joined = indent(f"{named}\nor\n{nameless}", "  ")
    return f'label_replace(\n{joined},\n  "id", "$1", "instance", "(.{{8}}).*"\n)'


def _newest_host(at: str = "") -> str:
    """Choose one host of each instance: a restart may change its name or its kernel."""
    return _call("topk by (job, instance)", f"1,\n{_sample_time(HOST_INFO, KEPT, at)}")


def _offset(ago: str) -> str:
    return f" offset {ago}" if ago else ""


def _reading_time(ago: str) -> str:
    """Return when each exporter read last, without those whose later beacon says usage is off."""
    read = last(USAGE_TIME, ago=ago)
    off_since = f"{last(BEACON_TIME, ago=ago)} * (1 - {last(USAGE_ENABLED, ago=ago)})"
    # Usage and beacon are two scopes, which a collector may tell apart by a label: hence `on`.
    return f"{read}\nunless on (job, instance) (\n  {read}\n  < on (job, instance) {off_since}\n)"


def _of_one_exporter(value: str, reading_time: str, needed: list[str]) -> str:
    """Take the value of the exporter of each deployment that read last."""
    value = f"({value})" if " or " in value else value
    freshest = _freshest(reading_time, needed)
    return _call("max by (job)", f"{value}\nand on (job, instance)\n{freshest}")


def _freshest(reading_time: str, needed: list[str]) -> str:
    """Choose the exporter of each deployment that read last and has what is needed."""
    conditions = "".join(f"\nand on (job, instance) {query}" for query in needed)
    return _call("topk by (job)", f"1,\n{reading_time}{conditions}")


def _sample_time(row: str, window: str, at: str = "") -> str:
    """Return the time of the last sample within a window; `last_over_time` does not keep it."""
    recent = f"timestamp({series(row)}{at})"
    earlier = f"max_over_time(timestamp({series(row)})[{window}:{STEP}]{at})"
    return f"({recent} or {earlier})"


def _growth(now: str, then: str) -> str:
    """Take the difference; for a counter that started again, its new value."""
    return f"({now} - {then} >= 0) or ({now} < {then})"


def _call(function: str, arguments: str) -> str:
    return f"{function} (\n{indent(arguments, '  ')}\n)"
