"""Makes one report and prints the modules of other packages that were loaded for it.

The environment names the servers, as for `otel-novu`.
"""

import sys
import sysconfig

from otel_novu.cli import main


def _is_third_party(name: str) -> bool:
    origin = getattr(getattr(sys.modules[name], "__spec__", None), "origin", None) or ""
    inside = origin.startswith((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    return inside and not name.startswith(("otel_novu", "_", "a1_coverage"))


# What site-packages loads into any interpreter is no cost of ours.
before = set(sys.modules)
code = main(["once"])
if code:
    sys.exit(code)
print(*(name for name in list(sys.modules) if name not in before and _is_third_party(name)))
