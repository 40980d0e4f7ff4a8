"""What an operator sees in the first hour: what works is said once, and what fails is named."""

import re
import signal
import time

import pytest
from contract.case import ONE_REPORT, STALL_SECONDS, STOP_SECONDS, Case
from contract.test_database_faults import NAMES, PASSWORD, figures, usage_reports
from faults import Gate
from servers import eventually
from stack import free_port

from otel_novu.metrics.usage import FIGURES

pytestmark = pytest.mark.contract

COUNT = len(FIGURES)
ALL = f"{COUNT} of {COUNT} figures"


def test_the_first_delivery_is_logged_once(novu: Case) -> None:
    running = novu.start()
    novu.sink.wait_for(6)
    novu.stop(running)
    lines = [line for line in running.stderr if "delivered to" in line]
    pattern = rf" INFO First report delivered to {novu.sink.endpoint}: beacon, usage \({ALL}\); "
    assert len(lines) == 1
    assert re.search(rf"{pattern}next at \d\d:\d\d:\d\dZ\.$", lines[0])
    assert running.stderr[-1].endswith("INFO Stopped; every report was delivered.")


def test_verbose_logs_each_delivery_with_bytes_and_milliseconds(novu: Case) -> None:
    done = novu("once --verbose")
    assert done.returncode == 0
    sent = re.findall(
        r"DEBUG Sent a (\w+) report to \S+: delivered \(\d+ bytes, \d+ ms\)", done.stderr
    )
    assert sorted(sent) == ["beacon", "usage"]


def test_a_database_that_comes_up_later_costs_no_hour(novu: Case, mongo_url: str) -> None:
    port, server = free_port(), mongo_url.rpartition("@")[2].partition("/")[0]
    novu.read(mongo_url.replace(server, f"127.0.0.1:{port}"))
    running = novu.start(**ONE_REPORT)
    eventually(lambda: usage_reports(novu))
    assert not any(map(figures, usage_reports(novu)))
    running.wait_for("refuses connections")
    with Gate(mongo_url, port=port):
        came_up = time.time()
        eventually(lambda: any(figures(report) == NAMES for report in usage_reports(novu)))
        # It is asked again after 10 s at most at first; a machine may stall beside that.
        assert novu.times("usage")[-1] - came_up < 15 + STALL_SECONDS
        running.wait_for("All usage figures are read again")
        # Readings that failed again in between were not sent.
        assert len(usage_reports(novu)) == 2
        novu.stop(running)


def test_a_wrong_password_is_one_line_and_no_success(novu: Case, mongo_url: str) -> None:
    novu.read(mongo_url.replace("root:secret", f"root:{PASSWORD}"))
    done = novu("once")
    assert done.returncode == 1
    warnings = [line for line in done.stderr.splitlines() if " WARNING " in line]
    assert len(warnings) == 1
    where = mongo_url.rpartition("@")[2].partition("/")[0]
    assert f"MongoDB at {where}: not authenticated (code 18)" in warnings[0]
    assert f"beacon and usage report without figures (0 of {COUNT})" in done.stderr
    running = novu.start(**ONE_REPORT)
    novu.sink.wait_for(4)
    running.wait_for("First report delivered")
    assert novu("health").returncode == 0
    strict = novu("health --strict --json")
    message = f"0 of {COUNT} usage figures could be read"
    assert (strict.returncode, message in strict.stdout) == (1, True)
    running.send(signal.SIGINT)
    assert running.wait(STOP_SECONDS) == 0
    assert "every report was delivered" not in running.stderr[-1]
    assert "usage report without figures" in running.stderr[-1]
    assert PASSWORD not in done.stderr + "".join(running.stderr)
