import stat
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_novu.env_file import read_env_file
from otel_novu.settings import SettingsError

ENVIRON = {"SET": "set", "EMPTY": ""}


def read(
    folder: Path, content: str | bytes, environ: Mapping[str, str] = ENVIRON
) -> dict[str, str]:
    path = folder / "file.env"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return dict(read_env_file(path, environ))


# Each expectation is what compose-go 2.16.2 answered, but for those marked as ours.
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("A=1", {"A": "1"}),
        ("A=1\nB=2\n", {"A": "1", "B": "2"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("\ufeffA=1", {"A": "1"}),
        ("\n\n  \n# A=1\n  # B=2\nC=3\n#", {"C": "3"}),
        ("", {}),
        ("  A =  b c  ", {"A": "b c"}),
        ("A=", {"A": ""}),
        ("A=\nB=2", {"A": "", "B": "2"}),
        ("A==x", {"A": "=x"}),
        ("A: x", {"A": "x"}),
        ("A=1\nA=2", {"A": "2"}),
        ("export A=1", {"A": "1"}),
        ("export\tA=1", {"A": "1"}),
        ("exported=1", {"exported": "1"}),
        ("export=5", {"export": "5"}),
        ("UNSET\nB=1", {"B": "1"}),
        ("UNSET", {}),
        ("A.b-c[0]=1", {"A.b-c[0]": "1"}),
        ("A=b # comment", {"A": "b"}),
        ("A=b# no comment", {"A": "b# no comment"}),
        ("A=# no comment", {"A": "# no comment"}),
        ("A= # comment", {"A": ""}),  # ours: as compose's documentation has it
        ("A=x'y'", {"A": "x'y'"}),
        ("A='$SET ${SET} $$ # \\n'", {"A": "$SET ${SET} $$ # \\n"}),
        ("A='it\\'s'", {"A": "it's"}),
        ("A='a\\\\'", {"A": "a\\\\"}),
        ("A='a\"b' # comment", {"A": 'a"b'}),
        ("A='a\nb'\nC=3", {"A": "a\nb", "C": "3"}),
        ('A="a b # c" # comment\nB=2', {"A": "a b # c", "B": "2"}),
        ('A="a\\"b"', {"A": 'a"b'}),
        ('A="$SET\\n\\t\\q"', {"A": "set\n\t\\q"}),
        ('A="\\0101\\09"', {"A": "A\\09"}),
        ('A="\\$SET"', {"A": "$SET"}),
        ('A="\\\\$SET"', {"A": "\\set"}),
        ("A=\\$SET", {"A": "\\set"}),
        ("A=$SET", {"A": "set"}),
        ("A=<$SET>${SET}", {"A": "<set>set"}),
        ("A=$SETTER", {"A": ""}),
        ("A=$$SET$$", {"A": "$SET$"}),
        ("A=$1 $ $-", {"A": "$1 $ $-"}),
        ("A=$SET[x]", {"A": "set[x]"}),
        ("A=${SET:-y}${UNSET:-y}${EMPTY:-y}", {"A": "setyy"}),
        ("A=${SET-y}${UNSET-y}${EMPTY-y}", {"A": "sety"}),
        ("A=${SET:+y}${UNSET:+y}${EMPTY:+y}", {"A": "y"}),
        ("A=${SET+y}${UNSET+y}${EMPTY+y}", {"A": "yy"}),
        ("A=${SET:?y}${SET?y}${EMPTY?y}", {"A": "setset"}),
        ("A=${UNSET:-${SET:-no}}!", {"A": "set!"}),
        ("A=${UNSET:-$$}", {"A": "$"}),
        ("A=${UNSET:-a-b:-c}", {"A": "a-b:-c"}),
        ("A=${UNSET:-}", {"A": ""}),
        ("A=${UNSET:-x}y}z", {"A": "xy}z"}),
        ("A=${UNSET:-{}}", {"A": "{}"}),
        ("A=${UNSET:-a{b}", {"A": "a{b"}),
        ("A=${SET:-${}}", {"A": "set"}),
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
    assert read(tmp_path, content) == expected


def test_the_url_of_novus_own_file_is_put_together(tmp_path: Path) -> None:
    content = (
        "MONGO_INITDB_ROOT_USERNAME=root\n"
        "MONGO_INITDB_ROOT_PASSWORD=secret\n"
        "MONGO_URL=mongodb://$MONGO_INITDB_ROOT_USERNAME:$MONGO_INITDB_ROOT_PASSWORD"
        "@mongodb:27017/novu-db?authSource=admin\n"
    )
    found = read(tmp_path, content)
    assert found["MONGO_URL"] == "mongodb://root:secret@mongodb:27017/novu-db?authSource=admin"


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("=MARK", "does not begin with a name"),
        ("two words=MARK", "does not begin with a name"),
        ("-----BEGIN MARK-----", "does not begin with a name"),
        ('A="MARK', "quote"),
        ("A='MARK", "quote"),
        ('A="x" MARK', "quote"),
        ("A='x'MARK=2", "quote"),
        ("A=MARK${", "begins no variable"),
        ("A=MARK${}", "begins no variable"),
        ("A=MARK${a.b}", "not closed|begins no variable"),
        ("A=MARK${B", "begins no variable"),
        ("A=MARK${B:-x", "not closed"),
        ("A=MARK${UNSET:?MARK}", "needs"),
        ("A=MARK${UNSET?MARK}", "needs"),
        ("A=MARK\0", "NUL"),
        ("A=MARK" + "${U:-" * 60 + "}" * 60, "nested"),
    ],
)
def test_a_malformed_line_is_named_by_its_number_alone(
    tmp_path: Path, line: str, fault: str
) -> None:
    with pytest.raises(SettingsError, match=fault) as error:
        read(tmp_path, f"# first\nGOOD='two\nlines'\n{line}\nB=1\n")
    assert "file.env, line 4: " in str(error.value)
    assert "MARK" not in str(error.value)
    assert "; accepted: " in str(error.value)


