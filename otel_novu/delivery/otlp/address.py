"""The collector's address, its secrets set apart."""

from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urlsplit

from otel_novu.settings import Otlp, Secret

_KEPT_IN_A_QUERY = "%/?:@!$&'()*+,;=~-._[]"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to send, in parts that may be shown and parts that may not.

    Args:
        url: the endpoint without user name, password, query and fragment; may be shown.
        tls: the endpoint is `https`.
        target: `host:port`, the port being the scheme's own (80, 443) where none is named.
        query: what stands behind the `?`, ready for the wire; may be empty.
        authorization: the header value that user name and password make (RFC 7617), or None.
    """

    url: str
    tls: bool
    target: str
    query: Secret
    authorization: Secret | None


def address(settings: Otlp) -> Address:
    """Take the endpoint of `settings` apart."""
    parts = urlsplit(settings.endpoint.reveal())
    place = parts.netloc.rpartition("@")[2]
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    tls = parts.scheme == "https"
    return Address(
        url=f"{parts.scheme}://{place}{parts.path}",
        tls=tls,
        target=f"{host}:{parts.port or (443 if tls else 80)}",
        query=Secret(quote(parts.query, _KEPT_IN_A_QUERY, errors="surrogateescape")),
        authorization=_basic(parts),
    )


def _basic(parts: SplitResult) -> Secret | None:
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Secret("Basic " + b64encode(pair.encode(errors="surrogateescape")).decode())
