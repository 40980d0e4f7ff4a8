"""`python -m otel_novu`: the same as `otel-novu`."""

import sys

from otel_novu.cli import main

if __name__ == "__main__":
    sys.exit(main())