def test_bytes_that_are_not_utf_8_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"file\.env is not UTF-8"):
        read(tmp_path, b"A=MARK\xff\n")


def test_a_file_of_more_than_a_mebibyte_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="larger than 1 MiB"):
        read(tmp_path, "#" * (2**20 + 1))


@pytest.mark.parametrize("name", ["missing.env", "folder"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(SettingsError, match=rf"environment file .*{name} can't be read \("):
        read_env_file(tmp_path / name, {})


def test_neither_environment_nor_file_is_changed(tmp_path: Path) -> None:
    environ = dict(ENVIRON)
    read(tmp_path, "A=1\nSET=2\n", environ)
    assert environ == ENVIRON
    assert stat.S_ISREG((tmp_path / "file.env").stat().st_mode)


NAMES = ("SET", "EMPTY", "EARLIER", "UNSET")
VALUES = {"SET": "set", "EMPTY": "", "EARLIER": "earlier"}


@dataclass(frozen=True)
class Piece:
    """What stands in the file, and what a simple model makes of it."""

    text: str
    value: str


def joined(pieces: list[Piece]) -> Piece:
    return Piece("".join(p.text for p in pieces), "".join(p.value for p in pieces))


def choice(name: str, operator: str, word: Piece) -> Piece:
    value = VALUES.get(name)
    given = bool(value) if ":" in operator else value is not None
    takes_word = given if "+" in operator else not given
    return Piece(f"${{{name}{operator}{word.text}}}", word.value if takes_word else value or "")


LITERALS = st.text(string.ascii_letters + string.digits + "./:@?&=%", max_size=5)
PLAIN = st.one_of(
    LITERALS.map(lambda text: Piece(text, text)),
    st.just(Piece("$$", "$")),
    st.sampled_from(NAMES).map(lambda name: Piece(f"${{{name}}}", VALUES.get(name, ""))),
    # A dot ends the name of a bare reference.
    st.sampled_from(NAMES).map(lambda name: Piece(f"${name}.", VALUES.get(name, "") + ".")),
)
PIECES = st.recursive(
    PLAIN,
    lambda inner: st.builds(
        choice,
        st.sampled_from(NAMES),
        st.sampled_from([":-", "-", ":+", "+"]),
        st.lists(inner, max_size=3).map(joined),
    ),
    max_leaves=8,
)


@given(pieces=st.lists(PIECES, max_size=5), quote=st.sampled_from(["", '"']))
def test_interpolation_agrees_with_a_simple_model(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[Piece], quote: str
) -> None:
    whole = joined(pieces)
    content = f"EARLIER=earlier\nA={quote}x{whole.text}{quote}\n"
    found = read(tmp_path_factory.getbasetemp(), content)
    assert found == {"EARLIER": "earlier", "A": "x" + whole.value}


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r")))
def test_single_quotes_keep_a_text_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    plain = text.replace("\\", "").replace("'", "")
    assert read(tmp_path_factory.getbasetemp(), f"A='{plain}'\nB=1") == {"A": plain, "B": "1"}


@given(content=st.binary(max_size=200))
def test_any_bytes_are_either_read_or_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    try:
        read(tmp_path_factory.getbasetemp(), content)
    except SettingsError as error:
        assert "\n" not in str(error)  # noqa: PT017 - both ends are lawful
