"""Does what `run` does between reports, as often as in a day, and prints the CPU seconds."""

import tempfile
import time
from pathlib import Path

from otel_novu.commands.run import LOOK_WHEN_TOLD, follow_consent
from otel_novu.exporter import Exporter
from otel_novu.schedule import Schedule, steady_time
from otel_novu.settings import load
from otel_novu.state import flush_request
from otel_novu.state.consent import decide, read_admin
from otel_novu.state.directory import StateDirectory
from otel_novu.state.identity import instance_id
from otel_novu.stop import StopSignals

DAY = 86_400

with tempfile.TemporaryDirectory(prefix="otel-novu-bench-") as folder:
    home = Path(folder)
    settings = load({}, env_file=None, cwd=home, home=home)
    with StateDirectory.open(settings.state_dir) as state, StopSignals() as stop:
        identity = instance_id(None, state)
        decision = decide(settings.telemetry, read_admin(state))
        exporter = Exporter(settings, state, identity, decision)
        schedule = Schedule.start(identity.value, settings.interval, time.time, steady_time)
        began = time.process_time()
        for _ in range(int(DAY / LOOK_WHEN_TOLD)):
            stop.wait(min(1e-9, schedule.remaining()))
            follow_consent(settings, exporter, state)
            flush_request.taken(state)
        print(time.process_time() - began)
