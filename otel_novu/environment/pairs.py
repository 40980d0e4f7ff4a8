"""Lists of `key=value` pairs as OpenTelemetry writes them into a variable.

Sources: W3C Baggage for the form; OpenTelemetry's "Resource SDK" and "OTLP Exporter Configuration"
for its use. As in OpenTelemetry's own Python SDK empty items are skipped and spaces are allowed.
"""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

from otel_novu.environment.faults import RefusedError

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
# The SDK's liberal form of a header's value: space and printable ASCII without `"`, `,`, `;`, `\`.
_RAW_VALUE = re.compile(r"[\x20\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_GRPC_KEY = re.compile(r"[0-9a-z_.-]+")  # gRPC over HTTP2, "Custom-Metadata"
_GRPC_VALUE = re.compile(r"[\x20-\x7e]*")
# What describes the body and the connection is the sender's to say.
_OWN_HEADERS = frozenset(
    {"connection", "content-encoding", "content-length", "content-type", "te", "transfer-encoding"}
)
_INSTANCE_ID = "service.instance.id"
_SDK_PREFIX = "telemetry.sdk."


def _decoded(text: str, where: str) -> str:
    if _STRAY_PERCENT.search(text):
        message = f"holds a % in {where} that begins no percent-encoded character (% itself is %25)"
        raise RefusedError(message)
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        message = f"holds percent-encoded bytes in {where} that are not UTF-8"
    raise RefusedError(message)


def _pairs(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield position (as a phrase), key and value, neither of them decoded yet."""
    items = text.split(",")
    for position, item in enumerate(items, start=1):
        if not item.strip():
            continue
        where = f"item {position} of {len(items)}"
        key, equals, value = item.partition("=")
        if not equals:
            message = f"holds no = in {where}"
            raise RefusedError(message)
        yield where, key.strip(), value.strip()


def headers(text: str) -> Mapping[str, str]:
    """Read a list of headers.

    Returns:
        The decoded values by key in lower case; of a repeated key the last one.

    Raises:
        RefusedError: no such list; the clause tells the item's position, never its text.
    """
    found: dict[str, str] = {}
    for where, raw_key, raw_value in _pairs(text):
        key = _decoded(raw_key, where).lower()
        if not _TOKEN.fullmatch(key):
            message = f"holds a key in {where} that is no name of a header"
            raise RefusedError(message)
        if key in _OWN_HEADERS:
            message = f"names the header {key} in {where}, which the exporter sets itself"
            raise RefusedError(message)
        found[key] = _header_value(raw_value, where)
    return found


def _header_value(raw: str, where: str) -> str:
    if not _RAW_VALUE.fullmatch(raw):
        message = f"holds a character in {where} that must be percent-encoded"
        raise RefusedError(message)
    value = _decoded(raw, where)
    if any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 or ord(c) > 0xFF for c in value):  # noqa: PLR2004 - the edges of Latin-1
        message = f"holds a character in {where} that no header can carry"
        raise RefusedError(message)
    return value.strip()  # as the SDK does; HTTP would take the space away as well


def grpc_headers(text: str) -> Mapping[str, str]:
    """Read a list of headers that gRPC can carry: see `headers`, with gRPC's narrower alphabet."""
    found = headers(text)
    for key, value in found.items():
        lawful = _GRPC_KEY.fullmatch(key) and not key.startswith("grpc-")
        if not lawful or key.endswith("-bin") or not _GRPC_VALUE.fullmatch(value):
            position = list(found).index(key) + 1
            message = f"holds a header (number {position} of {len(found)}) that gRPC can't carry"
            raise RefusedError(message)
    return found


def resource_attributes(text: str) -> Mapping[str, str]:
    """Read a list of resource attributes.

    Returns:
        The decoded values by decoded key; of a repeated key the last one.

    Raises:
        RefusedError: no such list, or a key that the exporter sets itself; the clause tells the
            item's position, never its value.
    """
    found: dict[str, str] = {}
    for where, raw_key, raw_value in _pairs(text):
        key, value = _decoded(raw_key, where), _decoded(raw_value, where)
        if not key or not (key + value).isprintable():
            fault = "a control character" if key else "an empty key"
            message = f"holds {fault} in {where}"
            raise RefusedError(message)
        _refuse_own(key)
        found[key] = value
    return found


def _refuse_own(key: str) -> None:
    if key == _INSTANCE_ID:
        message = f"sets {_INSTANCE_ID}, which is set by OTEL_NOVU_INSTANCE_ID alone"
        raise RefusedError(message)
    if key.startswith(_SDK_PREFIX):
        message = f"sets an attribute {_SDK_PREFIX}*, which only OpenTelemetry's SDK sets"
        raise RefusedError(message)
