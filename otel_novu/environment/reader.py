"""What reads the text of a variable."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from otel_novu.environment.faults import RefusedError

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Reader(Protocol[T_co]):
    """Turns a text into a value."""

    @property
    def accepted(self) -> str:
        """Which texts it takes, as a phrase for errors and documents."""

    def read(self, text: str) -> T_co:
        """Return the value.

        Raises:
            RefusedError: the text is no lawful value.
        """


@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """Reads what a function reads.

    Args:
        accepted: which texts it takes, as a phrase.
        parse: returns the value or raises `RefusedError`.
    """

    accepted: str
    parse: Callable[[str], T]

    def read(self, text: str) -> T:
        """Return what the function makes of the text."""
        return self.parse(text)


@dataclass(frozen=True, slots=True)
class Words(Generic[T]):
    """Reads one of several words, in any case and with space around it.

    Args:
        meanings: what each word means, by the word in lower case.
        accepted: the words, as a phrase.
    """

    meanings: Mapping[str, T]
    accepted: str

    def read(self, text: str) -> T:
        """Return what the word means."""
        word = text.strip().lower()
        if word not in self.meanings:
            message = "holds a word that it does not know" if word else "is blank"
            raise RefusedError(message)
        return self.meanings[word]


def words(meanings: Mapping[str, T]) -> Words[T]:
    """Return the reader of these words, which names each of them."""
    return Words(meanings, f"{' or '.join(meanings)} (in any case)")


FLAG: Words[bool] = Words(
    {
        "true": True,
        "false": False,
        "1": True,
        "0": False,
        "yes": True,
        "no": False,
        "on": True,
        "off": False,
    },
    "true or false, 1 or 0, yes or no, on or off (in any case)",
)
