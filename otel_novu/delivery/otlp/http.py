"""One OTLP report over HTTP, on a connection of its own, the whole exchange under one deadline."""

import gzip
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from http.client import HTTPResponse
from pathlib import Path
from threading import Lock, Thread
from typing import Any, cast
from urllib.request import getproxies

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3 import HTTPConnectionPool

from otel_novu.delivery.otlp import tls
from otel_novu.delivery.otlp.address import address
from otel_novu.delivery.otlp.http_failure import outcome_of
from otel_novu.delivery.otlp.http_verdict import Answer, judge
from otel_novu.delivery.otlp.quote import Quote
from otel_novu.outcome import Later, Outcome, Refused
from otel_novu.settings import Compression, Otlp, Secret
from otel_novu.version import __version__

_ANSWER_LIMIT = 64 * 1024
# A cut connection ends its thread at once; a thread in the resolver is not waited for.
_MARGIN = 0.25


class HttpSender:
    """Sends to the collector of `settings` over HTTP.

    `REQUESTS_CA_BUNDLE`, `CURL_CA_BUNDLE` and the proxy variables of the environment hold, the
    former only where `settings` names no authorities; `~/.netrc` is not read.

    Args:
        settings: the collector, and how to talk to it.
        clock: Unix time, seconds; a `Retry-After` date is measured by it.
    """

    def __init__(self, settings: Otlp, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._address = address(settings)
        self._quote = Quote(settings, getproxies().values())

    @property
    def destination(self) -> str:
        """The URL, without user name, password and query."""
        return self._address.url

    def send(self, body: bytes, timeout: float) -> Outcome:
        """Post `body` once, within `timeout` seconds in all; never raises.

        No time-out of the driver bounds a resolver or a server that trickles. So the exchange has
        a thread; at the deadline its connection is cut, which ends the thread, and a thread that
        is in the resolver or is connecting ends with that.
        """
        line = _Line()
        ended: list[Outcome] = []
        thread = Thread(
            target=lambda: ended.append(self._exchange(body, timeout, line)),
            name="otel-novu-otlp-http",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:
            return Later("no thread could be started for sending")
        thread.join(timeout)
        if ended:
            return ended[0]
        line.cut()
        thread.join(_MARGIN)
        return Later(f"no complete answer from {self._address.target} within {timeout:g} seconds")

    def _exchange(self, body: bytes, timeout: float, line: "_Line") -> Outcome:
        try:
            with closing(line):
                answer = self._post(body, timeout, line)
            return judge(answer, self._address.url, self._quote, self._clock())
        except tls.CertificateError as error:
            return Refused(str(error))
        except Exception as error:  # noqa: BLE001 - the contract: a sender never raises
            return outcome_of(error, self._address.target)

    def _post(self, body: bytes, timeout: float, line: "_Line") -> Answer:
        url = self._address.url
        request = requests.Request(
            "POST", url, headers=self._headers(), data=_compress(body, self._settings.compression)
        ).prepare()
        with requests.Session() as session:
            environment = session.merge_environment_settings(url, {}, True, None, None)  # noqa: FBT003
        context = None
        if self._address.tls:
            context = tls.context(self._settings, _default_ca(environment["verify"]))
        with closing(_Adapter(context, self._address.query, line)) as adapter:
            # Half for connecting, so that a second address of the host gets its turn; the rest is
            # the cut's, and a time-out for reading its understudy.
            response = adapter.send(
                request,
                stream=True,
                timeout=(timeout / 2, timeout * 2),
                proxies=environment["proxies"],
            )
            with closing(response):
                return _read(response)

    def _headers(self) -> Mapping[str, str | bytes]:
        headers: CaseInsensitiveDict[str | bytes] = CaseInsensitiveDict()
        headers["User-Agent"] = f"otel-novu/{__version__}"
        if self._address.authorization is not None:
            headers["Authorization"] = self._address.authorization.reveal()
        for name, value in self._settings.headers.items():
            # Bytes of the environment that are no UTF-8 leave as they came.
            headers[name] = value.reveal().encode(errors="surrogateescape")
        headers["Content-Type"] = "application/x-protobuf"
        headers["Accept-Encoding"] = "identity"
        headers["Connection"] = "close"
        if self._settings.compression is not Compression.NONE:
            headers["Content-Encoding"] = self._settings.compression.value
        return headers


class _Line:
    """The connection of one exchange, which another thread may cut.

    It holds duplicates of the socket: TLS takes the original over, and a duplicate's number can't
    have been given to another file by the time of the cut.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._cut = False
        self._sockets: list[socket.socket] = []

    def hold(self, connected: socket.socket) -> None:
        with self._lock:
            if self._cut:
                connected.close()
                raise TimeoutError
            self._sockets.append(connected.dup())

    def cut(self) -> None:
        with self._lock:
            self._cut = True
            for held in self._sockets:
                with suppress(OSError):
                    held.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            for held in self._sockets:
                held.close()
            self._sockets.clear()


class _Adapter(HTTPAdapter):
    """requests' adapter with our TLS context, our query string, and connections on `line`."""

    def __init__(self, context: ssl.SSLContext | None, query: Secret, line: _Line) -> None:
        self._context = context
        self._query = query
        self._line = line
        super().__init__()

    def cert_verify(self, *_: object) -> None:
        """Leave the trust to the context; requests would add its own authorities to it."""

    def get_connection_with_tls_context(self, *args: Any, **named: Any) -> HTTPConnectionPool:  # noqa: ANN401
        pool = cast(HTTPConnectionPool, super().get_connection_with_tls_context(*args, **named))
        if self._context is not None:
            pool.conn_kw["ssl_context"] = self._context
        pool.ConnectionCls = _watched(pool.ConnectionCls, self._query, self._line)
        return pool


class _UnjudgedResponse(HTTPResponse):
    def begin(self) -> None:
        super().begin()
        # urllib3 would log malformed header lines, whatever they hold, and our whole URL.
        self.msg.defects.clear()
        self.msg.set_payload("")


def _watched(kind: type[Any], query: Secret, line: _Line) -> type[Any]:
    class Watched(kind):  # type: ignore[misc]
        response_class = _UnjudgedResponse

        def _new_conn(self) -> socket.socket:
            connected: socket.socket = super()._new_conn()
            line.hold(connected)
            # The time for connecting is over; from here on the cut ends every wait.
            connected.settimeout(None)
            return connected

        def request(self, method: str, url: str, *args: object, **kwargs: object) -> None:
            # Here and not before, as urllib3 logs the URL that it is given, and puts it into the
            # text of its errors.
            suffix = f"?{query.reveal()}" if query.reveal() else ""
            super().request(method, url + suffix, *args, **kwargs)

    return Watched


def _default_ca(verify: object) -> Path:
    return Path(verify if isinstance(verify, str) else DEFAULT_CA_BUNDLE_PATH)


def _compress(body: bytes, compression: Compression) -> bytes:
    if compression is Compression.GZIP:
        return gzip.compress(body, mtime=0)
    if compression is Compression.DEFLATE:
        # With zlib's frame, as RFC 9110 (8.4.1.2) defines it.
        return zlib.compress(body)
    return body


def _read(response: requests.Response) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    body = response.raw.read(_ANSWER_LIMIT + 1, decode_content=True)
    return Answer(response.status_code, headers, body)
