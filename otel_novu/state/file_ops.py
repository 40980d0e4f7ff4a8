"""The operating system's file calls that the state directory makes, to be handed in."""

import os
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl


class FileOps:
    """Each call does what `os` does under the same name, relative to an open directory."""

    def open(
        self, path: str | Path, flags: int, mode: int = 0o600, *, at: int | None = None
    ) -> int:
        """Open, never following a symbolic link at the last component."""
        return os.open(path, flags | os.O_NOFOLLOW, mode, dir_fd=at)

    def close(self, fd: int) -> None:
        """Close."""
        os.close(fd)

    def read(self, fd: int, size: int) -> bytes:
        """Read at most `size` bytes."""
        return os.read(fd, size)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write, perhaps not all; returns how many bytes."""
        return os.write(fd, data)

    def truncate(self, fd: int) -> None:
        """Empty an open file."""
        os.ftruncate(fd, 0)

    def fsync(self, fd: int) -> None:
        """Bring a file, or a directory's names, to the disk."""
        os.fsync(fd)

    def rename(self, old: str, new: str, *, old_at: int, new_at: int) -> None:
        """Rename, replacing what is there."""
        os.rename(old, new, src_dir_fd=old_at, dst_dir_fd=new_at)

    def unlink(self, name: str, *, at: int) -> None:
        """Remove a name that is no directory."""
        os.unlink(name, dir_fd=at)

    def mkdir(self, path: str | Path, *, at: int | None = None) -> None:
        """Make a directory that is its owner's alone."""
        os.mkdir(path, 0o700, dir_fd=at)

    def names(self, fd: int) -> list[str]:
        """List a directory."""
        return os.listdir(fd)

    def status(self, name: str, *, at: int) -> os.stat_result:
        """Tell about a name, not about what a symbolic link points to."""
        return os.stat(name, dir_fd=at, follow_symlinks=False)

    def notify(self, fd: int) -> bool:
        """Let the kernel send SIGIO whenever a name in an open directory changes; whether it does.

        This is the older one of Linux's two ways, the one that Python has a call for.
        """
        if sys.platform != "linux":
            return False
        changes = fcntl.DN_CREATE | fcntl.DN_DELETE | fcntl.DN_RENAME | fcntl.DN_MODIFY
        try:
            fcntl.fcntl(fd, fcntl.F_NOTIFY, changes | fcntl.DN_MULTISHOT)
        except OSError:
            return False
        return True

    def lock(self, fd: int, operation: int) -> None:
        """`flock`, without waiting."""
        if sys.platform != "win32":
            fcntl.flock(fd, operation | fcntl.LOCK_NB)
