"""`otel-novu run`: reports until SIGTERM or SIGINT."""

import argparse
import logging
import os
from contextlib import closing
from typing import NoReturn

from otel_novu.commands.startup import (
    NO_DATABASE,
    check_mongo_url,
    log_state,
    why_nothing_is_sent,
)
from otel_novu.exporter import Exporter
from otel_novu.log import LOG
from otel_novu.settings import Settings
from otel_novu.state_dir import lock
from otel_novu.store import Store
from otel_novu.version import __version__


def main(settings: Settings, _: argparse.Namespace) -> NoReturn:
    """Report at once, then at the instance's own point of each interval.

    Raises:
        SettingsError: MONGO_URL can't be used.
        StateDirError: the state directory can't be used.
        LockedError: another process runs on it.
    """
    check_mongo_url(settings)
    with closing(Store.open(settings.state_dir)) as store, lock(settings.state_dir, "run"):
        exporter = Exporter(settings, store)
        log_state(store, exporter)
        _log_start(settings, store, exporter)
        exporter.run()
        _log_end(store, exporter)
        logging.shutdown()
        # A thread may hang in a resolver, a socket or on the disk; closing would wait for it.
        os._exit(0)


def _log_start(settings: Settings, store: Store, exporter: Exporter) -> None:
    decision, interval = exporter.flag.decision, settings.interval
    LOG.info(
        "otel-novu %s reports to %s every %g s as instance %s; usage figures are %s (%s).",
        __version__,
        exporter.destination or f"nowhere ({why_nothing_is_sent(settings)})",
        interval,
        exporter.reporter.instance,
        decision.word,
        decision.by,
    )
    if decision.enabled and settings.mongo_url is None:
        LOG.warning("%s: only the beacon is sent.", NO_DATABASE)
    if waiting := store.waiting(exporter.flag.scopes()):
        LOG.info("%d reports of an earlier run are sent first.", waiting)


def _log_end(store: Store, exporter: Exporter) -> None:
    waiting = store.waiting(timeout=0.2)
    if waiting is None:
        LOG.warning("Stopped; the state directory does not answer.")
        return
    lost = store.in_memory()
    if lost:
        LOG.error("%d reports were kept in memory only and are lost.", lost)
    if waiting > lost:
        held = 0 if exporter.flag.enabled else store.waiting(("usage",), timeout=0.2) or 0
        until = f", {held} of them until usage figures are on again" if held else ""
        LOG.warning("Stopped; %d reports wait for the next start%s.", waiting - lost, until)
    elif lost or not exporter.destination:
        LOG.info("Stopped.")
    elif exporter.reporter.usage.failed and exporter.flag.enabled:
        LOG.warning("Stopped; delivered last: beacon and %s.", exporter.describe("usage"))
    else:
        LOG.info("Stopped; every report was delivered.")
