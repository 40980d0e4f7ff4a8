"""Keep-alive beacon and usage figures of a self-hosted Novu, over OTLP, for its operators."""

from importlib import import_module
from typing import TYPE_CHECKING

from otel_novu.version import __version__

if TYPE_CHECKING:
    from otel_novu.embed import UsageHandle, register_beacon, register_usage

__all__ = ["UsageHandle", "__version__", "register_beacon", "register_usage"]


def __getattr__(name: str) -> object:
    # Loaded on first use (PEP 562): `otel-novu --help` needs no SDK.
    if name in __all__:
        return getattr(import_module("otel_novu.embed"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
