"""The `.env` file, read as docker compose reads it.

Source: the behaviour of compose-go 2.16 (`dotenv` and `template`), compared with it by experiment.
It differs in three things. Text behind a closing quote is refused. As compose's documentation has
it, but not its code, ` #` right behind the `=` begins a comment. An empty variable of the real
environment lets the file's value through, as everywhere in this exporter.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from otel_novu.environment.faults import SettingsError, shown
from otel_novu.environment.opened import is_regular, open_at_once, read_pipe

_MAX_BYTES = 2**20
_MAX_DEPTH = 50
# What `<(sops -d ...)` may take, which asks a server for a key.
_PIPE_SECONDS = 10.0
_FORM = "lines as docker compose reads them, such as NAME=value"

_SPACE = r"[ \t\v\f\r\x85\xa0]"
_NEXT = re.compile(r"(?:\s+|#[^\n]*)*")
_NAME = re.compile(rf"(?:export{_SPACE}+)?(?P<name>[\w.\[\]-]+){_SPACE}*(?P<end>[=:\n]|\Z)")
_LINE = re.compile(r"[^\n]*\n?")
_QUOTED = re.compile(
    rf"{_SPACE}*(?P<quote>['\"])(?P<body>(?:\\.|(?!(?P=quote))[^\\])*)(?P=quote)"
    rf"{_SPACE}*(?:#[^\n]*)?(?:\n|\Z)",
    re.DOTALL,
)
_OPENING_QUOTE = re.compile(rf"{_SPACE}*['\"]")
_ESCAPED_SINGLE = re.compile(r"\\(['\\])")
_ESCAPE = re.compile(r"\\(?:([abfnrtv$\"\\])|0([0-3][0-7]{2}))")
_ESCAPES = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))
_REFERENCE = re.compile(
    r"\$(?:(?P<dollar>\$)|(?P<bare>[A-Za-z_][A-Za-z0-9_]*)"
    r"|\{(?P<braced>[A-Za-z_][A-Za-z0-9_]*)(?P<operator>:?[-+?]|\})|(?P<broken>\{))"
)


class _MalformedError(Exception):
    """A statement can't be read; the text is a clause without its content."""


def read_env_file(path: Path, environ: Mapping[str, str]) -> Mapping[str, str]:
    """Read a file of variables.

    Args:
        path: the file; or a pipe, whose end is waited for.
        environ: the real environment, which `$NAME` sees before the lines above.

    Returns:
        The resolved text by name, in the file's order; neither environment is touched.

    Raises:
        SettingsError: it can't be read, is larger than 1 MiB, is not UTF-8 or has a malformed
            line; the sentence names file and line, never the line's content.
    """
    try:
        content = _content(path)
    except OSError as error:
        fault = f"can't be read ({error.strerror}); accepted: a readable file"
    else:
        fault = f"is larger than 1 MiB; accepted: {_FORM}" if len(content) > _MAX_BYTES else ""
    if fault:
        message = f"the environment file {shown(path)} {fault}"
        raise SettingsError(message)
    return _Parser(_decoded(content, path), path, environ).parse()


def _content(path: Path) -> bytes:
    with open_at_once(path) as stream:
        if is_regular(stream):
            return stream.read(_MAX_BYTES + 1)
        return read_pipe(stream, _MAX_BYTES + 1, _PIPE_SECONDS)


