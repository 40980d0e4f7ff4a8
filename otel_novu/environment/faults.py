"""How a setting is refused."""


class SettingsError(Exception):
    """A setting can't be used.

    The text is one sentence that names the variable, what is wrong with it and what is accepted;
    it never holds a secret. Commands print it and exit with 2.
    """


class RefusedError(Exception):
    """A text is no lawful value.

    Its own text is a clause that goes behind a variable's name ("is not a number"). It never
    quotes the value: any variable may hold a secret that was meant for another one.
    """


def shown(text: object) -> str:
    """Return a name or a path as a sentence can show it, odd characters escaped."""
    plain = str(text)
    return plain if plain.isprintable() else ascii(plain)
