"""What `run` and `once` check and log at their start."""

from otel_novu.consent import BY_UNREADABLE
from otel_novu.exporter import Exporter
from otel_novu.log import LOG, sentence
from otel_novu.reporter import memory_only
from otel_novu.settings import Settings, SettingsError
from otel_novu.sources.novu import MongoUrlError, check_url
from otel_novu.store import Store

NO_DATABASE = "Usage figures are on, but neither MONGO_URL nor MONGO_URL_FILE is set"


def check_mongo_url(settings: Settings) -> None:
    """Let the driver check the database's URL; it opens no connection.

    Raises:
        SettingsError: the URL or one of its options can't be used.
    """
    if settings.mongo_url is None:
        return
    try:
        warnings = check_url(settings.mongo_url)
    except MongoUrlError as error:
        raise SettingsError(str(error)) from None
    for warning in warnings:
        LOG.warning("%s", sentence(warning))


def why_nothing_is_sent(settings: Settings) -> str:
    """Name the variable that says so."""
    return "OTEL_SDK_DISABLED is true" if settings.sdk_disabled else "OTEL_METRICS_EXPORTER is none"


def log_state(store: Store, exporter: Exporter) -> None:
    """Log once what is wrong with the state directory."""
    if store.fault is not None:
        exporter.failures.failed("store", memory_only(store))
    if exporter.flag.decision.by == BY_UNREADABLE:
        LOG.warning(
            "Usage figures are off: the admin setting in OTEL_NOVU_STATE_DIR can't be read. "
            "NOVU_TELEMETRY decides without it."
        )
