"""The variables that hand the servers of a measurement to the exporter."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the real servers are.

    Args:
        mongo_url: a Novu's database.
        otlp_http: host and port of the collector.
        otlp_grpc: the same for gRPC.
    """

    mongo_url: str
    otlp_http: str
    otlp_grpc: str

    def otlp(self, protocol: str) -> str:
        """Host and port for a protocol."""
        return self.otlp_grpc if protocol == "grpc" else self.otlp_http

    def variables(self, protocol: str = "http/protobuf") -> dict[str, str]:
        """For the exporter, straight to the servers."""
        return self._of(self.mongo_url, self.otlp(protocol), protocol)

    def through(self, otlp_port: int, protocol: str = "http/protobuf") -> dict[str, str]:
        """For the exporter, with a relay before the collector."""
        return self._of(self.mongo_url, f"127.0.0.1:{otlp_port}", protocol)

    def _of(self, mongo_url: str, otlp: str, protocol: str) -> dict[str, str]:
        return {
            "MONGO_URL": mongo_url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{otlp}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        }
