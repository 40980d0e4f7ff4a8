"""OTLP over HTTP: one report on one connection, within one timeout."""

import re
import zlib
from contextlib import closing, suppress
from http import HTTPStatus
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import urllib3

from otel_novu.instrumentation import suppress_instrumentation
from otel_novu.otlp import response
from otel_novu.otlp.outcome import Outcome, Rejected, Retryable
from otel_novu.settings import Otlp
from otel_novu.version import __version__

_MAX_RESPONSE = 64 * 1024
_MAX_THREADS = 4
_GZIP = 31  # zlib's number of the format
_HINTS = {
    **dict.fromkeys(range(300, 400), f"a redirect is not followed; check {response.ENDPOINT}"),
    **dict.fromkeys((401, 403), response.CHECK_TOKEN),
    **dict.fromkeys((404, 405), f"check the path in {response.ENDPOINT}; {response.PATHS}"),
    407: response.PROXY_LOGIN,
    413: "raise max_request_body_size of the collector's OTLP receiver",
    415: "does the receiver accept protobuf, and OTEL_EXPORTER_OTLP_COMPRESSION?",
}
_TOO_LATE = re.compile("out of (order|bounds)|too old", re.IGNORECASE)
_WINDOW = "does Prometheus have an out_of_order_time_window?"


class HttpSender:
    """Posts to the collector, through the proxies of the environment."""

    def __init__(self, otlp: Otlp) -> None:
        url = urlsplit(otlp.endpoint.reveal())
        url = url._replace(netloc=url.netloc.rpartition("@")[2], fragment="")
        self.endpoint, self._url = url._replace(query="").geturl(), url.geturl()
        self._otlp, self._secret = otlp, response.secret_pattern(otlp)
        self._threads: list[Thread] = []

    def send(self, body: bytes, timeout: float) -> Outcome:
        """Post once, for at most `timeout` seconds; never raises.

        urllib3 limits neither the resolver nor a server that sends byte by byte. So a thread posts,
        and is left behind if it is late.
        """
        outcomes: list[Outcome] = [response.LATE]

        def post() -> None:
            try:
                outcomes.append(self._post(body, timeout))
            except Exception as error:  # noqa: BLE001 - a sender never raises
                outcomes.append(response.find_cause(error, self.endpoint))

        self._threads = [late for late in self._threads if late.is_alive()]
        if timeout > 0 and len(self._threads) < _MAX_THREADS:
            thread = Thread(target=post, name="otel-novu-http", daemon=True)
            with suppress(RuntimeError):  # the system has no thread left
                thread.start()
                self._threads.append(thread)
                thread.join(timeout)
        return response.named(outcomes[-1], self._otlp)

    @suppress_instrumentation()
    def _post(self, body: bytes, timeout: float) -> Outcome:
        headers = {"user-agent": f"otel-novu/{__version__}"}
        for name, value in response.request_headers(self._otlp).items():
            headers[name] = value.encode(errors="surrogateescape").decode("latin-1")
        headers |= {"content-type": response.PROTOBUF, "connection": "close"}
        if self._otlp.gzip:
            headers["content-encoding"] = "gzip"
            body = zlib.compress(body, wbits=_GZIP)
        # Half for the connection: the host may have a second address.
        limit = urllib3.Timeout(connect=timeout / 2, total=timeout)
        options: Any = {"timeout": limit, "redirect": False, "preload_content": False}
        with self._pool() as pool:
            answer = pool.urlopen("POST", self._url, body=body, headers=headers, **options)
            with closing(answer):
                return self._judge(answer, answer.read(_MAX_RESPONSE))

    def _pool(self) -> urllib3.PoolManager:
        options: Any = {
            "retries": False,
            "ca_certs": self._otlp.ca_file,
            "cert_file": self._otlp.client_certificate,
            "key_file": self._otlp.client_key,
            "key_password": "",  # without one OpenSSL asks the terminal for that of a key
        }
        if (proxy := response.proxy_for(self._url, "http", "https")) is None:
            return urllib3.PoolManager(**options)
        auth = {f"proxy-{name}": value for name, value in response.basic_auth(proxy).items()}
        return urllib3.ProxyManager(proxy, proxy_headers=auth, **options)

    def _judge(self, answer: urllib3.BaseHTTPResponse, body: bytes) -> Outcome:
        status = answer.status
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if status // 100 == 2:  # noqa: PLR2004 - success
            return response.judge_success(body, self._secret, kind)
        message = response.printable(response.error_message(body, kind), self._secret)
        reason = f'HTTP {status}: "{message}"' if message else f"HTTP {status}"
        # The specification has 429, 502, 503 and 504. A report outlives what causes a 500, too, but
        # not the 500 of a collector whose Prometheus rejects the report: it stays the same.
        retryable = status in (408, 429) or status // 100 == 5  # noqa: PLR2004 - server errors
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            retryable = not response.is_internal(body, kind)
        if not retryable:
            # Prometheus' remote write does not say that it takes no OTLP.
            status = 404 if "/api/v1/write" in self.endpoint else status
            hint = _HINTS.get(status, _WINDOW if _TOO_LATE.search(message) else response.SEE_LOG)
            return Rejected(reason, f"{hint}; {self._by_proxy()}".removesuffix("; "))
        delay = None
        with suppress(urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
            delay = urllib3.Retry().get_retry_after(answer)
        return Retryable(reason, self._by_proxy(), delay)

    def _by_proxy(self) -> str:
        """Return a hint where a proxy may have answered in the receiver's place."""
        proxy = self._url.startswith("http:") and response.proxy_for(self._url, "http", "https")
        return f"if the proxy answers, {response.PROXY}" if proxy else ""
