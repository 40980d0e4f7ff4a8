"""The certificate files, read and checked."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from otel_novu.settings import Otlp

CA = "OTEL_EXPORTER_OTLP_CERTIFICATE"
CLIENT_CERTIFICATE = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"
CLIENT_KEY = "OTEL_EXPORTER_OTLP_CLIENT_KEY"


class CertificateError(Exception):
    """A certificate file can't be used; the text is one clause that names the variable."""


@dataclass(frozen=True, slots=True)
class Pem:
    """The contents of the files, as gRPC wants them.

    Args:
        ca: authorities to trust, or None for the default ones.
        certificate: the client's certificate chain, or None.
        key: the client's key, or None.
    """

    ca: bytes | None
    certificate: bytes | None
    key: bytes | None = field(repr=False)


def context(settings: Otlp, default_ca: Path) -> ssl.SSLContext:
    """Return a TLS context that trusts the authorities of `settings` and no others.

    Args:
        settings: the files.
        default_ca: PEM file or OpenSSL directory of the authorities where `settings` names none.

    Raises:
        CertificateError: a file can't be read or does not hold what it should.
    """
    made = _trusting(settings.ca, default_ca)
    if settings.client_certificate is not None:
        _present(made, settings.client_certificate, settings.client_key)
    return made


def pem(settings: Otlp) -> Pem:
    """Return the contents of the files, each checked.

    Raises:
        CertificateError: a file can't be read or does not hold what it should.
    """
    ca = None if settings.ca is None else _read(settings.ca, CA)
    if settings.ca is not None:
        _trusting(settings.ca, settings.ca)
    if settings.client_certificate is None:
        return Pem(ca, None, None)
    key = settings.client_key or settings.client_certificate
    _present(ssl.create_default_context(), settings.client_certificate, settings.client_key)
    return Pem(ca, _read(settings.client_certificate, CLIENT_CERTIFICATE), _read(key, CLIENT_KEY))


def _trusting(ca: Path | None, default_ca: Path) -> ssl.SSLContext:
    trusted = ca or default_ca
    variable = CA if ca else "REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE"
    try:
        if ca is None and trusted.is_dir():
            return ssl.create_default_context(capath=str(trusted))
        return ssl.create_default_context(cafile=str(trusted))
    except ssl.SSLError:
        raise CertificateError(f"the file that {variable} names holds no PEM certificate") from None
    except OSError as error:
        raise _unreadable(variable, error) from None


def _present(made: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    _read(certificate, CLIENT_CERTIFICATE)
    if key is not None:
        _read(key, CLIENT_KEY)
    try:
        # Without a password OpenSSL would ask the terminal for that of an encrypted key.
        made.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError):
        raise CertificateError(
            f"{CLIENT_CERTIFICATE} and {CLIENT_KEY} don't name a PEM certificate and its"
            " unencrypted PEM key"
        ) from None


def _read(path: Path, variable: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(variable, error) from None


def _unreadable(variable: str, error: OSError) -> CertificateError:
    reason = error.strerror or type(error).__name__
    return CertificateError(f"the file that {variable} names can't be read ({reason})")
