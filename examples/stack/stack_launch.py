"""Becomes a server: ties itself to its parent, enters a chroot, drops root, then `exec`s.

A file of its own, run as `python3 -I -S stack_launch.py JSON`, because `preexec_fn` warns (and may
hang) in a test process that has threads. The order matters: changing the user clears
PR_SET_PDEATHSIG (prctl(2)), so the tie comes last.
"""

import ctypes
import json
import os
import sys
from typing import NamedTuple, cast

PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Launch(NamedTuple):
    """What to become; `death_signal` 0 means to live on when the parent is gone."""

    command: list[str]
    folder: str
    parent: int
    death_signal: int
    root: str
    uid: int
    gid: int


def tie_to_parent(launch: Launch) -> None:
    """Have the kernel send the signal when the thread that started us ends; leave if it has."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, launch.death_signal, 0, 0, 0)
    if os.getppid() != launch.parent:
        sys.exit(1)


def become(launch: Launch) -> None:
    """Turn this process into the server."""
    if launch.root:
        os.chroot(launch.root)
    os.chdir(launch.folder)
    if launch.uid:
        os.setgroups([])
        os.setgid(launch.gid)
        os.setuid(launch.uid)
    if launch.death_signal:
        tie_to_parent(launch)
    os.execv(launch.command[0], launch.command)  # noqa: S606 (the command is the caller's)


if __name__ == "__main__":
    become(Launch(*cast("list[object]", json.loads(sys.argv[1]))))  # type: ignore[arg-type]
