"""`otel-novu once`: one report, and whether all of it arrived."""

import signal
import time
from collections.abc import Callable

from otel_novu.commands.opening import (
    judge_mongo_options,
    say_identity,
    say_unreadable_setting,
    warn_about_state,
)
from otel_novu.exporter import Exporter
from otel_novu.journal import LOG
from otel_novu.settings import Settings
from otel_novu.state.consent import decide, read_admin
from otel_novu.state.directory import StateDirectory
from otel_novu.state.identity import instance_id
from otel_novu.stop import end_at_once_where_something_hangs, interrupted, sigterm_interrupts

# What the sender may overrun its own time-out by before its thread is given up.
_GRACE = 2.0
# What is under way may take after Ctrl-C, seconds.
_ENDING = 0.5


def once(settings: Settings, now: Callable[[], float] = time.time) -> int:
    """Report once, what waits from earlier runs first.

    Args:
        settings: what the user set.
        now: the wall clock, Unix time in seconds.

    Returns:
        The exit code: 0 only if every report due was delivered and every figure read.

    Raises:
        SettingsError: an option of `MONGO_URL` can't be used.
        StateError: the state directory can't be used.
        Held: another process holds it.
    """
    judge_mongo_options(settings)
    with StateDirectory.open(settings.state_dir) as state, state.lock("once") as lock:
        warn_about_state(state, lock.why_not_held)
        identity = instance_id(settings.instance_id, state)
        say_identity(identity)
        decision = decide(settings.telemetry, read_admin(state))
        unreadable = say_unreadable_setting(decision)
        exporter = Exporter(settings, state, identity, decision, now)
        try:
            with sigterm_interrupts():
                exporter.report_and_close(settings.query_timeout, settings.otlp.timeout + _GRACE)
        except KeyboardInterrupt as interrupt:
            _end_early(exporter, interrupt)
            raise
        return max(_judge(settings, exporter), int(unreadable))


def _end_early(exporter: Exporter, interrupt: KeyboardInterrupt) -> None:
    """Keep what was read, and end without those that still read or send."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    exporter.give_up(_ENDING)
    LOG.warning("Interrupted; %d reports wait in the spool.", exporter.waiting - exporter.unkept)
    # Else they would find the state directory closed, and call that a fault.
    end_at_once_where_something_hangs(interrupted(interrupt))


def _judge(settings: Settings, exporter: Exporter) -> int:
    """Say what did not arrive; the failures themselves are logged where they happen."""
    wrong = bool(exporter.unread_figures) or exporter.console_failed
    if exporter.meters and exporter.decision.enabled and settings.mongo_url is None:
        LOG.error(
            "Usage figures are on (%s), but neither MONGO_URL nor MONGO_URL_FILE names Novu's "
            "database: they are absent; set one of them, or NOVU_TELEMETRY=false.",
            exporter.decision.by,
        )
        wrong = True
    there = [meter for meter in exporter.meters if exporter.delivered(meter)]
    missing = [meter for meter in exporter.meters if meter not in there]
    if not exporter.meters:
        LOG.info("Reports go %s.", exporter.destinations)
    if there:
        LOG.info("Delivered to %s: %s.", exporter.destinations, " and ".join(there))
    if missing:
        LOG.error(
            "Not delivered: %s; what waits in the spool leaves with the next `run`, `once` or "
            "`spool --flush`.",
            " and ".join(missing),
        )
    return int(wrong or bool(missing))
