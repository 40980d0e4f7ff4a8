"""The table: every variable that a user can set, one row each."""

import logging
import re
from pathlib import Path
from typing import Any
from uuid import UUID

from otel_novu.environment import files, pairs
from otel_novu.environment.choices import Compression, Exporter, Protocol
from otel_novu.environment.faults import RefusedError
from otel_novu.environment.quantity import Age, Number, Size
from otel_novu.environment.reader import FLAG, Form, Words, words
from otel_novu.environment.variable import Variable

_TIMEOUT_BELOW = 600
_WEEK_MS = 7 * 24 * 60 * 60 * 1000
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_DELTA = "delta"


def _uuid(text: str) -> UUID:
    if not _UUID.fullmatch(text.strip()):
        raise RefusedError("is no UUID")
    found = UUID(text.strip())
    if not found.int:
        raise RefusedError("is the nil UUID, which every instance would share")
    return found


def _state_dir(text: str) -> Path:
    if not text.isprintable() or not text.strip():
        raise RefusedError("is no path of a directory")
    if text.startswith("~"):
        raise RefusedError("begins with ~, which only a shell expands")
    if "://" in text:
        raise RefusedError("is a URL, not the path of a directory")
    return Path(text)


def _exporters(text: str) -> tuple[Exporter, ...]:
    names = [name.strip().lower() for name in text.split(",")]
    known = {exporter.value: exporter for exporter in Exporter}
    if names == ["none"]:
        return ()
    if "none" in names:
        raise RefusedError("holds none beside another exporter")
    if any(name not in known for name in names):
        raise RefusedError("holds an unknown exporter or an empty item")
    return tuple(dict.fromkeys(known[name] for name in names))


