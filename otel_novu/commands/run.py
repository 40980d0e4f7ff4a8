"""`otel-novu run`: reports until SIGTERM or SIGINT."""

import random
import time
from collections.abc import Callable

from otel_novu.commands.opening import judge_mongo_options, say_identity, warn_about_state
from otel_novu.exporter import LAST_READING, LAST_SENDING, Exporter
from otel_novu.journal import LOG
from otel_novu.schedule import Schedule, steady_time
from otel_novu.settings import Settings
from otel_novu.state import flush_request
from otel_novu.state.consent import decide, read_admin
from otel_novu.state.directory import StateDirectory
from otel_novu.state.identity import instance_id
from otel_novu.stop import StopSignals
from otel_novu.version import __version__

# How often the admin setting is looked at, seconds, where the kernel does not tell of changes in
# the state directory. Where it does, seldom, and only for what another machine may have changed:
# to wake at all takes a quarter of a millisecond, and a process without work should take none.
LOOK = 5.0
LOOK_WHEN_TOLD = 60.0
# A fleet that starts in one moment does not send its first reports in one moment.
MOST_DELAY = 1.0


def run(settings: Settings, now: Callable[[], float] = time.time) -> int:
    """Report at once, then at the instance's own minute of each interval, until told to stop.

    Args:
        settings: what the user set.
        now: the wall clock, Unix time in seconds.

    Raises:
        SettingsError: an option of `MONGO_URL` can't be used.
        StateError: the state directory can't be used.
        Held: another process holds it.
    """
    judge_mongo_options(settings)
    with (
        StateDirectory.open(settings.state_dir) as state,
        state.lock("run") as lock,
        StopSignals() as stop,
    ):
        warn_about_state(state, lock.why_not_held)
        identity = instance_id(settings.instance_id, state)
        say_identity(identity)
        decision = decide(settings.telemetry, read_admin(state))
        exporter = Exporter(settings, state, identity, decision, now)
        delay = random.uniform(0, MOST_DELAY)  # noqa: S311 - spreads load, guards nothing
        _say_start(settings, exporter, delay)
        if not stop.wait(delay):
            _report_on_schedule(settings, exporter, state, stop, now)
        LOG.info("Stopping on %s: a last report, then the end.", stop.name)
        exporter.report_and_close(LAST_READING, LAST_SENDING)
        _say_end(exporter)
    return 0


def _report_on_schedule(
    settings: Settings,
    exporter: Exporter,
    state: StateDirectory,
    stop: StopSignals,
    now: Callable[[], float],
) -> None:
    identity = exporter.identity.value
    schedule = Schedule.start(identity, settings.interval, now, steady_time)
    exporter.next_due = lambda: now() + schedule.remaining()
    exporter.deliver_waiting()
    exporter.report()
    look = LOOK_WHEN_TOLD if state.tell_of_changes() else LOOK
    follow_consent(settings, exporter, state)  # as it may have changed before that
    while not stop.wait(min(look, schedule.remaining())):
        follow_consent(settings, exporter, state)
        if flush_request.taken(state):
            exporter.deliver_waiting()
        if schedule.remaining() <= 0:
            schedule.advance()
            exporter.report()


def follow_consent(settings: Settings, exporter: Exporter, state: StateDirectory) -> None:
    """Look at the admin setting, and let the usage figures come or go with it."""
    decision = decide(settings.telemetry, read_admin(state))
    if decision.enabled != exporter.decision.enabled:
        LOG.info("Usage figures are %s now: %s.", "on" if decision.enabled else "off", decision.by)
        exporter.set_usage(decision)
        exporter.report_usage()


def _say_start(settings: Settings, exporter: Exporter, delay: float) -> None:
    decision = exporter.decision
    LOG.info(
        "otel-novu %s reports to %s every %g s as instance %s, first in %.2f s; usage figures are "
        "%s (%s).",
        __version__,
        exporter.destinations,
        settings.interval,
        exporter.identity.value,
        delay,
        "on" if decision.enabled else "off",
        decision.by,
    )
    if decision.enabled and settings.mongo_url is None:
        LOG.warning(
            "Usage figures are on, but neither MONGO_URL nor MONGO_URL_FILE names Novu's "
            "database: only the beacon is sent."
        )


def _say_end(exporter: Exporter) -> None:
    waiting = exporter.waiting
    if waiting:
        LOG.warning("Stopped; %d reports wait in the spool for the next start.", waiting)
    elif exporter.meters:
        LOG.info("Stopped; every report was delivered.")
    else:
        LOG.info("Stopped.")
