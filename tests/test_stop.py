import subprocess
import sys

import pytest

# The main thread takes no signal, as if each came in the moment before it waits.
SCRIPT = """
import os, signal, sys, threading, time
from otel_novu.stop import StopSignals
number = signal.Signals[sys.argv[1]]
with StopSignals() as stop:
    threading.Thread(target=time.sleep, args=(240,), daemon=True).start()
    signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    threading.Timer(0.2, os.kill, (os.getpid(), number)).start()
    began = time.monotonic()
    ended = stop.wait(240)
    print(ended, stop.name, time.monotonic() - began < 60)
    sys.stdout.flush()
    os._exit(0)
"""


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("SIGTERM", "True SIGTERM True"),
        ("SIGINT", "True SIGINT True"),
        ("SIGIO", "False None True"),
    ],
)
def test_a_signal_ends_the_wait_even_if_another_thread_takes_it(name: str, told: str) -> None:
    command = [sys.executable, "-c", SCRIPT, name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=True)
    assert done.stdout.strip() == told
