"""OTLP over HTTP or gRPC: sends a request once and judges the response."""

from otel_novu.otlp.outcome import Sender
from otel_novu.settings import Otlp, Protocol


def sender(otlp: Otlp) -> Sender:
    """Return a sender for the protocol in use, and load only that one's library."""
    if otlp.protocol is Protocol.GRPC:
        from otel_novu.otlp.grpc import GrpcSender  # noqa: PLC0415

        return GrpcSender(otlp)
    from otel_novu.otlp.http import HttpSender  # noqa: PLC0415

    return HttpSender(otlp)
