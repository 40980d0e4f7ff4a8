"""The environment, validated once, into one frozen object."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from uuid import UUID


class SettingsError(Exception):
    """A setting can't be used.

    The text is one sentence that names the variable, what is wrong with it and what is accepted;
    it never holds a secret. Commands print it and exit with 2.
    """


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that no log, error or repr may show; `reveal` it only to the door that needs it."""

    _text: str = field(repr=False)

    def reveal(self) -> str:
        """Return the text."""
        return self._text

    def __str__(self) -> str:
        """Hide the text."""
        return "***"


class Protocol(Enum):
    """How OTLP is carried."""

    HTTP = "http/protobuf"
    GRPC = "grpc"


class Compression(Enum):
    """How a request's body is compressed; gRPC knows no deflate."""

    NONE = "none"
    GZIP = "gzip"
    DEFLATE = "deflate"


class Exporter(Enum):
    """Where reports go."""

    OTLP = "otlp"
    CONSOLE = "console"


@dataclass(frozen=True, slots=True)
class Otlp:
    """The collector, and how to talk to it.

    Args:
        protocol: HTTP or gRPC.
        endpoint: for HTTP the whole URL that is posted to, for gRPC `http(s)://host:port`;
            may hold user name and password, therefore a secret.
        headers: sent with each request.
        timeout: of one attempt, seconds.
        compression: of the body.
        ca: PEM file of the authorities to trust, or None for the default ones.
        client_certificate: PEM file, or None.
        client_key: PEM file, or None where it is in the certificate's file.
    """

    protocol: Protocol
    endpoint: Secret
    headers: Mapping[str, Secret]
    timeout: float
    compression: Compression
    ca: Path | None
    client_certificate: Path | None
    client_key: Path | None


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a user can set.

    Args:
        telemetry: `NOVU_TELEMETRY`, or None where it is not set.
        mongo_url: Novu's database, or None where it is not set.
        state_dir: where state is kept.
        instance_id: `OTEL_NOVU_INSTANCE_ID`, or None.
        query_timeout: for one round of all figures, seconds.
        interval: between two reports, seconds.
        exporters: where reports go; empty for `none`.
        sdk_disabled: `OTEL_SDK_DISABLED` is `true`: nothing is sent.
        otlp: the collector.
        service_name: `service.name` of the resource.
        resource_attributes: the operator's own, from `OTEL_RESOURCE_ATTRIBUTES`.
        log_level: a level of `logging`.
    """

    telemetry: bool | None
    mongo_url: Secret | None
    state_dir: Path
    instance_id: UUID | None
    query_timeout: float
    interval: float
    exporters: tuple[Exporter, ...]
    sdk_disabled: bool
    otlp: Otlp
    service_name: str
    resource_attributes: Mapping[str, str]
    log_level: int
