"""Calls the command line without a process of its own, where a test is one already."""

import contextlib
import io
import os
from collections.abc import Mapping, Sequence

from otel_novu.cli import main


def call(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run a command; exit code, stdout and stderr, with a NUL between them.

    For a child process only: it takes the environment and both streams away from it.
    """
    os.environ.clear()
    os.environ.update(environment)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    return f"{code}\0{out.getvalue()}\0{err.getvalue()}"
