"""`otel-novu run`: reports until SIGTERM or SIGINT."""

import random
import threading
import time
from collections.abc import Callable
from functools import partial

from otel_novu.commands.opening import (
    judge_mongo_options,
    say_identity,
    say_unreadable_setting,
    warn_about_state,
)
from otel_novu.exporter import LAST_READING, LAST_SENDING, Exporter
from otel_novu.journal import LOG
from otel_novu.patience import Patience
from otel_novu.patient_log import patient_log
from otel_novu.schedule import Schedule, steady_time
from otel_novu.settings import Settings
from otel_novu.state import flush_request
from otel_novu.state.consent import Admin, decide, read_admin
from otel_novu.state.directory import FileOps, StateDirectory
from otel_novu.state.identity import instance_id
from otel_novu.state.patient import PatientDirectory
from otel_novu.stop import StopSignals, end_at_once_where_something_hangs
from otel_novu.version import __version__

# How often the admin setting is looked at, seconds, where the kernel does not tell of changes in
# the state directory. Where it does, seldom, and only for what another machine may have changed:
# to wake at all takes a quarter of a millisecond, and a process without work should take none.
LOOK = 5.0
LOOK_WHEN_TOLD = 60.0
# A fleet that starts in one moment does not send its first reports in one moment.
MOST_DELAY = 1.0
# What the disk may take for one operation, seconds, and at the end of the process; who we are and
# what may be sent has no bound: nothing can be done before that is known.
DISK_PATIENCE = 5.0
LAST_DISK_PATIENCE = 0.5
# What threads may take to end by themselves at the end of the process, seconds.
_ENDING = 0.25


def run(
    settings: Settings,
    now: Callable[[], float] = time.time,
    steady: Callable[[], float] = steady_time,
    files: FileOps | None = None,
) -> int:
    """Report at once, then at the instance's own minute of each interval, until told to stop.

    Args:
        settings: what the user set.
        now: the wall clock, Unix time in seconds.
        steady: a clock that only grows at its pace, in seconds.
        files: the disk's calls; None: the operating system's.

    Raises:
        SettingsError: an option of `MONGO_URL` can't be used.
        StateError: the state directory can't be used.
        Held: another process holds it.
    """
    judge_mongo_options(settings)
    with (
        patient_log(),
        PatientDirectory.open(settings.state_dir, files) as state,
        state.holding("run") as lock,
        StopSignals() as stop,
    ):
        warn_about_state(state, lock.why_not_held)
        identity = instance_id(settings.instance_id, state)
        say_identity(identity)
        decision = decide(settings.telemetry, read_admin(state))
        exporter = Exporter(settings, state, identity, decision, now)
        delay = random.uniform(0, MOST_DELAY)  # noqa: S311 - spreads load, guards nothing
        state.wait_at_most(DISK_PATIENCE)
        _say_start(settings, exporter, delay)
        if not stop.wait(delay):
            schedule = Schedule.start(identity.value, settings.interval, now, steady)
            exporter.next_due = lambda: now() + schedule.remaining()
            _report_on_schedule(exporter, schedule, stop, _Lookout(settings, exporter, state))
        state.wait_at_most(LAST_DISK_PATIENCE)
        LOG.info("Stopping on %s: a last report, then the end.", stop.name)
        exporter.report_and_close(LAST_READING, LAST_SENDING)
        _wait_for_threads()
        _say_end(exporter)
        end_at_once_where_something_hangs(0)
    _wait_for_threads()
    end_at_once_where_something_hangs(0)  # the disk, only now
    return 0


def _report_on_schedule(
    exporter: Exporter, schedule: Schedule, stop: StopSignals, lookout: "_Lookout"
) -> None:
    """Report when that is due; nothing is done here that could hang."""
    exporter.deliver_waiting()
    exporter.report()
    lookout.look()  # as something may have changed before changes were told
    while not stop.wait(min(lookout.interval, schedule.remaining())):
        lookout.look()
        if schedule.remaining() <= 0:
            schedule.advance()
            exporter.report()


class _Lookout:
    """Looks at what others write into the state directory, on a thread that the disk may hold."""

    def __init__(self, settings: Settings, exporter: Exporter, state: StateDirectory) -> None:
        self._look = partial(_look, settings, exporter, state)
        self._thread = Patience("otel-novu-lookout", 0.0)
        self.interval = LOOK_WHEN_TOLD if state.tell_of_changes() else LOOK

    def look(self) -> None:
        self._thread.begin(self._look)


def _look(settings: Settings, exporter: Exporter, state: StateDirectory) -> None:
    try:
        follow_consent(settings, exporter, state)
        if flush_request.taken(state):
            exporter.deliver_waiting()
    except Exception as error:  # noqa: BLE001 - it must be looked again, and reports go on
        why = type(error).__name__
        exporter.journal.failed("lookout", f"Looking at the admin setting stumbled ({why}).")


def follow_consent(settings: Settings, exporter: Exporter, state: StateDirectory) -> None:
    """Look at the admin setting, and let the usage figures come or go with it."""
    admin = read_admin(state)
    if admin is Admin.NO_ANSWER:
        return  # all stays as it is: what can't be read just now was not changed just now either
    decision = decide(settings.telemetry, admin)
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
    say_unreadable_setting(decision)
    if exporter.due:
        LOG.info("%d reports of an earlier run wait, and leave first.", exporter.due)


def _say_end(exporter: Exporter) -> None:
    lost = exporter.unkept
    waiting = exporter.waiting - lost
    held = exporter.waiting - exporter.due
    if lost:
        LOG.error("%d reports were held in memory only, and are lost.", lost)
    if waiting:
        until = f", {held} of them until usage figures are on again" if held else ""
        LOG.warning("Stopped; %d reports wait in the spool for the next start%s.", waiting, until)
    elif lost:
        LOG.warning("Stopped.")
    elif exporter.meters:
        LOG.info("Stopped; every report was delivered.")
    else:
        LOG.info("Stopped.")


def _wait_for_threads() -> None:
    deadline = time.monotonic() + _ENDING
    while threading.active_count() > 1 and time.monotonic() < deadline:
        time.sleep(_ENDING / 10)
