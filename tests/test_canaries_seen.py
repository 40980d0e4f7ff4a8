import base64
import gzip
from urllib.parse import quote

import pytest
from canaries import sightings

MARK = "CANARY0123456789"


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "user:"])
@pytest.mark.parametrize("behind", ["", "x", "xy", "@host"])
def test_a_mark_is_seen_in_base64_wherever_it_stands(before: str, behind: str) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        encoded = encode(f"{before}{MARK}{behind}".encode())
        assert sightings(b"Basic " + encoded, [MARK]) == [MARK]


@pytest.mark.parametrize(
    "form",
    [
        MARK,
        MARK.lower(),
        MARK.title(),
        "".join(f"%{ord(character):02X}" for character in MARK),
        "".join(f"%{ord(character):02x}" for character in MARK.lower()),
        MARK.encode().hex(),
        MARK.encode().hex().upper(),
        " ".join(MARK),
        "".join(f"\\u{ord(character):04x}" for character in MARK),
    ],
)
def test_a_mark_is_seen_in_every_form(form: str) -> None:
    assert sightings(f"somewhere {form} in a line", [MARK]) == [MARK]
    assert sightings(f"somewhere {form} in a line".encode(), ["ANOTHER0123456789", MARK]) == [MARK]


def test_a_mark_with_odd_characters_is_seen_quoted() -> None:
    mark = "P@SS/W:RD%CANARY0"
    assert sightings(quote(mark, safe=""), [mark]) == [mark]


def test_where_there_is_none_none_is_seen() -> None:
    assert sightings(b"nothing of the kind", [MARK]) == []
    assert sightings(gzip.compress(MARK.encode() * 3)[:10], [MARK]) == []
