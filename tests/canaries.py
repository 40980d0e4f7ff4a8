"""Looks for marks in what was sent, written or printed, in every form that they might take."""

import base64
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote


def sightings(place: bytes | str, marks: Iterable[str]) -> list[str]:
    """Return the marks that are in a place: as they are, in percent-encoding, hexadecimal, base64.

    Case is ignored, except in base64, which is found at every offset.
    """
    data = place.encode(errors="surrogateescape") if isinstance(place, str) else place
    lower = data.lower()
    return [
        mark
        for mark in marks
        if any(form in lower for form in _forms(mark))
        or any(form in data for form in _base64_forms(mark))
    ]


@dataclass(frozen=True, slots=True)
class Found:
    """A file or a folder below a folder; `data` is its name, and what a file contains."""

    name: str
    mode: int
    is_folder: bool
    data: bytes


def files_in(folder: Path) -> Iterator[Found]:
    """Read everything below a folder; what goes away meanwhile is left out."""
    for path in sorted(folder.rglob("*")):
        with suppress(FileNotFoundError):
            name, is_folder = str(path.relative_to(folder)), path.is_dir()
            data = b"" if is_folder else path.read_bytes()
            yield Found(name, path.stat().st_mode & 0o777, is_folder, name.encode() + b"\n" + data)


def _forms(mark: str) -> set[bytes]:
    text = mark.lower()
    forms = {
        text,
        "".join(f"%{ord(character):02x}" for character in text),
        "".join(f"%{ord(character):02x}" for character in mark),
        quote(mark, safe="").lower(),
        " ".join(text),
        "".join(f"\\u{ord(character):04x}" for character in mark),
        mark.encode().hex(),
        text.encode().hex(),
    }
    return {form.encode() for form in forms}


def _base64_forms(mark: str) -> Iterator[bytes]:
    for text in {mark, mark.lower()}:
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            for before in range(3):
                encoded = encode(bytes(before) + text.encode() + bytes(3))
                # Without the characters that also hold bits of what is before or after.
                first, last = (0, 2, 3)[before], (before + len(text.encode())) * 8 // 6
                yield encoded[first:last].rstrip(b"=")
