"""One OTLP report over gRPC, on a channel of its own."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.request import getproxies

from otel_novu.delivery.otlp import answers, tls
from otel_novu.delivery.otlp.address import address
from otel_novu.delivery.otlp.grpc_verdict import Ended, judge
from otel_novu.delivery.otlp.quote import Quote
from otel_novu.outcome import Later, Outcome, Refused
from otel_novu.settings import Compression, Otlp
from otel_novu.version import __version__


@contextmanager
def _quiet_core() -> Iterator[None]:
    """Keep gRPC's core, as it loads, from writing to stderr what we say in our own words.

    It reads the variable once, then; whoever has set it, or loaded gRPC before, is left alone.
    """
    if "grpc" in sys.modules or "GRPC_VERBOSITY" in os.environ:
        yield
        return
    os.environ["GRPC_VERBOSITY"] = "NONE"
    try:
        yield
    finally:
        del os.environ["GRPC_VERBOSITY"]


with _quiet_core():
    import grpc

_METHOD = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
_DETAILS = "grpc-status-details-bin"
_OPTIONS = (
    ("grpc.primary_user_agent", f"otel-novu/{__version__}"),
    # One attempt is one attempt, on a connection that no other channel has broken before.
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    # No second question to the resolver, for a service configuration.
    ("grpc.service_config_disable_resolution", 1),
)


class GrpcSender:
    """Sends to the collector of `settings` over gRPC.

    The method is called by its name, on bytes: `MetricsServiceStub` would decode and encode the
    stored request once more, and promise nothing about the result being the same.

    Args:
        settings: the collector, and how to talk to it; user name and password of its endpoint
            become the metadata `authorization`, path and query have no meaning here.
    """

    def __init__(self, settings: Otlp) -> None:
        self._settings = settings
        self._address = address(settings)
        self._quote = Quote(settings, getproxies().values())

    @property
    def destination(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if self._address.tls else 'http'}://{self._address.target}"

    def send(self, body: bytes, timeout: float) -> Outcome:
        """Call Export once, within `timeout` seconds in all; never raises."""
        deadline = time.monotonic() + timeout
        try:
            metadata = self._metadata()
            with closing(self._channel()) as channel:
                ended = _call(channel, body, deadline - time.monotonic(), metadata)
        except tls.CertificateError as error:
            return Refused(str(error))
        except _MetadataError:
            return Refused("OTEL_EXPORTER_OTLP_HEADERS holds a header that gRPC does not allow")
        except Exception as error:  # noqa: BLE001 - the contract: a sender never raises
            return Later(f"the call failed ({type(error).__name__})")
        return judge(ended, self._address.target, self._quote)

    def _channel(self) -> grpc.Channel:
        target = f"dns:///{self._address.target}"
        if not self._address.tls:
            return grpc.insecure_channel(target, _OPTIONS, self._compression())
        pem = tls.pem(self._settings)
        credentials = grpc.ssl_channel_credentials(pem.ca, pem.key, pem.certificate)
        return grpc.secure_channel(target, credentials, _OPTIONS, self._compression())

    def _compression(self) -> grpc.Compression:
        if self._settings.compression is Compression.GZIP:
            return grpc.Compression.Gzip
        return grpc.Compression.NoCompression

    def _metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        metadata: dict[str, str | bytes] = {}
        if self._address.authorization is not None:
            metadata["authorization"] = self._address.authorization.reveal()
        for name, value in self._settings.headers.items():
            key = name.lower()
            metadata[key] = _checked(key, value.reveal())
        return tuple(metadata.items())


class _MetadataError(Exception):
    """A header that gRPC does not carry; without text, as that would be a secret's."""


def _checked(key: str, value: str) -> str | bytes:
    # gRPC's own check would write the value's fault to stderr and call it an internal error.
    if not (
        key and key.isascii() and key.replace("-", "").replace("_", "").replace(".", "").isalnum()
    ):
        raise _MetadataError
    if key.endswith("-bin"):
        return value.encode()
    if not (value.isascii() and value.isprintable()):
        raise _MetadataError
    return value


def _call(
    channel: grpc.Channel,
    body: bytes,
    timeout: float,
    metadata: tuple[tuple[str, str | bytes], ...],
) -> Ended:
    if timeout <= 0:
        # gRPC lets some calls through that begin at their deadline.
        return Ended("DEADLINE_EXCEEDED", "", b"", None)
    export = channel.unary_unary(_METHOD, request_serializer=None, response_deserializer=None)
    try:
        answer = export(body, timeout=timeout, metadata=metadata)
    except grpc.RpcError as error:
        trailers = {each.key: each.value for each in error.trailing_metadata() or ()}
        status = trailers.get(_DETAILS)
        delay = answers.retry_delay(status) if isinstance(status, bytes) else None
        return Ended(error.code().name, error.details() or "", b"", delay)
    return Ended("OK", "", answer, None)
