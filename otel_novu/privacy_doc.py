"""docs/privacy.md: every value that leaves, and whom it can identify."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from otel_novu.metrics import beacon, usage
from otel_novu.metrics.metric import Attribute, Metric
from otel_novu.metrics.resource import RESOURCE

_HEAD = """\
# What leaves, and whom it can identify

Written by `otel-novu metrics --privacy`; do not edit.

Reports go to the collector that you name (`OTEL_EXPORTER_OTLP_ENDPOINT`, else one on the same
machine), and nowhere else: there is no address of ours or of Novu's in this program. Every value
that a report can hold is listed here. Just before a report is encoded it is held against these
tables (`otel_novu/delivery/door.py`): what is not listed, or does not look as its row says, stays
in, is counted in `novu.schema.dropped` and said in the log.

See it for yourself: `otel-novu show` and `show --otlp` print what would leave now, `show --last`
what left last, `show --queries` what the database is asked.

## In every report

Who reports, as OpenTelemetry's resource:
"""

_RESOURCE_TAIL = """
What OpenTelemetry's detectors or other packages would add to the resource (host name, user name,
paths, command lines) does not leave. Besides, a report holds the name of its table, the version of
otel-novu, the names, units and descriptions of its metrics, and the Unix times at which it was read
and at which its counters began.
"""

_OPERATORS_OWN = (
    "all keys of `OTEL_RESOURCE_ATTRIBUTES`",
    "printable characters",
    "the operator",
    "what the operator writes there",
)

_ALWAYS = """\

## The beacon: always

"""

_FLAGGED = """\

## The usage figures: only while they are on

Novu's database counts; only numbers and provider ids leave it. No name, address, payload,
credential or id of a user, subscriber, organization or event is read by otel-novu at all. Nothing
here names the host.

"""

_TAIL = """\

## Around a report

- Over HTTP the headers `Host`, `User-Agent` (`otel-novu/` and its version), `Content-Type`,
  `Content-Length`, `Content-Encoding`, `Accept-Encoding` and `Connection`; over gRPC those of its
  protocol, whose `user-agent` also names gRPC's versions and `linux`; and the headers that you set
  in `OTEL_EXPORTER_OTLP_HEADERS`, or a user name and password of the endpoint. Those are in the
  request and nowhere else: in no log line, error, state file or output.
- The receiver sees the network address that the connection comes from, as with every connection.

## What Novu's database is told

The commands that `otel-novu show --queries` prints, `hello`, `endSessions` and the log-in, each of
ours with the comment `otel-novu` and a limit of time. MongoDB's driver also says, to this database
alone, its name and version, the system's type, architecture and kernel release, Python's version,
and whether it runs in a container. [database-user.md](database-user.md) has the least rights that
do.

## The instance id is a pseudonym

`service.instance.id` is a random UUID. It is made of nothing, so it can't be computed back to a
host. But it is the same in every report, so that whoever has the reports knows which of them are
of one instance: it is pseudonymous, not anonymous. `otel-novu reset-id` makes a new one (and a new
key of the pseudonyms below) while no exporter runs.

A new id does not hide what the figures tell: a receiver may guess from an equal host name, network
address, number of users or counter of created documents that the new instance is the old one.
`OTEL_NOVU_ANONYMIZE=true` takes the first away; an empty state directory (`OTEL_NOVU_STATE_DIR`)
begins the counters anew. Reports that wait in the spool keep the id that they were made with.

## Pseudonyms for host name and address

With `OTEL_NOVU_ANONYMIZE=true`, `host.name` and `novu.host.ip` hold the first 128 bits of
HMAC-SHA256 of the name and the address. The key is 128 random bits, made once, kept in the state
directory where only its owner reads it (`pseudonym-key`, mode 0600), and never sent. The same host
has the same pseudonym in every report, and nobody without the key can compute it back, not even by
trying all names or all IPv4 addresses.

## Switched off

`NOVU_TELEMETRY=false`, or `otel-novu telemetry disable` where that variable is not set. A running
exporter follows the latter within ten seconds. While usage figures are off there is no usage
instrument, no connection to the database, and no counter that grows; usage reports that waited for
delivery stay in the spool, are not sent, and are given up when they are older than
`OTEL_NOVU_SPOOL_MAX_AGE`, unless usage figures are on again before. What is created meanwhile is
not counted later. An admin setting that can't be read means off. `novu.usage.enabled` tells
dashboards which it is.

## In an application of your own

`register_beacon` and `register_usage` put the tables on a MeterProvider of yours. There the same
shapes are checked point by point, but resource, exporters and readers are yours: what your
application puts into its resource, such as a host name, goes out with these figures too.
"""


def privacy_markdown() -> str:
    """Write docs/privacy.md."""
    parts = (
        [_HEAD, "\n", _TABLE],
        map(_resource_line, RESOURCE.items()),
        [_line(*_OPERATORS_OWN), _RESOURCE_TAIL, _ALWAYS, _TABLE],
        _lines(beacon.BEACON),
        [_FLAGGED, _TABLE],
        _lines(usage.USAGE),
        [_TAIL],
    )
    return "".join(text for part in parts for text in part)


_TABLE = """\
| value | looks as | where from | can it identify anyone? |
|---|---|---|---|
"""


def _lines(rows: Iterable[Metric[Any]]) -> Iterator[str]:
    """Write a line a metric, and a line a label under the first metric that has it."""
    told: set[str] = set()
    for row in rows:
        yield _line(f"`{row.name}`", row.shape.says, row.source, row.identifies)
        new = {key: label for key, label in row.attributes.items() if key not in told}
        told |= new.keys()
        yield from _label_lines(new)


def _label_lines(labels: Mapping[str, Attribute]) -> Iterator[str]:
    for key, label in labels.items():
        yield _line(f"label `{key}`", label.shape.says, label.source, label.identifies)


def _resource_line(entry: tuple[str, Attribute]) -> str:
    key, attribute = entry
    return _line(f"`{key}`", attribute.shape.says, attribute.source, attribute.identifies)


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
