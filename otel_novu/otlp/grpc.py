"""OTLP over gRPC: one report on one channel, within one timeout."""

import os
import re
from contextlib import closing

from otel_novu.instrumentation import suppress_instrumentation
from otel_novu.otlp import response
from otel_novu.otlp.outcome import Outcome, Rejected, Retryable
from otel_novu.settings import Otlp
from otel_novu.version import __version__

# gRPC logs what is reported here; it reads the variable as it is loaded.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
import grpc

_METHOD = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
_USER_AGENT = ("grpc.primary_user_agent", f"otel-novu/{__version__}")
# One attempt, on a connection that no other channel uses.
_OPTIONS = (_USER_AGENT, ("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))
# RESOURCE_EXHAUSTED even without a RetryInfo, unlike the specification: queues and quotas recover.
_RETRYABLE = re.compile("CANCELLED|RESOURCE_EXHAUSTED|ABORTED|OUT_OF_RANGE|UNAVAILABLE|DATA_LOSS")
_HINTS = {
    "UNAUTHENTICATED": response.CHECK_TOKEN,
    "PERMISSION_DENIED": response.CHECK_TOKEN,
    "UNIMPLEMENTED": f"is {response.ENDPOINT} the address of an OTLP receiver for metrics?",
    "UNKNOWN": f"is {response.ENDPOINT} the collector's address for gRPC (port 4317)?",
    "RESOURCE_EXHAUSTED": "raise max_recv_msg_size_mib of the collector's OTLP receiver",
}
_TOO_LARGE = re.compile("received message larger than max", re.IGNORECASE)
_NO_CONNECTION = re.compile("failed to connect to all|errors resol|DNS resol|Socket closed")


class GrpcSender:
    """Calls the collector's Export by its name, with the bytes of the report as they are."""

    def __init__(self, otlp: Otlp) -> None:
        self.endpoint = otlp.endpoint.reveal()  # no user name, path or query: gRPC has none
        self._otlp, self._secret = otlp, response.secret_pattern(otlp)

    @suppress_instrumentation()
    def send(self, body: bytes, timeout: float) -> Outcome:
        """Call once, for at most `timeout` seconds; never raises."""
        return response.named(self._call(body, timeout), self._otlp)

    def _call(self, body: bytes, timeout: float) -> Outcome:
        if timeout <= 0:
            return response.LATE
        try:
            headers = tuple(response.request_headers(self._otlp).items())
            with closing(self._channel()) as channel:
                answer = channel.unary_unary(_METHOD, None, None)(body, timeout, headers)
        except grpc.RpcError as error:
            return self._judge(error)
        except Exception as error:  # noqa: BLE001 - a sender never raises
            return response.find_cause(error, self.endpoint)
        return response.judge_success(answer, self._secret, response.PROTOBUF)

    def _channel(self) -> grpc.Channel:
        gzip = self._otlp.gzip
        compression = grpc.Compression.Gzip if gzip else grpc.Compression.NoCompression
        # By itself, gRPC reads only some of the proxy variables.
        proxy = response.proxy_for(self.endpoint, "http")
        options = (
            *_OPTIONS,
            ("grpc.http_proxy", proxy) if proxy else ("grpc.enable_http_proxy", 0),
        )
        scheme, _, place = self.endpoint.partition("://")
        target = self.endpoint if scheme == "unix" else f"dns:///{place}"
        if scheme != "https":
            return grpc.insecure_channel(target, options, compression)
        certificate = self._otlp.client_certificate
        files = (self._otlp.ca_file, self._otlp.client_key or certificate, certificate)
        contents = (None if file is None else file.read_bytes() for file in files)
        credentials = grpc.ssl_channel_credentials(*contents)
        return grpc.secure_channel(target, credentials, options, compression)

    def _judge(self, error: grpc.RpcError) -> Outcome:
        code, details = error.code().name, error.details() or ""
        if code == "DEADLINE_EXCEEDED":
            return response.LATE
        if code == "UNAVAILABLE" and _NO_CONNECTION.match(details):
            # Behind a proxy only the proxy is resolved and connected to.
            if response.proxy_for(self.endpoint, "http"):
                details = re.sub("refused|resol", "ProxyError", details)
            return response.find_fault(details, self.endpoint)
        message = response.printable(details, self._secret)
        reason = f'gRPC {code}: "{message}"' if message else f"gRPC {code}"
        if not _RETRYABLE.fullmatch(code) or _TOO_LARGE.search(details):
            return Rejected(reason, _HINTS.get(code, response.SEE_LOG))
        trailers = {each.key: each.value for each in error.trailing_metadata() or ()}
        status = trailers.get("grpc-status-details-bin", b"")
        return Retryable(reason, retry_after=response.retry_delay(status))
