"""`otel-novu run`: reports until SIGTERM or SIGINT."""

import argparse
import logging
import os
from typing import NoReturn

from otel_novu.commands.startup import NO_DATABASE, start
from otel_novu.exporter import Exporter
from otel_novu.log import LOG, plural
from otel_novu.settings import Settings
from otel_novu.store import Store
from otel_novu.version import __version__


def main(settings: Settings, _: argparse.Namespace) -> NoReturn:
    """Report at once, then at the instance's own point of each interval."""
    with start(settings, "run") as (store, exporter):
        _log_start(settings, store, exporter)
        exporter.run()
        _log_end(store, exporter)
        logging.shutdown()
        # A thread may hang in a resolver, a socket or on the disk; closing would wait for it.
        os._exit(0)


def _log_start(settings: Settings, store: Store, exporter: Exporter) -> None:
    decision, instance = exporter.flag.decision, exporter.reporter.instance
    where = exporter.destination or f"nowhere ({settings.why_nothing_is_sent})"
    message = "otel-novu %s reports to %s every %g s as instance %s; usage figures are %s (%s)."
    facts = (__version__, where, settings.interval, instance, decision.word, decision.by)
    LOG.info(message, *facts)
    if decision.enabled and settings.mongo_url is None:
        LOG.warning("%s: only the beacon is sent.", NO_DATABASE)
    waiting = store.waiting(exporter.flag.scopes())
    if waiting and exporter.destination:
        LOG.info("Sent first: %s of an earlier run.", plural(waiting, "report"))


def _log_end(store: Store, exporter: Exporter) -> None:
    waiting, lost = store.waiting(timeout=0.2), store.in_memory()
    if waiting is None:
        LOG.warning("Stopped; the state directory does not answer.")
        return
    if lost:
        LOG.error("Lost, as kept in memory only: %s.", plural(lost, "report"))
    if waiting > lost:
        held = 0 if exporter.flag.enabled else store.waiting(("usage",), timeout=0.2) or 0
        until = f", {held} of them until usage figures are on again" if held else ""
        kept = plural(waiting - lost, "report", "wait")
        LOG.warning("Stopped; %s for the next start%s.", kept, until)
    elif lost or not exporter.destination:
        LOG.info("Stopped.")
    elif exporter.reporter.usage.failed and exporter.flag.enabled:
        LOG.warning("Stopped; delivered last: beacon and %s.", exporter.describe("usage"))
    elif store.dropped:
        LOG.info("Stopped; dropped, as logged: %s.", plural(store.dropped, "report"))
    else:
        LOG.info("Stopped; every report was delivered.")
