"""Writes the tables of `otel-novu metrics --markdown` into docs/metrics.md, or another page."""  # noqa: INP001 - a script

import re
import sys
from pathlib import Path

from otel_novu.commands.metrics import markdown

if __name__ == "__main__":
    page = Path(sys.argv[1])
    between = "(?s)(?<=<!-- generated: metrics -->\n).*(?=<!-- end -->)"
    page.write_text(re.sub(between, lambda _: markdown(), page.read_text()))
