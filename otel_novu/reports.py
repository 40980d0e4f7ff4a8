"""What reports are read from and how they are worded: alike for what is shown and what is sent."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from otel_novu.meter import ReportMeter, make_resource
from otel_novu.metrics import beacon, usage
from otel_novu.settings import Settings
from otel_novu.sources.created import Store
from otel_novu.sources.failure import NoConnection
from otel_novu.sources.host import read_host
from otel_novu.sources.novu_db import NovuDatabase
from otel_novu.sources.usage_round import UsageRound, UsageSource


class Figures(Protocol):
    """Reads the usage figures, round after round; see `UsageSource`."""

    def read(self, deadline_seconds: float, now: Callable[[], float]) -> UsageRound:
        """Read all figures."""

    def forget_begin(self) -> None:
        """Leave out of the counters what is created from now on until the next round."""

    def end_by(self, seconds: float) -> None:
        """Let every round end within so many seconds."""


def novu_figures(settings: Settings, store: Store) -> Figures:
    """Read from the database that the settings name.

    Args:
        settings: what the user set.
        store: where the counters of created documents are kept.
    """

    def open_database(seconds: float) -> NovuDatabase:
        if settings.mongo_url is None:
            raise NoConnection("no database is named")
        return NovuDatabase(settings.mongo_url, seconds)

    return UsageSource(open_database, store)


@dataclass(frozen=True, slots=True)
class Sources:
    """What reports are read from, beside the clock.

    Args:
        host: reads the machine.
        figures: makes the source of the usage figures.
    """

    host: Callable[[], beacon.Host] = read_host
    figures: Callable[[Settings, Store], Figures] = novu_figures


def beacon_meter(
    settings: Settings, instance: UUID, began: float
) -> ReportMeter[beacon.BeaconReading]:
    """Make the beacon's meter.

    Args:
        settings: what the user set.
        instance: who reports.
        began: Unix time since which the process counts, seconds.
    """
    resource = make_resource(settings.service_name, instance, settings.resource_attributes)
    return ReportMeter(beacon.SCOPE, beacon.BEACON, resource, began)


def usage_meter(
    settings: Settings, instance: UUID, began: float
) -> ReportMeter[usage.UsageReading]:
    """Make the usage meter; see `beacon_meter`."""
    resource = make_resource(settings.service_name, instance, settings.resource_attributes)
    return ReportMeter(usage.SCOPE, usage.USAGE, resource, began)
