"""`otel-novu show`: what would leave, read now; what left last; what the database is asked."""

import json
import sys
import time
from collections.abc import Callable, Iterator

from otel_novu import unread
from otel_novu.commands.due import decision_in_force, due_clause, next_due
from otel_novu.delivery import spool
from otel_novu.metrics import beacon, usage
from otel_novu.novu_report import beacon_document, usage_document
from otel_novu.outcome import describe
from otel_novu.reports import Sources, beacon_meter, usage_meter
from otel_novu.settings import Settings
from otel_novu.sources.beacon_source import BeaconSource
from otel_novu.sources.novu_db import commands
from otel_novu.sources.usage_round import UsageRound
from otel_novu.state import last_report
from otel_novu.state.consent import decide, read_admin
from otel_novu.state.created_file import Unsaved
from otel_novu.state.directory import StateDirectory, Unreadable
from otel_novu.state.identity import look_at_instance_id
from otel_novu.state.pseudonym import Pseudonyms, look_at_pseudonyms
from otel_novu.times import utc

Now = Callable[[], float]


def show(settings: Settings, *, as_lines: bool, now: Now = time.time) -> int:
    """Print both reports as Novu documents them; why usage is absent goes to stderr.

    Args:
        settings: what the user set.
        as_lines: one JSON document a line instead of indented ones.
        now: the wall clock, Unix time in seconds.
    """
    looked = _Look(settings, now)
    indent = None if as_lines else 1
    print(json.dumps(beacon_document(looked.beacon, looked.instance), indent=indent))
    if looked.usage is not None and len(looked.usage.reasons) < len(usage.FIGURES):
        print(json.dumps(usage_document(looked.usage.reading), indent=indent))
    return looked.exit_code


def show_otlp(settings: Settings, now: Now = time.time, sources: Sources | None = None) -> int:
    """Print the very OTLP requests as OTLP/JSON, one a line, the beacon first.

    Args:
        settings: what the user set.
        now: the wall clock, Unix time in seconds.
        sources: what is read; None: this machine, and the database that the settings name.
    """
    looked = _Look(settings, now, sources)
    for body in looked.requests():
        print(_otlp_json(body))
    return looked.exit_code


def show_last(settings: Settings, now: Now = time.time) -> int:
    """Print what left last of each meter, when and where to, or why not; and what is due next."""
    wrong = 0
    with StateDirectory.look(settings.state_dir) as state:
        holder = state.held_by()
        in_force = decision_in_force(settings, holder, state)
        for meter in last_report.METERS:
            wrong |= _show_last_of(
                state, meter, lambda last: due_clause(next_due(last, holder, in_force), now())
            )
    return wrong


def show_queries(settings: Settings, now: Now = time.time) -> int:
    """Print the database commands of a round, as Extended JSON, one a line."""
    if settings.mongo_url is None:
        _tell("Neither MONGO_URL nor MONGO_URL_FILE names a database: nothing is asked.")
        return 1
    end = int(now()) - 60
    window = (end - int(settings.interval), end)
    for line in commands(settings.mongo_url, settings.query_timeout, window):
        print(line)
    return 0


class _Look:
    """One reading of host and database that sends and writes nothing."""

    def __init__(self, settings: Settings, now: Now, sources: Sources | None = None) -> None:
        self._settings = settings
        self._sources = Sources() if sources is None else sources
        self._began = now()
        self.exit_code = 0
        with StateDirectory.look(settings.state_dir) as state:
            decision = decide(settings.telemetry, read_admin(state))
            identity = look_at_instance_id(settings.instance_id, state)
            self.instance = identity.value
            if identity.warning is not None:
                _tell(identity.warning)
            counts = beacon.DeliveryCounts(_waiting(state), dropped=0, rejected=0, kept_in=0)
            source = BeaconSource(now, self._pseudonyms(state), self._sources.host)
            self.beacon = source.read(counts, usage_enabled=decision.enabled)
            self.usage: UsageRound | None = None
            if decision.enabled:
                self.usage = self._read_usage(state, now)
            else:
                _tell(f"Usage figures are off ({decision.by}): they are neither read nor sent.")

    def _pseudonyms(self, state: StateDirectory) -> Pseudonyms | None:
        if not self._settings.anonymize:
            return None
        hidden = look_at_pseudonyms(state)
        if hidden.warning is not None:
            _tell(hidden.warning)
        return hidden

    def requests(self) -> Iterator[bytes]:
        """Make the requests that would be sent, the beacon's first."""
        beacons = beacon_meter(self._settings, self.instance, self._began)
        request = beacons.make(self.beacon, self.beacon.timestamp).request
        if request is not None:
            yield request.body
        if self.usage is not None:
            usages = usage_meter(self._settings, self.instance, self._began)
            request = usages.make(self.usage.reading, self.usage.reading.timestamp).request
            if request is not None:
                yield request.body

    def _read_usage(self, state: StateDirectory, now: Now) -> UsageRound | None:
        if self._settings.mongo_url is None:
            _tell(
                "Usage figures are on, but neither MONGO_URL nor MONGO_URL_FILE names Novu's "
                "database: they are absent."
            )
            return None
        source = self._sources.figures(self._settings, Unsaved(state))
        round_ = source.read(self._settings.query_timeout, now)
        for sentence in unread.sentences(round_.reasons, "it would not be sent"):
            _tell(sentence)
        self.exit_code = int(bool(round_.reasons))
        return round_


def _waiting(state: StateDirectory) -> int:
    try:
        return len(spool.look(state).reports)
    except Unreadable:
        return 0


def _show_last_of(
    state: StateDirectory, meter: str, due: Callable[[last_report.LastReport], str]
) -> int:
    try:
        report = last_report.load(state, meter)
    except Unreadable as error:
        _tell(f"The last {meter} report can't be read: {error}.")
        return 1
    if report is None:
        _tell(f"No {meter} report was tried yet.")
        return 0
    how = describe(report.outcome)
    _tell(f"{meter}: read {utc(report.read_at)}, tried {utc(report.tried_at)}, {how}.")
    _tell(f"  to {report.destination}; {due(report)}.")
    try:
        print(_otlp_json(report.body))
    except ValueError:
        _tell(f"What it said can't be read: last-report-{meter}.json is damaged.")
        return 1
    return 0


def _otlp_json(body: bytes) -> str:
    from google.protobuf.json_format import MessageToDict  # noqa: PLC0415 - only where it prints
    from google.protobuf.message import DecodeError  # noqa: PLC0415 - as above
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (  # noqa: PLC0415
        ExportMetricsServiceRequest,
    )

    try:
        request = ExportMetricsServiceRequest.FromString(body)
    except DecodeError:
        raise ValueError("no OTLP request") from None
    # OTLP/JSON has enumerations as numbers.
    return json.dumps(MessageToDict(request, use_integers_for_enums=True))


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr)
