import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_novu.env_file import read

ENVIRON = {"SET": "set", "EMPTY": ""}


def read_text(folder: Path, content: str | bytes) -> dict[str, str]:
    path = folder / "file.env"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read(path, ENVIRON)[0]


# Each expectation is what compose-go 2.16.2 answered, except those marked "ours".
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", {}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("\ufeffA=1", {"A": "1"}),
        ("\n\n  \n# A=1\n  # B=2\nC=3\n#", {"C": "3"}),
        ("A=\n  A =  b c  \nB=x# y", {"A": "b c", "B": "x# y"}),
        ("A==x", {"A": "=x"}),
        ("A: x", {"A": "x"}),
        ("export A=1", {"A": "1"}),
        ("export\tA=1", {"A": "1"}),
        ("UNSET\nB=1", {"B": "1"}),
        ("A.b-c[0]=1", {"A.b-c[0]": "1"}),
        ("A=b # comment", {"A": "b"}),
        ("A=# no comment", {"A": "# no comment"}),
        ("A= # comment", {"A": ""}),  # ours: as compose's documentation says
        ("A=x'y'", {"A": "x'y'"}),
        ("A='$SET ${SET} $$ # \\n'", {"A": "$SET ${SET} $$ # \\n"}),
        ("A='it\\'s'", {"A": "it's"}),
        ("A='a\"b' # comment", {"A": 'a"b'}),
        ("A='a\nb'\nC=3", {"A": "a\nb", "C": "3"}),
        ('A="a b # c" # comment\nB=2', {"A": "a b # c", "B": "2"}),
        ('A="a\\"b"', {"A": 'a"b'}),
        ('A="$SET\\n\\t\\q"', {"A": "set\n\t\\q"}),
        ('A="\\$SET \\\\$SET"', {"A": "$SET \\set"}),
        ("A=$SET", {"A": "set"}),
        ("A=<$SET>${SET}$SET[x]", {"A": "<set>setset[x]"}),
        ("A=$SETTER", {"A": ""}),
        ("A=$$SET$$", {"A": "$SET$"}),
        ("A=$1 $ $-", {"A": "$1 $ $-"}),
        ("A=${SET:-y}${UNSET:-y}${EMPTY:-y}", {"A": "setyy"}),
        ("A=${SET-y}${UNSET-y}${EMPTY-y}", {"A": "sety"}),
        ("A=${SET:+y}${UNSET:+y}${EMPTY:+y}", {"A": "y"}),
        ("A=${SET+y}${UNSET+y}${EMPTY+y}", {"A": "yy"}),
        ("A=${SET:?y}${SET?y}${EMPTY?y}", {"A": "setset"}),
        ("A=${UNSET:-${SET:-no}}!", {"A": "set!"}),
        ("A=${UNSET:-$$}${UNSET:-a-b:-c}${UNSET:-}", {"A": "$a-b:-c"}),
        ("A=${UNSET:-x}y}z", {"A": "xy}z"}),
        ("A=1\nB=$A$A", {"A": "1", "B": "11"}),
        ("B=$A\nA=1", {"B": "", "A": "1"}),
        ("A='$SET'\nB=$A", {"A": "$SET", "B": "$SET"}),
        ("SET=other\nB=$SET", {"SET": "other", "B": "set"}),
        ("EMPTY=5\nB=$EMPTY", {"EMPTY": "5", "B": "5"}),  # ours: empty is unset
    ],
)
def test_a_file_is_read_as_compose_reads_it(
    tmp_path: Path, content: str, expected: dict[str, str]
) -> None:
    assert read_text(tmp_path, content) == expected


def test_the_url_of_novus_own_file_is_expanded(tmp_path: Path) -> None:
    content = (
        "MONGO_INITDB_ROOT_USERNAME=root\n"
        "MONGO_INITDB_ROOT_PASSWORD=secret\n"
        "MONGO_URL=mongodb://$MONGO_INITDB_ROOT_USERNAME:$MONGO_INITDB_ROOT_PASSWORD"
        "@mongodb:27017/novu-db?authSource=admin\n"
    )
    url = "mongodb://root:secret@mongodb:27017/novu-db?authSource=admin"
    assert read_text(tmp_path, content)["MONGO_URL"] == url


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("A=$SET$EMPTY$$UNSET${UNSET:-x}${UNSET-}\nB='$UNSET'\n# $UNSET\nC=$A", []),
        ("A=1\nB=x$UNSET\nC='two\nlines'\nD=\"${UNSET}$UNSET\"\n", [2, 5]),
        ("A=${UNSET:-$SET$UNSET}${SET:+$UNSET}", [1]),
        ("A=$B\nB=$A", [1]),
    ],
)
def test_a_line_with_a_name_that_is_not_set_is_told(
    tmp_path: Path, content: str, lines: list[int]
) -> None:
    path = tmp_path / "file.env"
    path.write_text(content)
    assert read(path, ENVIRON)[1] == lines


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("=MARK", "is not NAME=value"),
        ("two words=MARK", "is not NAME=value"),
        ("-----BEGIN MARK-----", "is not NAME=value"),
        ('A="MARK', "is not NAME=value with matching quotes"),
        ("A='x' MARK", "is not NAME=value with matching quotes"),
        ("A=MARK${", "can't be expanded"),
        ("A=MARK${a.b}", "can't be expanded"),
        ("A=MARK${B:-x", "can't be expanded"),
        ("A=MARK${UNSET:?MARK}", "needs a variable that is not set"),
    ],
)
def test_an_error_names_the_line_and_never_its_content(
    tmp_path: Path, line: str, error: str
) -> None:
    with pytest.raises(ValueError, match=error) as raised:
        read_text(tmp_path, f"# first\nGOOD='two\nlines'\n{line}\nB=1\n")
    assert str(raised.value).startswith("line 4 ")
    assert "MARK" not in str(raised.value)


@given(text=st.text(string.printable.replace("\r", "").replace("\\", "").replace("'", "")))
def test_single_quotes_keep_a_text_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    expected = {"A": text, "B": "1"}
    assert read_text(tmp_path_factory.getbasetemp(), f"A='{text}'\nB=1") == expected


@given(content=st.binary(max_size=200))
def test_any_bytes_give_variables_or_an_error_of_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    try:
        read_text(tmp_path_factory.getbasetemp(), content)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017 - both outcomes are valid
