"""Keeps an application's tracing off our own queries and requests."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context


@contextmanager
def suppress_instrumentation() -> Iterator[None]:
    """Turn OpenTelemetry's instrumentations off in this thread, for a block or a function.

    `opentelemetry.instrumentation.utils` has the same, in a package that need not be there.
    """
    token = context.attach(context.set_value("suppress_instrumentation", value=True))
    try:
        yield
    finally:
        context.detach(token)
