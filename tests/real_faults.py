"""Real faults for tests: another user, a tiny disk, a read-only one. They need root."""

import os
import shutil
import subprocess
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def _mounted(at: Path, *options: str | Path) -> Iterator[Path]:
    need_root()
    subprocess.run(["mount", *options, at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


@contextmanager
def tiny_disk(at: Path, kibibytes: int = 64) -> Iterator[Path]:
    """Mount a file system of that size."""
    at.mkdir()
    with _mounted(at, "-t", "tmpfs", "-o", f"size={kibibytes}k,mode=0700", "tmpfs"):
        yield at


def fill(folder: Path) -> Path:
    """Leave no byte of the file system of a folder; return the file that takes them."""
    filling = folder / "filling"
    with filling.open("wb", buffering=0) as file:
        for size in (1 << 12, 1):
            with suppress(OSError):
                while file.write(bytes(size)):
                    pass
    return filling


@contextmanager
def read_only(at: Path) -> Iterator[None]:
    """Let nobody write below a folder, as on a read-only volume."""
    with _mounted(at, "--bind", at):
        subprocess.run(["mount", "-o", "remount,bind,ro", at], check=True)
        yield
