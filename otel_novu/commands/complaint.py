"""How a command says that something is to be mended."""

import sys


def complain(sentence: str) -> int:
    """Print one sentence to stderr.

    Returns:
        The exit code of something to mend.
    """
    print(f"otel-novu: {sentence}", file=sys.stderr)
    return 1
