"""The choice of the sender that carries OTLP: HTTP or gRPC."""

from otel_novu.outcome import Sender
from otel_novu.settings import Otlp, Protocol


def sender(settings: Otlp) -> Sender:
    """Return what sends to the collector of `settings`.

    Each protocol's driver takes tens of megabytes and milliseconds to load, so only the one that
    is used is loaded, here and not at the first report.

    Args:
        settings: the collector, and how to talk to it.
    """
    if settings.protocol is Protocol.GRPC:
        from otel_novu.delivery.otlp.grpc import GrpcSender  # noqa: PLC0415

        return GrpcSender(settings)
    from otel_novu.delivery.otlp.http import HttpSender  # noqa: PLC0415

    return HttpSender(settings)
