"""The program's log: a failure that lasts is one line at its start and one at its end."""

import logging
import threading

LOG = logging.getLogger("otel_novu")


def sentence(text: str) -> str:
    """End a sentence with a full stop, unless it ends with a question."""
    return text if text.endswith("?") else f"{text}."


def plural(count: int, noun: str, verb: str = "") -> str:
    """Count a noun; a verb follows its number: "1 report waits", "2 reports wait"."""
    noun_end, verb_end = ("", "s") if count == 1 else ("s", "")
    return f"{count} {noun}{noun_end}" + (f" {verb}{verb_end}" if verb else "")


class FailureLog:
    """Remembers what fails, so that a failure that lasts is logged once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failing: dict[str, str] = {}

    def failed(self, subject: str, message: str) -> None:
        """Log a failure, unless the same message was the last one about its subject."""
        with self._lock:
            known = self._failing.get(subject) == message
            self._failing[subject] = message
        LOG.log(logging.DEBUG if known else logging.WARNING, "%s", message)

    def recovered(self, subject: str, message: str) -> None:
        """Log the end of a failure; nothing where there was none."""
        with self._lock:
            failed = self._failing.pop(subject, None) is not None
        if failed:
            LOG.info("%s", message)
