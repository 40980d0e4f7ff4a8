"""Words why usage figures could not be read."""

from collections.abc import Iterator, Mapping

from otel_novu.journal import Journal
from otel_novu.metrics.usage import FIGURES


def all_alike(reasons: Mapping[str, str]) -> str | None:
    """Tell the one reason why every figure failed; None where some did not, or reasons differ."""
    different = set(reasons.values())
    return different.pop() if len(reasons) == len(FIGURES) and len(different) == 1 else None


def sentence(figure: str, why: str, follows: str) -> str:
    """Say that one figure failed, and what follows."""
    return f"novu.{figure} could not be read: {why}; {follows}."


def sentences(reasons: Mapping[str, str], follows: str) -> Iterator[str]:
    """Say of each figure why it failed, all in one sentence where the reason is one."""
    whole = all_alike(reasons)
    if whole is not None:
        yield f"No usage figure could be read: {whole}; {follows}."
        return
    for figure, why in reasons.items():
        yield sentence(figure, why, follows)


def say(journal: Journal, reasons: Mapping[str, str], whole_follows: str) -> None:
    """Tell a journal why figures could not be read, each once until it changes or passes.

    Args:
        journal: where it is said.
        reasons: why, by figure.
        whole_follows: what follows where no figure could be read.
    """
    whole = all_alike(reasons)
    if whole is not None:
        journal.failed("usage figures", f"No usage figure could be read: {whole}; {whole_follows}.")
        return
    journal.passed("usage figures", "Usage figures are read again.")
    for figure in FIGURES:
        subject = f"figure {figure.name}"
        if figure.name in reasons:
            follows = "the others go out, and it is tried again with the next report"
            journal.failed(subject, sentence(figure.name, reasons[figure.name], follows))
        else:
            journal.passed(subject, f"novu.{figure.name} is read again.")