def _decoded(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")  # some editors begin with a byte order mark
    except UnicodeDecodeError:
        message = f"the environment file {shown(path)} is not UTF-8; accepted: UTF-8 text"
    raise SettingsError(message)


@dataclass(slots=True)
class _Parser:
    text: str
    path: Path
    environ: Mapping[str, str]
    found: dict[str, str] = field(default_factory=dict)

    def parse(self) -> Mapping[str, str]:
        """Read every statement; the last one of a name wins."""
        position = self._next(0)
        while position < len(self.text):
            fault = ""
            try:
                end = self._statement(position)
            except _MalformedError as malformed:
                fault = str(malformed)
            if fault:
                line = self.text.count("\n", 0, position) + 1
                message = f"the environment file {shown(self.path)}, line {line}: {fault}"
                raise SettingsError(f"{message}; accepted: {_FORM}")
            position = self._next(end)
        return self.found

    def _next(self, position: int) -> int:
        match = _NEXT.match(self.text, position)
        return match.end() if match else position

    def _statement(self, position: int) -> int:
        """Read one statement and return where it ends."""
        name = _NAME.match(self.text, position)
        if name is None:
            raise _MalformedError("it does not begin with a name and =")
        if name["end"] not in {"=", ":"}:  # a bare name is taken from the real environment
            return name.end()
        value, end = self._value(name.end())
        if "\0" in value:
            raise _MalformedError("it holds a NUL character")
        self.found[name["name"]] = value
        return end

    def _value(self, position: int) -> tuple[str, int]:
        if not _OPENING_QUOTE.match(self.text, position):
            line = _LINE.match(self.text, position)
            raw = line[0] if line else ""
            return self._interpolated(raw.partition(" #")[0].strip()), position + len(raw)
        quoted = _QUOTED.match(self.text, position)
        if quoted is None:
            raise _MalformedError("a quote is not closed, or text follows the closing one")
        if quoted["quote"] == "'":
            return _ESCAPED_SINGLE.sub(_single_escape, quoted["body"]), quoted.end()
        return self._interpolated(_ESCAPE.sub(_double_escape, quoted["body"])), quoted.end()

    def _interpolated(self, text: str, depth: int = 0) -> str:
        """Put the values of variables into a text."""
        if depth > _MAX_DEPTH:
            raise _MalformedError("its ${...} are nested too deeply")
        parts: list[str] = []
        position = 0
        while match := _REFERENCE.search(text, position):
            parts.append(text[position : match.start()])
            position = match.end()
            if match["operator"] in {None, "}"}:
                parts.append(self._plain(match))
                continue
            end = _closing_brace(text, position)
            parts.append(self._choice(match, text[position:end], depth))
            position = end + 1
        return "".join(parts) + text[position:]

    def _plain(self, match: re.Match[str]) -> str:
        if match["broken"]:
            raise _MalformedError("it holds a ${ that begins no variable (a $ itself is $$)")
        if match["dollar"]:
            return "$"
        return self._lookup(match["bare"] or match["braced"]) or ""

    def _choice(self, match: re.Match[str], word: str, depth: int) -> str:
        """Resolve `${NAME:-word}` and its kin."""
        value = self._lookup(match["braced"])
        given = value is not None
        if match["operator"].startswith(":"):
            given = bool(value)
        if match["operator"].endswith("?") and not given:
            raise _MalformedError("it needs (?) a variable that is not set")
        if given == match["operator"].endswith("+"):
            return self._interpolated(word, depth + 1)
        return value or ""

    def _lookup(self, name: str) -> str | None:
        """Return a variable's text as the settings see it, or None where it is nowhere."""
        set_anywhere = name in self.environ or name in self.found
        text = self.environ.get(name) or self.found.get(name, "")
        return text if set_anywhere else None


def _closing_brace(text: str, begin: int) -> int:
    """Find the brace that closes the one before `begin`."""
    depth = 1
    for position in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return position
    last = text.rfind("}", begin)  # compose takes the last one where they don't pair
    if last < 0:
        raise _MalformedError("it holds a ${ that is not closed (a $ itself is $$)")
    return last


def _single_escape(match: re.Match[str]) -> str:
    return "'" if match[1] == "'" else match[0]


def _double_escape(match: re.Match[str]) -> str:
    if match[2]:
        return chr(int(match[2], 8))
    # `$$` is what the interpolation that follows makes a `$` of.
    return "$$" if match[1] == "$" else _ESCAPES.get(match[1], match[1])
