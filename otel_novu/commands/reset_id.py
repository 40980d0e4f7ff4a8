"""`otel-novu reset-id`: a new instance id, not connected to the old one."""

import argparse
import json

from otel_novu.commands.output import fail
from otel_novu.identity import INSTANCE_ID, PSEUDONYM_KEY, instance_id
from otel_novu.settings import Settings
from otel_novu.state_dir import lock
from otel_novu.store import Store


def main(settings: Settings, options: argparse.Namespace) -> int:
    """Make a new instance id; drop the pseudonym key, which would connect it to the old one."""
    if settings.instance_id is not None:
        return fail("OTEL_NOVU_INSTANCE_ID is set and decides; change or unset it.")
    store = Store(settings.state_dir)
    with lock(settings.state_dir, "reset-id"):
        # The counters go on: their database is hashed with the old key.
        keys = (PSEUDONYM_KEY, "database", INSTANCE_ID)
        if store.fault is not None or not all(store.set(key, None) for key in keys):
            return fail(f"The instance id was not reset: {store.fault}.")
        made = str(instance_id(settings, store))
    text = f"The instance id is {made} now; in Prometheus it is a new instance."
    print(json.dumps({"instance_id": made}) if options.json else text)
    return 0
