"""Judges what pip said of the locked packages, and the licences of those that ship."""  # noqa: INP001

import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

ACCEPTED = re.compile(
    r"(MIT|ISC|Apache-2\.0|Apache Software License|BSD(-[23]-Clause)?|[23]-Clause BSD License"
    r"|MPL-2\.0|PSF-2\.0)"
)
_LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)
_YANKED = re.compile(r"yanked version: '?([A-Za-z0-9._-]+)")


def yanked(log: str) -> Iterator[str]:
    """Name the packages that pip warns of as yanked."""
    yield from _YANKED.findall(log)


def licences(name: str) -> set[str]:
    """Tell the licences that an installed package names; empty where it is not installed."""
    try:
        known = metadata(name)
    except PackageNotFoundError:
        return set()
    classifiers = [c for c in known.get_all("Classifier", []) if c.startswith("License :: OSI")]
    told = [known.get("License-Expression"), known.get("License"), *classifiers]
    return {text.rpartition(":: ")[2].strip() for text in told if text}


def faults(log: str, lock: str) -> Iterator[str]:
    """Say what must be mended, a sentence each.

    Args:
        log: what pip said.
        lock: the packages that ship, with their versions.
    """
    for name in yanked(log):
        yield f"{name}: the locked version is yanked; `make lock` takes another."
    for name in _LOCKED.findall(lock):
        found = licences(name)
        if not any(ACCEPTED.fullmatch(licence) for licence in found):
            told = ", ".join(sorted(found)) or "none is told"
            yield f"{name}: its licence is not one that we accept ({told:.80})."


def main(log: Path, lock: Path) -> int:
    """Print the faults; the exit code is 1 where there is one."""
    found = list(faults(log.read_text(), lock.read_text()))
    for sentence in found:
        sys.stderr.write(f"audit: {sentence}\n")
    if not found:
        sys.stdout.write("The locked packages are offered as they are locked; licences are fine.\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
