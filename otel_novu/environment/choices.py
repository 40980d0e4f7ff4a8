"""The choices that a word can make."""

from enum import Enum


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
