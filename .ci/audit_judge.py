"""Finds yanked packages in pip's log, and licenses that we don't accept in what ships."""  # noqa: INP001

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


def licenses(name: str) -> set[str]:
    """The licenses that an installed package names; empty if it is not installed."""
    try:
        found = metadata(name)
    except PackageNotFoundError:
        return set()
    classifiers = [c for c in found.get_all("Classifier", []) if c.startswith("License :: OSI")]
    texts = [found.get("License-Expression"), found.get("License"), *classifiers]
    return {text.rpartition(":: ")[2].strip() for text in texts if text}


def problems(log: str, lock: str) -> Iterator[str]:
    """Yield one sentence for each problem of pip's log and the lock file's packages."""
    for name in _YANKED.findall(log):
        yield f"{name}: the locked version is yanked; run `make lock`."
    for name in _LOCKED.findall(lock):
        found = licenses(name)
        if not any(ACCEPTED.fullmatch(text) for text in found):
            shown = ", ".join(sorted(found)) or "none found"
            yield f"{name}: its license is not accepted ({shown:.80})."


def main(log: Path, lock: Path) -> int:
    """Print the problems; returns 1 if there are any."""
    found = list(problems(log.read_text(), lock.read_text()))
    for sentence in found:
        sys.stderr.write(f"audit: {sentence}\n")
    if not found:
        sys.stdout.write("All locked packages are offered, none is yanked, licenses are fine.\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
