"""What a receiver says, made fit to be shown: printable, short, and without our secrets."""

import itertools
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from otel_novu.settings import Otlp

_LONGEST = 200
_HIDDEN = "***"
# Below this length a secret is sought as a whole word only: `1` may well be a tenant's id.
_SHORT = 6


class Quote:
    """Quotes a receiver, which may be hostile, or merely repeat what it was sent.

    Control and invisible characters become spaces, header values and what is secret in the
    endpoint and in the proxies' addresses become `***` (percent- and base64-encoded forms too),
    the rest is cut to 200 characters.

    Args:
        settings: whose headers and endpoint are the secrets.
        proxies: addresses of proxies, which may hold user name and password.
    """

    def __init__(self, settings: Otlp, proxies: Iterable[str] = ()) -> None:
        secrets = [*_secrets(settings), *itertools.chain(*map(_proxy_secrets, proxies))]
        forms = {form for secret in secrets for form in _forms(secret)}
        # Longest first: a part of a secret must not be replaced before the whole.
        ordered = sorted((form for form in forms if form), key=lambda form: (-len(form), form))
        pattern = "|".join(_sought(form) for form in ordered)
        self._pattern = re.compile(pattern, re.IGNORECASE) if pattern else None

    def __call__(self, text: str) -> str:
        """Return `text` as it may be shown; empty where nothing readable is in it."""
        shown = _clean(text)
        if self._pattern is not None:
            shown = self._pattern.sub(_HIDDEN, shown)
        return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"


def _clean(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _sought(form: str) -> str:
    # With the spaces that unprintable characters in the midst of a secret turn into.
    word = " ?".join(re.escape(char) for char in form)
    return rf"(?<!\w){word}(?!\w)" if len(form) < _SHORT else word


def _secrets(settings: Otlp) -> Iterator[str]:
    for secret in settings.headers.values():
        yield from _header_secrets(secret.reveal())
    parts = urlsplit(settings.endpoint.reveal())
    yield from (parts.username or "", parts.password or "", parts.query)
    yield parts.netloc.rpartition("@")[0]
    yield from (value for _, value in parse_qsl(parts.query))


def _proxy_secrets(proxy: str) -> Iterable[str]:
    # By hand, as an address may lack its scheme and be malformed otherwise.
    userinfo = proxy.rpartition("@")[0].rpartition("//")[2]
    user, _, password = userinfo.partition(":")
    return (userinfo, user, password)


def _header_secrets(value: str) -> Iterable[str]:
    scheme, _, token = value.partition(" ")
    if scheme.lower() != "basic":
        return (value, token.strip())
    try:
        pair = b64decode(token, validate=True).decode()
    except (Base64Error, UnicodeDecodeError):
        pair = ""
    return (value, token.strip(), pair, pair.partition(":")[2])


def _forms(secret: str) -> Iterator[str]:
    for text in (secret, unquote(secret)):
        # Without the padding, and the last character, which what follows would change.
        base64 = b64encode(text.encode(errors="surrogateescape")).decode().rstrip("=")[:-1]
        yield from (_clean(text), base64)
        for plain, safe in itertools.product((text, base64), ("", "/")):
            yield quote(plain, safe=safe, errors="surrogateescape")
