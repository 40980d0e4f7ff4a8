"""What `run` and `once` say at the start, alike."""

from otel_novu.journal import LOG
from otel_novu.state.directory import StateDirectory
from otel_novu.state.identity import Identity


def warn_about_state(state: StateDirectory, why_not_held: str | None) -> None:
    """Say once where the state directory keeps nothing."""
    why = state.why_not_writable or why_not_held
    if why is not None:
        LOG.warning(
            "The state directory (OTEL_NOVU_STATE_DIR) keeps nothing: %s; reports go on from "
            "memory, and are lost if this process ends while the collector is away.",
            why,
        )


def say_identity(identity: Identity) -> None:
    """Say where the instance id does not last."""
    if identity.warning is not None:
        LOG.warning("%s", identity.warning)
