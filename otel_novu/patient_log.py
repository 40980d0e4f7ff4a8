"""The log of a process that goes on though nobody reads its lines."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from otel_novu.journal import LOG
from otel_novu.patience import Patience

# How long a line may take, seconds; those that come while one hangs are lost.
_PATIENCE = 1.0


@contextmanager
def patient_log() -> Iterator[None]:
    """Let no thread wait for the log: a pipe that is full, or a terminal that is held."""
    plain = LOG.handlers[:]
    LOG.handlers[:] = [_PatientHandler(handler) for handler in plain]
    try:
        yield
    finally:
        LOG.handlers[:] = plain


class _PatientHandler(logging.Handler):
    def __init__(self, plain: logging.Handler) -> None:
        super().__init__()
        self._plain = plain
        self._patience = Patience("otel-novu-log", _PATIENCE)

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(TimeoutError):
            self._patience.do(lambda: self._plain.handle(record))
