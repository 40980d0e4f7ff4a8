"""The meaning of an HTTP exchange that ended without an answer."""

import os
import re
import socket
import ssl
from collections.abc import Iterator
from http.client import HTTPException
from typing import TypeVar

import requests
import urllib3

from otel_novu.outcome import Later, Refused

_PROXY = "the proxy that HTTP_PROXY or HTTPS_PROXY names"
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_WRONG_PORT = "if that lasts, is it a TLS port (https://) or that of gRPC (4317)?"
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")
# OpenSSL's names of what a peer says that does not speak TLS.
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH")
# OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH (x509_vfy.h).
_WRONG_NAME = (62, 64)
# X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED.
_WRONG_TIME = (9, 10)

_Error = TypeVar("_Error", bound=BaseException)


def outcome_of(error: Exception, target: str) -> Later | Refused:
    """Translate the driver's `error`, whose own text may hold anything and is never shown.

    Args:
        error: what requests, urllib3 or something below them raised.
        target: `host:port` of the collector.
    """
    if isinstance(error, requests.exceptions.InvalidHeader):
        return Refused("OTEL_EXPORTER_OTLP_HEADERS holds a header that HTTP does not allow")
    if isinstance(error, requests.exceptions.InvalidProxyURL | requests.exceptions.InvalidSchema):
        return Refused(f"{_PROXY} can't be used: an http:// or https:// URL is accepted")
    if isinstance(error, requests.exceptions.InvalidURL):
        return Refused(f"{_ENDPOINT} is no URL that can be posted to")
    who = target
    if _find(error, urllib3.exceptions.ProxyError) is not None:
        who = _PROXY
    return Later(_why(error, who))


def _why(error: Exception, who: str) -> str:
    distrusted = _find(error, ssl.SSLCertVerificationError)
    if distrusted is not None:
        return _why_distrusted(distrusted, who)
    broken = _find(error, ssl.SSLError)
    if broken is not None:
        return _why_no_tls(broken, who)
    if _find(error, socket.gaierror) is not None:
        return f"the name of {who} can't be resolved"
    refused = _find(error, ConnectionRefusedError)
    if refused is not None:
        return f"nothing listens at {who}"
    if _find(error, TimeoutError, urllib3.exceptions.TimeoutError) is not None:
        return f"no answer from {who} in time"
    return _why_cut(error, who)


def _why_cut(error: Exception, who: str) -> str:
    tunnel = _TUNNEL.search(" ".join(str(each) for each in _chain(error)))
    if tunnel is not None:
        return f"{_PROXY} answered {tunnel[1]} and lets nothing through to {who}"
    cut = _find(error, ConnectionError, urllib3.exceptions.IncompleteRead)
    # A server of another protocol cuts the connection as well, now and then before it is read.
    if cut is not None:
        return f"{who} cut the connection: {_WRONG_PORT}"
    if _find(error, HTTPException, urllib3.exceptions.HTTPError) is not None and not _has_errno(
        error
    ):
        return f"{who} does not answer in HTTP: {_WRONG_PORT}"
    system = _find(error, OSError)
    reason = os.strerror(system.errno) if system and system.errno else type(error).__name__
    return f"{who} could not be reached ({reason})"


def _has_errno(error: Exception) -> bool:
    return any(isinstance(each, OSError) and each.errno for each in _chain(error))


def _why_distrusted(error: ssl.SSLCertVerificationError, who: str) -> str:
    if error.verify_code in _WRONG_NAME:
        return f"the certificate of {who} is for another host name: {_ENDPOINT} must use its own"
    if error.verify_code in _WRONG_TIME:
        return f"the certificate of {who} has expired or is not valid yet: renew it, check clocks"
    return (
        f"the certificate of {who} comes from an authority that is not trusted:"
        " name the authority's PEM file in OTEL_EXPORTER_OTLP_CERTIFICATE"
    )


def _why_no_tls(error: ssl.SSLError, who: str) -> str:
    reason = (error.reason or "").upper()
    if any(sign in reason for sign in _NO_TLS):
        return f"{who} does not answer in TLS: should {_ENDPOINT} begin with http://?"
    if "ALERT" in reason:
        return (
            f"{who} ended the TLS handshake: does it want a client certificate"
            " (OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE), or another one?"
        )
    return f"TLS with {who} failed"


def _find(error: BaseException, *kinds: type[_Error]) -> _Error | None:
    return next((each for each in _chain(error) if isinstance(each, kinds)), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and all it was made from: urllib3 and requests wrap in causes and arguments."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        inner = (each.__cause__, each.__context__, getattr(each, "reason", None), *each.args)
        waiting.extend(part for part in inner if isinstance(part, BaseException))
