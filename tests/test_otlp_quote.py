"""What of a receiver's words may be shown."""

import base64
from urllib.parse import quote as percent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_novu.delivery.otlp.quote import Quote
from otel_novu.settings import Compression, Otlp, Protocol, Secret


def quote(*headers: str, endpoint: str = "http://collector.example/") -> Quote:
    named = {f"x-{index}": Secret(value) for index, value in enumerate(headers)}
    return Quote(
        Otlp(Protocol.HTTP, Secret(endpoint), named, 10.0, Compression.NONE, None, None, None)
    )


def test_control_and_invisible_characters_become_spaces() -> None:
    assert quote()("a\x00b\x1b[31mc\r\nd\u202ee\u200bf\ud800g\u2028h") == "a b [31mc d e f g h"


def test_a_long_text_is_cut_with_a_sign_of_it() -> None:
    assert quote()("x" * 200) == "x" * 200
    assert quote()("x" * 201) == "x" * 199 + "…"


def test_a_secret_at_the_cut_does_not_show_in_part() -> None:
    assert "SECRET" not in quote("SECRET" * 10)("x" * 190 + "SECRET" * 10)


def test_a_short_value_is_hidden_as_a_word_only() -> None:
    assert quote("1")("tenant 1 sent 21 points") == "tenant *** sent 21 points"


def test_an_empty_value_hides_nothing() -> None:
    assert quote("", endpoint="http://:@collector.example/?")("as it is") == "as it is"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("Bearer abcdef123456", "abcdef123456"),
        ("Basic " + base64.b64encode(b"me:abcdef123456").decode(), "abcdef123456"),
        ("Basic no-base-64", "no-base-64"),
        ("Basic //8=", "//8="),
        ("abc%20def", "abc def"),
    ],
)
def test_parts_and_decoded_forms_of_a_header_are_hidden(value: str, shown: str) -> None:
    assert quote(value)(f"bad: {shown}!") == "bad: ***!"


def test_user_name_password_and_query_of_the_endpoint_are_hidden() -> None:
    hidden = quote(endpoint="http://thename:p%40ssword@collector.example/?key=a%20value&b=second1")
    text = hidden("thename p%40ssword p@ssword thename:p%40ssword a value a%20value second1")
    assert text == " ".join(["***"] * 7)


@given(
    secret=st.text(min_size=8, max_size=40).filter(lambda text: len("".join(text.split())) >= 8),
    before=st.text(max_size=20),
    after=st.text(max_size=20),
)
def test_no_secret_survives_in_any_form(secret: str, before: str, after: str) -> None:
    shown = quote(secret)
    printable = "".join(char for char in secret if char.isprintable() and char != " ")
    if len(printable) < 8 or not secret.isascii():
        return
    for form in (secret, percent(secret, safe=""), base64.b64encode(secret.encode()).decode()):
        said = "".join(shown(f"{before} {form} {after}").split())
        assert form.rstrip("=")[:-1] not in said


@pytest.mark.parametrize("scheme", ["http://", "socks5h://", ""])
def test_user_name_and_password_of_a_proxy_are_hidden(scheme: str) -> None:
    otlp = Otlp(Protocol.HTTP, Secret("http://c/"), {}, 10.0, Compression.NONE, None, None, None)
    hidden = Quote(otlp, [f"{scheme}thename:p%40ssword@proxy:3128", "localhost,127.0.0.1"])
    told = base64.b64encode(b"thename:p@ssword").decode().rstrip("=")[:-1]
    assert hidden(f"thename p%40ssword p@ssword Basic {told}") == "*** *** *** Basic ***"


def test_a_secret_in_base64_that_is_percent_encoded_on_top_is_hidden() -> None:
    secret = "0000abc\u200b/\u00ff"
    encoded = base64.b64encode(secret.encode()).decode().rstrip("=")[:-1]
    assert {"+", "/"} & set(encoded)
    for safe in ("", "/"):
        assert quote(secret)(f"got {percent(encoded, safe=safe)} twice") == "got *** twice"
