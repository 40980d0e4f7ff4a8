"""Words why usage figures could not be read."""

from collections.abc import Iterator, Mapping

from otel_novu.journal import Journal
from otel_novu.metrics.usage import FIGURES

_SUBJECT = "usage figures"


def all_alike(reasons: Mapping[str, str]) -> str | None:
    """Tell the one reason why every figure failed; None where some did not, or reasons differ."""
    different = set(reasons.values())
    return different.pop() if len(reasons) == len(FIGURES) and len(different) == 1 else None


def sentences(reasons: Mapping[str, str], follows: str) -> Iterator[str]:
    """Say why figures failed, in one sentence a reason.

    Args:
        reasons: why, by figure.
        follows: what comes of it.
    """
    whole = all_alike(reasons)
    if whole is not None:
        yield f"No usage figure could be read: {whole}; {follows}."
        return
    for why in dict.fromkeys(reasons.values()):
        figures = ", ".join(f"novu.{figure}" for figure in reasons if reasons[figure] == why)
        yield f"{figures} could not be read: {why}; {follows}."


def say(journal: Journal, reasons: Mapping[str, str], whole_follows: str) -> None:
    """Tell a journal why figures could not be read, once until it changes or passes.

    Args:
        journal: where it is said.
        reasons: why, by figure.
        whole_follows: what follows where no figure could be read.
    """
    some_follow = "the others go out, and it is tried again with the next report"
    follows = whole_follows if len(reasons) == len(FIGURES) else some_follow
    said = list(sentences(reasons, follows))
    if said:
        journal.failed(_SUBJECT, " ".join(said))
    else:
        journal.passed(_SUBJECT, "Usage figures are read again.")
