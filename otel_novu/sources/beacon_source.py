"""Reads what one beacon says."""

from collections.abc import Callable
from dataclasses import replace

from otel_novu.metrics.beacon import BeaconReading, DeliveryCounts, Host
from otel_novu.sources.host import read_host
from otel_novu.state.pseudonym import Pseudonyms


class BeaconSource:
    """The host's facts, its names replaced where the user wants that."""

    def __init__(
        self,
        now: Callable[[], float],
        pseudonyms: Pseudonyms | None,
        host: Callable[[], Host] = read_host,
    ) -> None:
        """Remember how to read.

        Args:
            now: the wall clock, Unix time in seconds.
            pseudonyms: replace host name and address; None: they leave in clear.
            host: reads the machine.
        """
        self._now = now
        self._read_host = host
        self._pseudonyms = pseudonyms

    def read(self, counts: DeliveryCounts | None, *, usage_enabled: bool) -> BeaconReading:
        """Read the host now.

        Args:
            counts: how delivery fares, or None where an application's own exporter delivers.
            usage_enabled: the telemetry flag.
        """
        return BeaconReading(self._now(), self._hidden(self._read_host()), usage_enabled, counts)

    def _hidden(self, host: Host) -> Host:
        if self._pseudonyms is None:
            return host
        ip = None if host.ip is None else self._pseudonyms.of(host.ip)
        return replace(host, name=self._pseudonyms.of(host.name), ip=ip)
