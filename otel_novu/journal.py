"""Says each failure once, until it changes or passes."""

import logging
from threading import Lock

LOG = logging.getLogger("otel_novu")


class Journal:
    """The few lines that `run` logs; safe to use from several threads."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self._said: dict[str, str] = {}
        self._lock = Lock()

    def failed(self, subject: str, sentence: str, *, at_the_end: bool = False) -> None:
        """Log a failure as a warning; the same one again only as a debug line.

        Args:
            subject: what fails, as a key; a new sentence about it is said again.
            sentence: what happened, to what, what follows.
            at_the_end: what is tried once more in a hurry fails in other words for no new reason.
        """
        with self._lock:
            said = self._said.get(subject)
            new = said is None if at_the_end else said != sentence
            self._said[subject] = sentence
        LOG.log(logging.WARNING if new else logging.DEBUG, "%s", sentence)

    def known(self, subject: str, sentence: str) -> None:
        """Take a failure for said, as somebody else has said it in other words."""
        with self._lock:
            self._said[subject] = sentence

    def passed(self, subject: str, sentence: str) -> None:
        """Log that a failure is over; nothing where there was none."""
        with self._lock:
            failed = self._said.pop(subject, None) is not None
        if failed:
            LOG.info("%s", sentence)
