"""Keep-alive beacon and usage figures of a self-hosted Novu, over OTLP, for its operators."""

__version__ = "0.1.0"