def _service_name(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise RefusedError("is blank or holds a control character")
    return text.strip()


def _disabled(text: str) -> bool:
    # "Any value not explicitly defined here as a true value must be interpreted as false":
    # OpenTelemetry's "Environment Variable Specification", Boolean.
    return text.strip().lower() == "true"


def _temporality(text: str) -> None:
    word = text.strip().lower()
    if word == _DELTA:
        raise RefusedError("is delta, which only the collector's cumulativetodelta processor makes")
    if word not in {"cumulative", "lowmemory"}:
        raise RefusedError("holds a word that it does not know")


TELEMETRY = Variable(
    name="NOVU_TELEMETRY",
    reader=FLAG,
    unset="on, unless the admin setting says otherwise",
    meaning="Whether usage figures are read and sent; the beacon is sent in any case.",
)
MONGO_URL = Variable(
    name="MONGO_URL",
    reader=Form("a mongodb:// or mongodb+srv:// URL", str),
    meaning="Novu's database, as Novu's own variable; the URL's path names the database, "
    "else it is `novu-db`.",
    secret=True,
)
MONGO_URL_FILE = Variable(
    name="MONGO_URL_FILE",
    reader=Form("the path of a readable file that holds a mongodb:// URL", files.path),
    meaning="A file that holds the URL (a container secret), instead of `MONGO_URL`.",
)
STATE_DIR = Variable(
    name="OTEL_NOVU_STATE_DIR",
    reader=Form(
        "the path of a directory; a relative one begins in the working directory", _state_dir
    ),
    unset="`$XDG_STATE_HOME/otel-novu`, else `~/.local/state/otel-novu`",
    meaning="Where instance id, admin setting, counters, spool and last report are kept.",
)
INSTANCE_ID = Variable(
    name="OTEL_NOVU_INSTANCE_ID",
    reader=Form("a UUID such as ba54fb29-6422-4a83-a0e4-951d767efa73", _uuid),
    unset="made once, kept in the state directory",
    meaning="The instance id, `service.instance.id` of every report.",
)
ANONYMIZE = Variable(
    name="OTEL_NOVU_ANONYMIZE",
    reader=FLAG,
    default="off",
    meaning="Whether host name and address leave only as keyed hashes; the key is made once, "
    "kept in the state directory and never sent.",
)
QUERY_TIMEOUT = Variable(
    name="OTEL_NOVU_QUERY_TIMEOUT",
    reader=Number(0.001, _TIMEOUT_BELOW, "seconds, from 0.001 to less than 600"),
    default="5",
    meaning="How long one round of all figures may take, in seconds.",
)
SPOOL_MAX_AGE = Variable(
    name="OTEL_NOVU_SPOOL_MAX_AGE",
    reader=Age(
        1, 366 * 86400, "days, hours, minutes or seconds (7d, 12h, 30m, 90s, 90), from 1s to 366d"
    ),
    default="7d",
    meaning="How long a report waits for its delivery before it is given up.",
)
SPOOL_MAX_BYTES = Variable(
    name="OTEL_NOVU_SPOOL_MAX_BYTES",
    reader=Size(2**16, 2**40, "bytes, KiB, MiB or GiB (67108864, 64MiB), from 64KiB to 1024GiB"),
    default="64MiB",
    meaning="How much room waiting reports may take before the oldest is given up.",
)
INTERVAL = Variable(
    name="OTEL_METRIC_EXPORT_INTERVAL",
    reader=Number(1, _WEEK_MS + 1, "milliseconds, from 1 to 604800000 (7 days)"),
    default="3600000",
    meaning="The time between two reports, in milliseconds: an hour here.",
)
EXPORTERS = Variable(
    name="OTEL_METRICS_EXPORTER",
    reader=Form("otlp, console, a list of both with a comma, or none alone", _exporters),
    default="otlp",
    meaning="Where reports go.",
)
PROTOCOL = Variable(
    name="OTEL_EXPORTER_OTLP_PROTOCOL",
    winner="OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
    reader=words({protocol.value: protocol for protocol in Protocol}),
    default="http/protobuf",
    meaning="How reports are carried.",
)
ENDPOINT = Variable(
    name="OTEL_EXPORTER_OTLP_ENDPOINT",
    winner="OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    reader=Form(
        "http://host:port or https://host:port, such as http://localhost:4318 (for gRPC also "
        "host:port, and neither path nor query)",
        str,
    ),
    unset="`http://localhost:4318`, for gRPC `http://localhost:4317`",
    meaning="The collector. Over HTTP `/v1/metrics` is appended to the first variable's path; the "
    "second one's is used as it is. For gRPC `host:port` alone means TLS, unless "
    "`OTEL_EXPORTER_OTLP_INSECURE` is true, and https without a port means 443. A user name, "
    "password or query in it is shown nowhere.",
)
INSECURE = Variable(
    name="OTEL_EXPORTER_OTLP_INSECURE",
    winner="OTEL_EXPORTER_OTLP_METRICS_INSECURE",
    reader=words({"true": True, "false": False}),
    default="false",
    meaning="Whether a gRPC endpoint without http:// or https:// is spoken to without TLS.",
)
HEADERS = Variable(
    name="OTEL_EXPORTER_OTLP_HEADERS",
    winner="OTEL_EXPORTER_OTLP_METRICS_HEADERS",
    reader=Form("key=value,key2=value2 with percent-encoded values", str),
    meaning="Headers of every request, such as a token.",
    secret=True,
)
TIMEOUT = Variable(
    name="OTEL_EXPORTER_OTLP_TIMEOUT",
    winner="OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
    reader=Number(
        0.001,
        _TIMEOUT_BELOW,
        "seconds, from 0.001 to less than 600",
        too_large="is 600 or more, although it counts seconds, not milliseconds",
    ),
    default="10",
    meaning="How long one attempt to deliver may take, in seconds as in OpenTelemetry's own "
    "Python SDK.",
)
COMPRESSION = Variable(
    name="OTEL_EXPORTER_OTLP_COMPRESSION",
    winner="OTEL_EXPORTER_OTLP_METRICS_COMPRESSION",
    reader=Words(
        {compression.value: compression for compression in Compression},
        "none, gzip or, over HTTP alone, deflate (in any case)",
    ),
    default="none",
    meaning="How the body of a request is compressed.",
)
CERTIFICATE = Variable(
    name="OTEL_EXPORTER_OTLP_CERTIFICATE",
    winner="OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE",
    reader=Form("the path of a readable PEM file of certificates", files.path),
    unset="the usual authorities",
    meaning="The authorities that the collector's certificate is checked against.",
)
CLIENT_CERTIFICATE = Variable(
    name="OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    winner="OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE",
    reader=Form(
        "the path of a readable PEM file of a certificate, with its key there or in the file "
        "that OTEL_EXPORTER_OTLP_CLIENT_KEY names",
        files.path,
    ),
    meaning="The certificate that the exporter shows to the collector.",
)
CLIENT_KEY = Variable(
    name="OTEL_EXPORTER_OTLP_CLIENT_KEY",
    winner="OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY",
    reader=Form(
        "the path of a readable PEM file of the client certificate's key, not encrypted", files.path
    ),
    unset="in the client certificate's file",
    meaning="The key of the client certificate.",
)
TEMPORALITY = Variable(
    name="OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    reader=Form("cumulative or lowmemory, which are the same here (in any case)", _temporality),
    default="cumulative",
    meaning="The temporality; `delta` is refused: use the collector's cumulativetodelta processor.",
)
SDK_DISABLED = Variable(
    name="OTEL_SDK_DISABLED",
    reader=Form(
        "true or false (in any case); every other text is false, with a warning", _disabled
    ),
    default="false",
    meaning="Whether nothing is sent at all.",
)
SERVICE_NAME = Variable(
    name="OTEL_SERVICE_NAME",
    reader=Form("a text without control characters", _service_name),
    unset="`service.name` of `OTEL_RESOURCE_ATTRIBUTES`, else `novu`",
    meaning="`service.name` of every report.",
)
RESOURCE_ATTRIBUTES = Variable(
    name="OTEL_RESOURCE_ATTRIBUTES",
    reader=Form(
        "key=value,key2=value2 with percent-encoded values, "
        "without service.instance.id and telemetry.sdk.*",
        pairs.resource_attributes,
    ),
    meaning="Further attributes of every report, such as `service.namespace`.",
)
LOG_LEVEL = Variable(
    name="OTEL_LOG_LEVEL",
    reader=Words(
        {
            "debug": logging.DEBUG,
            "info": logging.INFO,
            "warn": logging.WARNING,
            "warning": logging.WARNING,
            "error": logging.ERROR,
            "critical": logging.CRITICAL,
            "fatal": logging.CRITICAL,
        },
        "debug, info, warn or warning, error, critical or fatal (in any case)",
    ),
    default="info",
    meaning="The least weight of a log line that is written.",
)

VARIABLES: tuple[Variable[Any], ...] = (
    TELEMETRY,
    MONGO_URL,
    MONGO_URL_FILE,
    STATE_DIR,
    INSTANCE_ID,
    ANONYMIZE,
    QUERY_TIMEOUT,
    SPOOL_MAX_AGE,
    SPOOL_MAX_BYTES,
    INTERVAL,
    EXPORTERS,
    PROTOCOL,
    ENDPOINT,
    INSECURE,
    HEADERS,
    TIMEOUT,
    COMPRESSION,
    CERTIFICATE,
    CLIENT_CERTIFICATE,
    CLIENT_KEY,
    TEMPORALITY,
    SDK_DISABLED,
    SERVICE_NAME,
    RESOURCE_ATTRIBUTES,
    LOG_LEVEL,
)
