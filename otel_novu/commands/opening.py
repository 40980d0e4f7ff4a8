"""What `run` and `once` judge and say at the start, alike."""

from otel_novu.journal import LOG
from otel_novu.settings import Settings, SettingsError
from otel_novu.sources.failure import ReadFailed
from otel_novu.sources.novu_db import ignored_options
from otel_novu.state.consent import BY_UNREADABLE, Decision
from otel_novu.state.directory import StateDirectory
from otel_novu.state.identity import Identity


def judge_mongo_options(settings: Settings) -> None:
    """Judge the options of `MONGO_URL` by the driver's rules, which `settings` does not load.

    One that the driver does not understand is left out of the connection, and warned of.

    Raises:
        SettingsError: an option that decides on trust or identity can't be used.
    """
    if settings.mongo_url is None:
        return
    try:
        ignored = ignored_options(settings.mongo_url)
    except ReadFailed as error:
        raise SettingsError(f"MONGO_URL can't be used: {error.reason}") from None
    for option in ignored:
        LOG.warning("MONGO_URL's option %s is not understood and is left out; mend it.", option)


def warn_about_state(state: StateDirectory, why_not_held: str | None) -> None:
    """Say once where the state directory keeps nothing."""
    why = state.why_not_writable or why_not_held
    if why is not None:
        LOG.warning(
            "The state directory (OTEL_NOVU_STATE_DIR) keeps nothing: %s; reports go on from "
            "memory, and are lost if this process ends while the collector is away.",
            why,
        )


def say_identity(identity: Identity) -> None:
    """Say where the instance id does not last."""
    if identity.warning is not None:
        LOG.warning("%s", identity.warning)


def say_unreadable_setting(decision: Decision) -> bool:
    """Say where usage figures are off only because the admin setting can't be read; whether so."""
    if decision.by != BY_UNREADABLE:
        return False
    LOG.warning(
        "Usage figures are off, as the admin setting in the state directory (OTEL_NOVU_STATE_DIR) "
        "can't be read; `otel-novu telemetry enable` or `disable` writes it anew, and "
        "NOVU_TELEMETRY decides without it."
    )
    return True
