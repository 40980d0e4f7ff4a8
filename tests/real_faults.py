"""Another user for tests, which need root for that."""

import os
import shutil
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


def need_root() -> None:
    assert os.geteuid() == 0, "this test needs root (other users, mounts); run it in the container"


def as_nobody(case: Callable[[], str]) -> str:
    """Run the case as another user and return what it returns.

    The child is forked without a new program, as that user may not read the interpreter's files.
    """
    need_root()
    ours, its = os.pipe()
    with warnings.catch_warnings():
        # Newer Pythons warn of threads that other tests left; the child uses none of their locks.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _be_nobody(case, its)
    os.close(its)
    with os.fdopen(ours, encoding="utf-8") as answer:
        text = answer.read()
    assert os.waitpid(pid, 0)[1] == 0, text
    return text


def _be_nobody(case: Callable[[], str], answer: int) -> None:
    code = 1
    try:
        os.chdir("/")  # that user may not enter the checkout
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        text = case()
        code = 0
    except BaseException:  # noqa: BLE001 - a forked child may not return into the test run
        text = traceback.format_exc()
    os.write(answer, text.encode())
    os._exit(code)


@contextmanager
def open_ground() -> Iterator[Path]:
    """Make a folder that other users can enter; they can't enter pytest's own."""
    ground = Path(tempfile.mkdtemp(prefix="otel-novu-test-"))
    ground.chmod(0o755)
    try:
        yield ground
    finally:
        shutil.rmtree(ground)
