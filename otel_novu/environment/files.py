"""Files that a variable names: they must be there, readable and of the kind that is wanted."""

import re
from contextlib import suppress
from pathlib import Path

from otel_novu.environment.faults import RefusedError, shown
from otel_novu.environment.opened import is_regular, open_at_once

_MAX_BYTES = 2**20
_IN_SECRETS = re.compile("[@=%]")


def path(text: str) -> Path:
    """Read the path of a file.

    Raises:
        RefusedError: the text is the content that belongs into the file, or no path at all.
    """
    if "://" in text or "-----BEGIN" in text:
        raise RefusedError("holds the content itself, not the path of a file")
    if not text.isprintable() or not text.strip():
        raise RefusedError("is no path of a file")
    return Path(text)


def named(file: Path) -> str:
    """Return a file's name for a sentence, where it can't be a secret."""
    # A text with such a character that is no clear path may be a secret that was meant for a
    # file, or for another variable.
    text = str(file)
    doubtful = not text.startswith("/") and _IN_SECRETS.search(text)
    return "a file" if doubtful else f"the file {shown(text)}"


def content(file: Path, directory: Path) -> bytes:
    """Read a file whole.

    Args:
        file: its path.
        directory: where a relative path begins.

    Raises:
        RefusedError: it can't be read, is no regular file or is larger than 1 MiB; the clause
            names the path.
    """
    try:
        with open_at_once(directory / file) as stream:
            found = stream.read(_MAX_BYTES + 1) if is_regular(stream) else None
    except FileNotFoundError:
        message = f"names {named(file)}, which does not exist"
    except OSError as error:
        message = f"names {named(file)}, which can't be read ({error.strerror})"
    else:
        if found is not None and len(found) <= _MAX_BYTES:
            return found
        fault = "no regular file" if found is None else "larger than 1 MiB"
        message = f"names {named(file)}, which is {fault}"
    raise RefusedError(message)


def secret(file: Path, directory: Path) -> str:
    """Read the text of a container secret, without the line's end behind it.

    Args:
        file: its path.
        directory: where a relative path begins.

    Raises:
        RefusedError: it can't be read, is empty or not UTF-8; the clause names the path.
    """
    try:
        # Some editors begin with a byte order mark.
        text = content(file, directory).decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        message = f"names {named(file)}, which is not UTF-8"
    else:
        if text:
            return text
        message = f"names {named(file)}, which is empty"
    raise RefusedError(message)


def certificates(file: Path, directory: Path) -> Path:
    """Judge a PEM file of certificates.

    Args:
        file: its path.
        directory: where a relative path begins.

    Returns:
        The absolute path.

    Raises:
        RefusedError: it can't be read or holds no certificate; the clause names the path.
    """
    import ssl  # noqa: PLC0415 - costs as much as all the rest, and few set a certificate

    content(file, directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with suppress(ssl.SSLError, OSError):
        context.load_verify_locations(directory / file)
        if context.cert_store_stats()["x509"]:
            return directory / file
    message = f"names {named(file)}, which holds no certificate in PEM form"
    raise RefusedError(message)


def key_pair(certificate: Path, key: Path) -> None:
    """Judge whether a private key fits a client's certificate.

    Args:
        certificate: a PEM file that `certificates` has passed.
        key: a PEM file, which may be the same one.

    Raises:
        RefusedError: no key, an encrypted one, or one of another certificate.
    """
    import ssl  # noqa: PLC0415 - as above

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        # Without a password of ours OpenSSL would ask for one on the terminal.
        context.load_cert_chain(certificate, key, password=_no_password)
    except RefusedError:
        message = f"names {named(key)}, whose key is encrypted"
    except (ssl.SSLError, OSError) as error:
        mismatch = getattr(error, "reason", "") == "KEY_VALUES_MISMATCH"
        fault = "whose key does not fit the certificate" if mismatch else "which holds no PEM key"
        message = f"names {named(key)}, {fault}"
    else:
        return
    raise RefusedError(message)


def _no_password() -> str:
    raise RefusedError("is encrypted")
