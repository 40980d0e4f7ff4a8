"""Keyed hashes in place of what names a host: recognisable again, not to be computed back."""

import hmac
import secrets
from dataclasses import dataclass, field

from otel_novu.state.directory import NotKept, StateDirectory, Unreadable

FILE = "pseudonym-key"
KEY_BYTES = 16
_HASH_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Hashes names under one key, which never leaves.

    Args:
        key: 128 random bits.
        warning: one sentence to log where the key will not last, or None.
    """

    key: bytes = field(repr=False)
    warning: str | None = None

    def of(self, name: str) -> str:
        """Return the first 128 bits of HMAC-SHA256 of a name, in hexadecimal."""
        return hmac.digest(self.key, name.encode(), "sha256").hex()[:_HASH_CHARACTERS]


def pseudonyms(state: StateDirectory) -> Pseudonyms:
    """Take the key from the state directory, making and keeping one where there is none.

    Where it can't be read or kept, a key for this process serves: a name never leaves in clear.
    """
    known = _known(state)
    if known is not None:
        return known
    key = secrets.token_bytes(KEY_BYTES)
    try:
        state.write(FILE, key.hex().encode() + b"\n")
    except NotKept as error:
        return _of_this_process(key, f"could not be kept ({error.why})")
    return Pseudonyms(key)


def look_at_pseudonyms(state: StateDirectory) -> Pseudonyms:
    """Take the key as `pseudonyms` does, but keep none that is made here."""
    key = secrets.token_bytes(KEY_BYTES)
    return _known(state) or _of_this_process(key, "is not made yet, `run` makes and keeps one")


def _known(state: StateDirectory) -> Pseudonyms | None:
    try:
        text = state.read(FILE)
        if text is None:
            return None
        key = bytes.fromhex(text.decode("ascii"))
    except Unreadable as error:
        return _of_this_process(secrets.token_bytes(KEY_BYTES), f"can't be read ({error.why})")
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        return _of_this_process(secrets.token_bytes(KEY_BYTES), "is damaged")
    return Pseudonyms(key)


def _of_this_process(key: bytes, what: str) -> Pseudonyms:
    return Pseudonyms(
        key,
        f"The key of the pseudonyms {what}; the one in use now is this process's alone, and the "
        "host's pseudonym changes with the next.",
    )
