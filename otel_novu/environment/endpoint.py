"""The collector's address: its form, and what OpenTelemetry makes of it.

Source: OpenTelemetry's "OTLP Exporter Configuration": the general endpoint of HTTP is a base that
`v1/metrics` is appended to, that of the signal is used as it is, and gRPC without a scheme is TLS
unless it is told to be insecure.
"""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from otel_novu.environment.faults import RefusedError

_METRICS_PATH = "/v1/metrics"
_HTTPS_PORT = 443
_MAX_PORT = 65535
_MAX_HOST = 253

_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PARTS = re.compile(r"(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?P<fragment>#.*)?")
_HOST_AND_PORT = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::(?P<port>.*))?")
_USERINFO = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:%-]*")  # RFC 3986, 3.2.1
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")


@dataclass(frozen=True, slots=True)
class _Url:
    scheme: str
    userinfo: str
    host: str
    port: int | None
    path: str
    query: str

    def text(self) -> str:
        """Put the parts together again."""
        userinfo = f"{self.userinfo}@" if self.userinfo else ""
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{userinfo}{self.host}{port}{self.path}{self.query}"


def http_base(text: str) -> str:
    """Read the general endpoint of HTTP.

    Returns:
        The URL to post to: `v1/metrics` appended to the path, the query kept behind it.

    Raises:
        RefusedError: no such URL.
    """
    url = _http_url(text)
    path = url.path.rstrip("/") + _METRICS_PATH
    return _Url(url.scheme, url.userinfo, url.host, url.port, path, url.query).text()


def http_as_is(text: str) -> str:
    """Read the metrics endpoint of HTTP.

    Returns:
        The URL to post to, as given; its path is `/` where it has none.

    Raises:
        RefusedError: no such URL.
    """
    url = _http_url(text)
    return _Url(url.scheme, url.userinfo, url.host, url.port, url.path or "/", url.query).text()


def ends_in_metrics_path(text: str) -> bool:
    """Tell whether the path is there already that HTTP's general endpoint gets appended."""
    return text.partition("?")[0].rstrip("/").endswith(_METRICS_PATH)


def grpc(text: str, bare_scheme: str) -> str:
    """Read the endpoint of gRPC.

    Args:
        text: a URL, or `host:port`.
        bare_scheme: of `host:port`: `https` is TLS, `http` is not.

    Returns:
        `http://host:port` or `https://host:port`, always with the port.

    Raises:
        RefusedError: no such address, or one with parts that gRPC has no use for.
    """
    url = _split(text if "://" in text else f"{bare_scheme}://{text}")
    if url.userinfo:
        raise RefusedError("holds a user name, which gRPC can't send (a header can)")
    if url.path not in {"", "/"} or url.query:
        raise RefusedError("has a path or a query, which gRPC does not know")
    port = url.port or (_HTTPS_PORT if url.scheme == "https" else None)
    if port is None:
        raise RefusedError("has no port")
    return _Url(url.scheme, "", url.host, port, "", "").text()


def _http_url(text: str) -> _Url:
    if "://" not in text:
        raise RefusedError("does not begin with http:// or https://")
    return _split(text)


def _split(text: str) -> _Url:
    if not _PRINTABLE.fullmatch(text):
        raise RefusedError("holds a space, a control character or one outside ASCII")
    if _STRAY_PERCENT.search(text):
        raise RefusedError("holds a % that begins no percent-encoded character (% itself is %25)")
    scheme, _, rest = text.partition("://")
    if scheme.lower() not in {"http", "https"}:
        raise RefusedError("has a scheme other than http and https")
    parts = _PARTS.fullmatch(rest)
    if parts is None or parts["fragment"]:
        raise RefusedError("has a fragment (#), which no server sees (# itself is %23)")
    # Behind an unencoded / in a password the rest of it would pass for a path.
    if "@" in parts["path"] + (parts["query"] or ""):
        raise RefusedError("holds an @ behind the host (/ in a password is %2F, @ itself is %40)")
    userinfo, at, host_and_port = parts["authority"].rpartition("@")
    if at:
        _refuse_bad_userinfo(userinfo)
    host, port = _host_and_port(host_and_port)
    return _Url(scheme.lower(), userinfo, host, port, parts["path"], parts["query"] or "")


def _refuse_bad_userinfo(userinfo: str) -> None:
    if not _USERINFO.fullmatch(userinfo):
        raise RefusedError("holds a user name or password that is not percent-encoded")
    if not _is_utf8(unquote_to_bytes(userinfo)):
        raise RefusedError("holds a user name or password whose percent-encoding is not UTF-8")


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _host_and_port(text: str) -> tuple[str, int | None]:
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None:
        raise RefusedError("has a malformed host (an IPv6 address stands in brackets)")
    _refuse_bad_host(match["host"])
    port = match["port"]
    if port is None:
        return match["host"], None
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= _MAX_PORT:
        raise RefusedError("has a port that is no number from 1 to 65535")
    return match["host"], int(port)


def _refuse_bad_host(host: str) -> None:
    if not host:
        raise RefusedError("has no host")
    if host.startswith("["):
        lawful = _is_address(host[1:-1], ipaddress.IPv6Address)
    elif re.fullmatch(r"[0-9.]+", host):
        lawful = _is_address(host, ipaddress.IPv4Address)
    else:
        lawful = bool(_HOST_NAME.fullmatch(host)) and len(host) <= _MAX_HOST
    if not lawful:
        raise RefusedError("has a malformed host (an IPv6 address stands in brackets)")


def _is_address(text: str, kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address]) -> bool:
    if "%" in text:  # a zone means nothing beyond this machine
        return False
    try:
        kind(text)
    except ValueError:
        return False
    return True
