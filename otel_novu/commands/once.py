"""`otel-novu once`: one report, and whether all of it arrived."""

import argparse

from otel_novu.commands.startup import NO_DATABASE, start
from otel_novu.consent import BY_UNREADABLE
from otel_novu.exporter import Exporter
from otel_novu.log import LOG, plural
from otel_novu.settings import Settings


def main(settings: Settings, _: argparse.Namespace) -> int:
    """Report once, after what waits; 0 only if each report was delivered and each figure read."""
    with start(settings, "once") as (store, exporter):
        decision = exporter.flag.decision
        try:
            exporter.once()
        except KeyboardInterrupt:
            on_disk = (store.waiting(timeout=0.2) or 0) - store.in_memory()
            LOG.warning("Interrupted; %s for the next start.", plural(on_disk, "report", "wait"))
            raise
        complete = _log_result(settings, exporter)
        if lost := store.in_memory():
            LOG.error("Lost, as kept in memory only: %s.", plural(lost, "report"))
        return 0 if complete and not store.dropped and decision.by != BY_UNREADABLE else 1


def _log_result(settings: Settings, exporter: Exporter) -> bool:
    """Log what was delivered and what was not; return whether nothing is to be fixed."""
    if why := settings.why_nothing_is_sent:
        LOG.info("Nothing is sent: %s.", why)
        return True
    no_database = exporter.flag.enabled and settings.mongo_url is None
    if no_database:
        LOG.error("%s: set one of them, or NOVU_TELEMETRY=false.", NO_DATABASE)
    scopes = exporter.reporter.scopes()
    delivered = [scope for scope in scopes if exporter.delivery.delivered(scope)]
    if delivered:
        what = " and ".join(map(exporter.describe, delivered))
        LOG.info("Delivered to %s: %s.", exporter.destination, what)
    if missing := " and ".join(scope for scope in scopes if scope not in delivered):
        waits = not exporter.delivery.store.in_memory()
        advice = "; `run`, `once` or `spool --flush` sends what waits" if waits else ""
        LOG.error("Not delivered: %s%s.", missing, advice)
    return not (no_database or missing or exporter.reporter.usage.failed)
