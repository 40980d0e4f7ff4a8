"""`make demo`: real servers, Novu-shaped data, one report, and a table that compares."""

import os
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from urllib.error import URLError

import novu_data
from compare import Line, format_table, read_table
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from stack import StackError, servers, with_database
from stack_cache import cache_dir

DATABASE = "novu-demo"
INSTANCE = str(uuid.uuid5(uuid.NAMESPACE_DNS, DATABASE))
EXPORTER = (sys.executable, "-m", "otel_novu")


def main() -> int:
    """Run the demo; returns 0 only if database and Prometheus agree in every figure."""
    found = servers(_say)
    ours = {
        "MONGO_URL": with_database(found.mongo_url, DATABASE),
        "OTEL_EXPORTER_OTLP_ENDPOINT": found.otlp_http,
        "OTEL_NOVU_INSTANCE_ID": INSTANCE,
        "OTEL_NOVU_STATE_DIR": str(cache_dir() / "demo-state"),
    }
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(Path.home()), **ours}
    with MongoClient[novu_data.Document](ours["MONGO_URL"]) as client:
        _say(f"Loading Novu-shaped data into database {DATABASE} ...")
        client.drop_database(DATABASE)
        novu_data.load(client[DATABASE], seed=1, size="small", now=datetime.now(UTC))
        _say("One report: otel-novu once")
        if subprocess.run([*EXPORTER, "once"], env=environment, check=False).returncode:
            print("The report was not delivered completely; see above.", file=sys.stderr)
            return 1
        deadline = time.monotonic() + 240
        while _bad(lines := read_table(client[DATABASE], found.prometheus, INSTANCE)):
            if time.monotonic() > deadline:
                break
            time.sleep(0.5)  # the collector takes a moment
    _say(f"\n{format_table(lines)}\n")
    _say(f"{len(lines)} lines, {_bad(lines)} of them different or missing.")
    settings = " \\\n  ".join(f"{name}='{value}'" for name, value in ours.items())
    _say(f"\nTo keep it running:\n\n  {settings} \\\n  {sys.executable} -m otel_novu run\n")
    _say(f"Prometheus: {found.prometheus}/graph?g0.expr=last_over_time(novu_event_count[65m])")
    _say(f"`make down` stops the servers; what was built stays in {cache_dir()}.")
    return int(_bad(lines) > 0)


def _bad(lines: list[Line]) -> int:
    return sum(line.verdict.isupper() for line in lines)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("Interrupted; finished parts are kept.")
    except (StackError, URLError) as error:
        sys.exit(str(error))
    except PyMongoError as error:  # the text may contain a part of the URL
        sys.exit(f"The database can't be used: {type(error).__name__}")
