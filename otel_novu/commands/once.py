"""`otel-novu once`: one report, and whether all of it arrived."""

import argparse
from contextlib import closing

from otel_novu.commands.startup import (
    NO_DATABASE,
    check_mongo_url,
    log_state,
    why_nothing_is_sent,
)
from otel_novu.consent import BY_UNREADABLE
from otel_novu.exporter import Exporter
from otel_novu.log import LOG
from otel_novu.settings import Settings
from otel_novu.state_dir import lock
from otel_novu.store import Store


def main(settings: Settings, _: argparse.Namespace) -> int:
    """Report once; reports that wait from earlier runs are sent first.

    Returns:
        The exit code: 0 only if every report due was delivered and every figure read.

    Raises:
        SettingsError: MONGO_URL can't be used.
        StateDirError: the state directory can't be used.
        LockedError: another process runs on it.
    """
    check_mongo_url(settings)
    with closing(Store.open(settings.state_dir)) as store, lock(settings.state_dir, "once"):
        exporter = Exporter(settings, store)
        decision = exporter.flag.decision
        log_state(store, exporter)
        try:
            exporter.once()
        except KeyboardInterrupt:
            on_disk = (store.waiting(timeout=0.2) or 0) - store.in_memory()
            LOG.warning("Interrupted; %d reports wait for the next start.", on_disk)
            raise
        complete = _log_result(settings, exporter)
        return 0 if complete and decision.by != BY_UNREADABLE else 1


def _log_result(settings: Settings, exporter: Exporter) -> bool:
    """Log what was delivered and what was not; failures are logged where they happen.

    Returns:
        Whether nothing is to be fixed.
    """
    if not exporter.destination:
        LOG.info("Nothing is sent: %s.", why_nothing_is_sent(settings))
        return True
    complete = not exporter.reporter.usage.failed
    if exporter.flag.enabled and settings.mongo_url is None:
        LOG.error("%s: set one of them, or NOVU_TELEMETRY=false.", NO_DATABASE)
        complete = False
    scopes = exporter.reporter.scopes()
    delivered = [scope for scope in scopes if exporter.delivery.delivered(scope)]
    missing = [scope for scope in scopes if scope not in delivered]
    if delivered:
        what = " and ".join(map(exporter.describe, delivered))
        LOG.info("Delivered to %s: %s.", exporter.destination, what)
    if missing:
        what = " and ".join(missing)
        LOG.error("Not delivered: %s; `run`, `once` or `spool --flush` sends what waits.", what)
    return complete and not missing
