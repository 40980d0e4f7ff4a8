"""The start that `run` and `once` share."""

from collections.abc import Iterator
from contextlib import contextmanager

from otel_novu.consent import BY_UNREADABLE
from otel_novu.exporter import Exporter
from otel_novu.log import LOG, sentence
from otel_novu.reporter import memory_only
from otel_novu.settings import Settings, SettingsError
from otel_novu.sources.novu import MongoUrlError, check_url
from otel_novu.state_dir import lock
from otel_novu.store import Store

NO_DATABASE = "Usage figures are on, but neither MONGO_URL nor MONGO_URL_FILE is set"


@contextmanager
def start(settings: Settings, command: str) -> Iterator[tuple[Store, Exporter]]:
    """Open and lock the state directory, and log once what is wrong with it."""
    check_mongo_url(settings)
    store = Store(settings.state_dir)
    with lock(settings.state_dir, command):
        exporter = Exporter(settings, store)
        if store.fault is not None:
            exporter.failures.failed("store", memory_only(store))
        if exporter.flag.decision.by == BY_UNREADABLE:
            LOG.warning(
                "Usage figures are off: the admin setting in OTEL_NOVU_STATE_DIR can't be read. "
                "NOVU_TELEMETRY decides without it."
            )
        yield store, exporter


def check_mongo_url(settings: Settings) -> None:
    """Let the driver check the database's URL, without a connection; SettingsError: it is bad."""
    if settings.mongo_url is not None:
        try:
            warnings = check_url(settings.mongo_url)
        except MongoUrlError as error:
            raise SettingsError(str(error)) from None
        for warning in warnings:
            LOG.warning("%s", sentence(warning))
