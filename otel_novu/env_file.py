"""Reads a .env file as Docker Compose does, with the variables in it expanded."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

# A blank line, a comment, a name alone (the real environment's variable), or NAME=value.
_STATEMENT = re.compile(
    r"""[ \t]*(?:\#.*|(?:export[ \t]+)?[\w.\[\]-]+[ \t]*)?$
    |[ \t]*(?:export[ \t]+)?(?P<name>[\w.\[\]-]+)[ \t]*[=:](?:
        [ \t]*'(?P<single>(?:\\[\s\S]|[^'\\])*)'[ \t]*(?:\#.*)?
        |[ \t]*"(?P<double>(?:\\[\s\S]|[^"\\])*)"[ \t]*(?:\#.*)?
        |(?![ \t]*['"])(?P<plain>.*))$""",
    re.VERBOSE | re.MULTILINE,
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$$"}
# $$, $NAME, ${NAME}, ${NAME:-word} and its kin, any other ${
_REFERENCE = re.compile(
    r"\$(?:(\$)|([A-Z_]\w*)|\{([A-Z_]\w*)(?:(:?[-+?])((?:[^{}]|\{[^{}]*\})*))?\}|(\{))",
    re.IGNORECASE | re.ASCII,
)


def read(path: Path, environ: Mapping[str, str]) -> tuple[dict[str, str], list[int]]:
    """Return the variables of a file, and the lines with a `$NAME` that is not set.

    `$NAME` sees the real environment, then the lines above. A ValueError never quotes the file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    given = {name: value for name, value in environ.items() if value}
    found: dict[str, str] = {}
    lines: list[int] = []
    position = 0
    while position < len(text):
        match, line = _STATEMENT.match(text, position), text.count("\n", 0, position) + 1
        if match is None:
            raise ValueError(f"line {line} is not NAME=value with matching quotes")
        if match["name"]:
            known = {**environ, **found, **given}
            try:
                found[match["name"]] = _value(match, known, partial(lines.append, line))
            except ValueError as error:
                raise ValueError(f"line {line} {error}") from None
        position = match.end() + 1
    return found, sorted(set(lines))


def _value(match: re.Match[str], known: Mapping[str, str], unset: Callable[[], None]) -> str:
    if match["single"] is not None:
        return match["single"].replace("\\'", "'")
    if match["double"] is None:
        return _expand(re.split("[ \t]#", match["plain"])[0].strip(), known, unset)
    unescaped = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), match["double"])
    return _expand(unescaped, known, unset)


def _expand(text: str, known: Mapping[str, str], unset: Callable[[], None]) -> str:
    def replace(match: re.Match[str]) -> str:
        dollar, bare, braced, operator, word, broken = match.groups()
        if broken:
            raise ValueError("contains a ${ that can't be expanded (write $ as $$)")
        found = "$" if dollar else known.get(bare or braced)
        if operator is None:
            if found is None:
                unset()
            return found or ""
        given = bool(found) if operator.startswith(":") else found is not None
        if operator.endswith("?") and not given:
            raise ValueError("needs a variable that is not set")
        return _expand(word, known, unset) if given == operator.endswith("+") else found or ""

    return _REFERENCE.sub(replace, text)
