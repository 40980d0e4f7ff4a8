"""Reports so many times, each time as if the last report were an hour ago.

python hourly.py TIMES

The environment names the servers, as for `otel-novu`. It prints for how many seconds the
database was asked, all commands added up.
"""

import os
import sys
import tempfile
from pathlib import Path

from ours import hour_ago
from pymongo import monitoring

from otel_novu.commands.once import once
from otel_novu.settings import load
from otel_novu.state.created_file import CreatedFile
from otel_novu.state.directory import StateDirectory


class _Clock(monitoring.CommandListener):
    seconds = 0.0

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Wait for the answer."""

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Add it up."""
        self.seconds += event.duration_micros / 1e6

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Add it up."""
        self.seconds += event.duration_micros / 1e6


clock = _Clock()
monitoring.register(clock)
with tempfile.TemporaryDirectory(prefix="otel-novu-bench-") as folder:
    home = Path(folder)
    settings = load(os.environ, env_file=None, cwd=home, home=home)
    for _ in range(int(sys.argv[1])):
        with StateDirectory.open(settings.state_dir) as state:
            CreatedFile(state).save(hour_ago())
        if once(settings) != 0:
            sys.exit("a report was not delivered, or a figure not read")
print(clock.seconds)
