"""An application with a MeterProvider of its own that reports both of otel-novu's tables too.

    MONGO_URL=mongodb://... OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 \
        python examples/embed.py

Reader, exporter, resource and interval are the application's; otel-novu only adds instruments.
"""

import signal
import threading

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource

import otel_novu


def main() -> None:
    """Report until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    # As any application does it; the exporter reads the OTEL_EXPORTER_OTLP_* variables, the reader
    # OTEL_METRIC_EXPORT_INTERVAL, the resource OTEL_RESOURCE_ATTRIBUTES.
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    resource = Resource.create({SERVICE_NAME: "my-application"})
    provider = MeterProvider(metric_readers=[reader], resource=resource, shutdown_on_exit=False)

    # This host: always. Novu's figures: only while the telemetry flag is set; they are read on a
    # thread of their own, so that a slow database never holds up the application's other metrics.
    otel_novu.register_beacon(provider)
    usage = otel_novu.register_usage(provider)

    stop.wait()  # here the application does its work

    # The provider first, as its last collection may still show the figures read last. Its time-out
    # is not the 30 s of default, which outlast the 10 s that Docker grants a container to stop.
    try:
        provider.shutdown(timeout_millis=5_000)
    finally:
        usage.close()


if __name__ == "__main__":
    main()
