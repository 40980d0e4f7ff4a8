"""The SDK's console exporter, for an output whose reader may stand still."""

from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExportResult,
    MetricsData,
)

from otel_novu.patience import Patience


class PatientConsole(ConsoleMetricExporter):
    """Writes reports to standard output, and raises `TimeoutError` where that takes too long.

    Args:
        patience: shared by all that write there.
    """

    def __init__(self, patience: Patience) -> None:
        super().__init__()
        self._patience = patience

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object
    ) -> MetricExportResult:
        """See the SDK's."""
        plain = super().export
        return self._patience.do(lambda: plain(metrics_data, timeout_millis, **kwargs))
