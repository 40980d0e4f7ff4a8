"""`otel-novu reset-id`: a new instance id, unconnected to the old one."""

from otel_novu.commands.complaint import complain
from otel_novu.settings import Settings
from otel_novu.state import identity, pseudonym
from otel_novu.state.directory import NotKept, StateDirectory


def reset_id(settings: Settings) -> int:
    """Make a new instance id, and forget the key of the pseudonyms, which would connect them.

    Raises:
        StateError: the state directory can't be used.
        Held: another process uses the id now.
    """
    if settings.instance_id is not None:
        return complain("OTEL_NOVU_INSTANCE_ID is set and decides; change or unset it.")
    with StateDirectory.open(settings.state_dir) as state, state.lock("reset-id"):
        try:
            state.remove(pseudonym.FILE)
            state.remove(identity.FILE)
        except NotKept as error:
            return complain(f"the instance id was not reset: {error.why}.")
        made = identity.instance_id(None, state)
    if made.warning is not None:
        return complain(made.warning)
    print(f"The instance id is {made.value} from now on; in Prometheus it is a new instance.")
    return 0
