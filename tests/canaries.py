"""Seeks marked texts in what left, was written or was said, in every form that one might take."""

import base64
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote


def sightings(place: bytes | str, marks: Iterable[str]) -> list[str]:
    """Tell which marks are in a place: in clear, percent- or hexadecimally encoded, in base64.

    Case does not count, but in base64, and base64 is found at every distance from its beginning.
    """
    data = place.encode(errors="surrogateescape") if isinstance(place, str) else place
    lower = data.lower()
    return [mark for mark in marks if _is_in(mark, data, lower)]


@dataclass(frozen=True, slots=True)
class Found:
    """A file or a folder.

    Args:
        name: below the folder that was searched.
        mode: who may read and write.
        is_folder: it is no file.
        data: its name, and what a file holds.
    """

    name: str
    mode: int
    is_folder: bool
    data: bytes


def files_in(folder: Path) -> Iterator[Found]:
    """Read everything below a folder; what goes away meanwhile is left out."""
    for path in sorted(folder.rglob("*")):
        with suppress(FileNotFoundError):
            name, mode, is_folder = (
                str(path.relative_to(folder)),
                path.stat().st_mode,
                path.is_dir(),
            )
            data = b"" if is_folder else path.read_bytes()
            yield Found(name, mode & 0o777, is_folder, name.encode() + b"\n" + data)


def _is_in(mark: str, data: bytes, lower: bytes) -> bool:
    return any(form in lower for form in _forms(mark)) or any(
        form in data for form in _base64_forms(mark)
    )


def _forms(mark: str) -> set[bytes]:
    text = mark.lower()
    percent = "".join(f"%{ord(character):02x}" for character in text)
    upper = "".join(f"%{ord(character):02x}" for character in mark)
    spaced = " ".join(text)
    escaped = "".join(f"\\u{ord(character):04x}" for character in mark)
    forms = (text, percent, upper, quote(mark, safe="").lower(), spaced, escaped)
    hexed = (mark.encode().hex(), text.encode().hex())
    return {form.encode() for form in (*forms, *hexed)}


def _base64_forms(mark: str) -> Iterator[bytes]:
    for text in {mark, mark.lower()}:
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            for before in range(3):
                encoded = encode(bytes(before) + text.encode() + bytes(3))
                # Characters that also hold bits of what stands before or behind.
                first = {0: 0, 1: 2, 2: 3}[before]
                last = (before + len(text.encode())) * 8 // 6
                yield re.sub(rb"=+$", b"", encoded[first:last])
