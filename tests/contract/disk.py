"""Disks that are too small, full, or read-only; they need root."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from servers import eventually


@contextmanager
def _mounted(at: Path, *options: str) -> Iterator[Path]:
    subprocess.run(["mount", *options, at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


@contextmanager
def tiny_disk(at: Path, kibibytes: int = 256) -> Iterator[Path]:
    """Mount a file system of that size."""
    at.mkdir()
    with _mounted(at, "-t", "tmpfs", "-o", f"size={kibibytes}k,mode=0700", "tmpfs"):
        yield at


@contextmanager
def read_only(at: Path) -> Iterator[None]:
    """Let nobody write below a folder, as on a read-only volume."""
    with _mounted(at, "--bind", str(at)):
        # Busy while the kernel closes the files of a process that has just ended.
        remount = ["mount", "-o", "remount,bind,ro", str(at)]
        eventually(lambda: subprocess.run(remount, check=False).returncode == 0)
        yield


def fill(folder: Path) -> Path:
    """Leave no byte of the file system of a folder; return the file that takes them."""
    file = folder / "filling"
    with file.open("wb", buffering=0) as filling:
        for size in (1 << 12, 1):
            with suppress(OSError):
                while filling.write(bytes(size)):
                    pass
    return file
