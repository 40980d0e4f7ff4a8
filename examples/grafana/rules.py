"""The recording rules, which the dashboard and the alerts read; docs/viewing.md explains them."""

from pathlib import Path
from textwrap import indent

FILE = Path(__file__).parents[1] / "prometheus" / "rules.yml"

CURRENT = "instance:novu_usage_timestamp_seconds:current"
HOST = "instance:novu_host_info:last"
LOST = "instance:novu_lost:increase1h"
COUNT = "job:novu_count:last"
COUNTER = "job:novu_counter:increase"
FAILURES = "job:novu_failures:increase1d"

_HEAD = """\
# What the dashboard and the alerts read. Reports are hourly, and several exporters may read one
# database: each rule looks back for the last sample, and lets one exporter of a deployment count.
#
# Written by `make dashboard`. docs/viewing.md lists the names, and tells how to fill the rules for
# the time before they were loaded. The label `figure` is the name of a metric: that of
# novu_job_failed_total is job_failed.

groups:
  - name: otel-novu-figures
    interval: 2m # a query sees a sample for 5 minutes
    rules:
"""
_USAGE = "novu_usage_timestamp_seconds"
_BY = "on (job, instance)"
_COUNTS = "novu_(user|organization|workflow|workflow_step|event|topic|subscriber|integration)_count"
_COUNTED = "novu_.+_(created|delay|failed|skipped|unfinished)_total"
_GIVEN_UP = "novu_(spool_dropped|spool_rejected|schema_dropped)_total"
_CURRENT = """\
last_over_time(novu_usage_timestamp_seconds[2h])
unless on (job, instance) (
  last_over_time(novu_usage_timestamp_seconds[2h])
  < on (job, instance) last_over_time(novu_beacon_timestamp_seconds[2h])
    * on (job, instance) (1 - last_over_time(novu_usage_enabled[2h]))
)"""
_HOST = """\
topk by (job, instance) (1,
  timestamp(novu_host_info) or max_over_time(timestamp(novu_host_info)[1d:4m])
)
or on (job, instance) max_over_time(novu_beacon_timestamp_seconds[7d])"""
# A message that fails with an error lets its job fail too, with this reason.
_FAILURES = """\
sum by (job, novu_channel, novu_provider_id, novu_failure_reason, novu_environment_type) (
  label_replace(
    job:novu_counter:increase1d{figure="message_created",novu_message_status!="sent"},
    "novu_failure_reason", "$1", "novu_message_status", "(.+)"
  )
  or label_replace(
    job:novu_counter:increase1d{figure="job_failed",novu_failure_reason!="provider_error"},
    "novu_channel", "$1", "novu_step_type", "(.+)"
  )
)"""


def to_yaml() -> str:
    """Return the text of the file."""
    rules = "\n".join(
        f"      # {comment}\n      - record: {name}\n        expr: |\n{indent(expr, ' ' * 10)}\n"
        for name, (comment, expr) in _rules().items()
    )
    return _HEAD + rules


def _rules() -> dict[str, tuple[str, str]]:
    # Not longer: of a late report the one before is the beginning, and not the end too.
    last_hour = _counters("1h")
    an_hour = _of_the_freshest(
        _growth(last_hour, _before(last_hour, "1h")),
        f"{last_hour}\nand {_BY} {_read_before('1h')}",
    )
    return {
        CURRENT: ("When each exporter read last, while usage figures are on.", _CURRENT),
        HOST: ("Each exporter's host, as last described; no name if silent for a day.", _HOST),
        LOST: ("Reports and points given up in an hour. The exporter starts at 0.", _lost()),
        COUNT: ("Totals, of the exporter that read last.", _totals()),
        f"{COUNTER}1h": ("Counted in an hour, by the exporter that read last.", an_hour),
        f"{COUNTER}3h": ("Counted in three hours.", _of_the_longest("3h")),
        f"{COUNTER}1d": ("Counted in a day.", _of_the_longest("1d")),
        FAILURES: ("Failed messages, and jobs that failed without one.", _FAILURES),
    }


def _lost() -> str:
    spool = _counters("1h", names=_GIVEN_UP)
    return _growth(spool, f"{_counters('7d', '1h', _GIVEN_UP)} <= {spool}\nor {spool} * 0")


def _totals() -> str:
    value = _named(f'last_over_time({{__name__=~"{_COUNTS}"}}[2h])', "count")
    # A provider without integrations may have no sample in the last report; older ones don't count.
    recent = f"""\
{value}
unless ignoring (figure) (
  (timestamp(novu_integration_count) or max_over_time(timestamp(novu_integration_count)[2h:4m]))
  < on (job, instance) group_left () ({CURRENT} - 1)
)"""
    return _of_the_freshest(recent, value)


def _of_the_freshest(value: str, needed: str) -> str:
    """Take a figure of the exporter that read last, of those that have what is needed."""
    return (
        f"max without (instance) (\n{indent(value, '  ')}\n  and on (job, instance, figure)\n"
        "  topk by (job, figure) (1,\n    group by (job, instance, figure) (\n"
        f"{indent(needed, ' ' * 6)}\n    )\n    * {_BY} group_left () {CURRENT}\n  )\n)"
    )


def _of_the_longest(window: str) -> str:
    """Take the largest growth: the exporters of a deployment count the same documents."""
    now = _counters("2h")
    # Else the growth since the first report of the window, if there are two. A counter that began
    # with the exporter counts from 0: it had counted no event either.
    first = (
        f"or (\n  {now} * 0\n"
        f"  and {_BY} min_over_time(novu_event_created_total[{window}]) == 0\n"
        f"  or min_over_time({_counters()}[{window}:4m])\n)\n"
        f"and {_BY} max_over_time({_USAGE}[{window}]) > min_over_time({_USAGE}[{window}])"
    )
    growth = _growth(now, f"{_before(now, window)}\n{first}")
    return f"max without (instance) (\n{indent(growth, '  ')}\n  and {_BY} {CURRENT}\n)"


def _growth(now: str, before: str) -> str:
    # Not `increase`: over one hour it gives nothing, and over more it extrapolates.
    return f"{now}\n- (\n{indent(before, '  ')}\n)"


def _before(now: str, window: str) -> str:
    """Return the counters at the beginning of a window."""
    # 0 for a counter that began again, unless it is 0, which says nothing; and for a series that is
    # new: not for one that could not be read at the beginning.
    then, ever = _counters("2h", window), _counters("7d", window)
    return (
        f"{then} <= {now}\nor ({then} > {now}) * 0 and {now} > 0\n"
        f"or {now} * 0 and {_BY} {_read_before(window)} unless {ever}"
    )


def _read_before(window: str) -> str:
    return f"last_over_time({_USAGE}[2h] offset {window})"


def _counters(window: str = "", ago: str = "", names: str = _COUNTED) -> str:
    """Return several counters at once, told apart by `figure`."""
    selector = f'{{__name__=~"{names}"}}'
    offset = f" offset {ago}" if ago else ""
    return _named(f"last_over_time({selector}[{window}]{offset})" if window else selector, "total")


def _named(query: str, suffix: str) -> str:
    return f'label_replace({query}, "figure", "$1", "__name__", "novu_(.+)_{suffix}")'
