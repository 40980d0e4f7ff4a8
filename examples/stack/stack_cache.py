"""The folder outside the checkout that keeps what is built."""

import contextlib
import fcntl
import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

Progress = Callable[[str], None]


def cache_dir() -> Path:
    """`OTEL_NOVU_CACHE`, else a folder in the user's cache."""
    if given := os.environ.get("OTEL_NOVU_CACHE"):
        return Path(given).resolve()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).resolve() / "otel-novu"


def short_hash(text: str) -> str:
    """Eight hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@contextlib.contextmanager
def locked(name: str, progress: Progress) -> Iterator[int]:
    """Hold a lock of the cache; yields its file: a process that inherits it holds the lock too."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with (cache_dir() / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another {name} to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def remove_tree(path: Path) -> None:
    """Remove a folder; first unmount what a killed mmdebstrap left in it."""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((p for p in points if p.startswith(f"{path}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False)
    subprocess.run(["rm", "-rf", "--one-file-system", str(path)], check=True)
