"""What a variable is, and how its text is found."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from otel_novu.environment.faults import RefusedError, SettingsError
from otel_novu.environment.reader import Reader

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Variable(Generic[T]):
    """One variable: the only place that knows its name, default, meaning and what it takes.

    Args:
        name: the variable.
        reader: turns its text into a value and says what is accepted.
        meaning: what it does, one phrase.
        default: the text that stands for an unset variable, or empty where none does.
        unset: what an unset variable means where there is no such text.
        winner: the variable that wins over this one where both are set (OpenTelemetry's variant
            for metrics), or empty.
        secret: the value is shown nowhere.
    """

    name: str
    reader: Reader[T]
    meaning: str
    default: str = ""
    unset: str = "none"
    winner: str = ""
    secret: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Every variable that sets it, the winner first."""
        return (self.winner, self.name) if self.winner else (self.name,)


@dataclass(frozen=True, slots=True)
class Environment:
    """The real environment over that of the file, name by name; an empty text is an unset one.

    Args:
        real: the process's own environment.
        file: what the `.env` file sets.
    """

    real: Mapping[str, str]
    file: Mapping[str, str]

    def text(self, name: str) -> str:
        """Return the text of a variable, empty where it is unset.

        Raises:
            SettingsError: it holds bytes that are no text.
        """
        text = self.real.get(name) or self.file.get(name, "")
        if "\0" in text or not _is_unicode(text):
            message = f"{name} holds bytes that are not UTF-8 text; accepted: UTF-8 text"
            raise SettingsError(message)
        return text

    def setter(self, variable: Variable[T]) -> str:
        """Return the name that sets a variable; its own where it is unset."""
        return next((name for name in variable.names if self.text(name)), variable.name)

    def is_set(self, variable: Variable[T]) -> bool:
        """Tell whether any name of a variable is set."""
        return bool(self.text(self.setter(variable)))

    def get(self, variable: Variable[T]) -> T | None:
        """Return a variable's value, or None where it is unset and has no default.

        Raises:
            SettingsError: it is no lawful value.
        """
        text = self.text(self.setter(variable)) or variable.default
        if not text:
            return None
        with self.naming(variable):
            return variable.reader.read(text)

    def value(self, variable: Variable[T]) -> T:
        """Return the value of a variable that has a default.

        Raises:
            SettingsError: it is no lawful value.
        """
        text = self.text(self.setter(variable)) or variable.default
        with self.naming(variable):
            return variable.reader.read(text)

    def refine(self, variable: Variable[str], parse: Callable[[str], T]) -> T:
        """Return what a function makes of a text whose form depends on other variables.

        Raises:
            SettingsError: it is no lawful value.
        """
        text = self.value(variable)
        with self.naming(variable):
            return parse(text)

    @contextmanager
    def naming(self, variable: Variable[T]) -> Iterator[None]:
        """Turn a refusal within into the sentence about a variable."""
        fault: str | None = None
        try:
            yield
        except RefusedError as refused:
            fault = str(refused)
        if fault is not None:  # raised out here, so that no traceback can show what came before
            message = f"{self.setter(variable)} {fault}; accepted: {variable.reader.accepted}"
            raise SettingsError(message)


def _is_unicode(text: str) -> bool:
    # Python keeps bytes of the environment that are not UTF-8 as lone surrogates (PEP 383).
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in text)  # noqa: PLR2004
