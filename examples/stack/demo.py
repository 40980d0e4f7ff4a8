"""`make demo`: real servers, Novu-shaped data, one report, and a table that compares."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import compare
import novu_data
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from stack import Servers, servers, with_database
from stack_build import StackError, cache_dir

DATABASE = "novu-demo"
SEED = 1
SIZE = "small"


def main() -> int:
    """Run the demo; 0 only if database and Prometheus agree in every figure."""
    try:
        found = servers(_say)
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"The servers could not be handled: {error}", file=sys.stderr)
        return 1
    mongo_url = with_database(found.mongo_url, DATABASE)
    _load(mongo_url)
    environment = _environment(mongo_url, found)
    _say("One report: otel-novu once")
    if subprocess.run([*_COMMAND, "once"], env=environment, check=False).returncode:
        print("The report did not arrive whole; see above.", file=sys.stderr)
        return 1
    instance = Path(environment["OTEL_NOVU_STATE_DIR"], "instance-id").read_text().strip()
    _say("What the database answers now, and what Prometheus answers:\n")
    code = compare.main(
        [instance, "--mongo-url", mongo_url, "--prometheus", found.prometheus, "--wait", "240"]
    )
    _say_how_to_go_on(environment, found)
    return code


_COMMAND = (sys.executable, "-m", "otel_novu")


def _load(mongo_url: str) -> None:
    """Fill a database of the demo's own."""
    _say(f"Loading Novu-shaped data into database {DATABASE} ...")
    client: MongoClient[novu_data.Document] = MongoClient(mongo_url)
    with client:
        client.drop_database(DATABASE)
        novu_data.load(client[DATABASE], seed=SEED, size=SIZE, now=datetime.now(UTC))


def _environment(mongo_url: str, found: Servers) -> dict[str, str]:
    """The exporter's variables, beside those that any process needs."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(Path.home()),
        "MONGO_URL": mongo_url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": found.otlp_http,
        "OTEL_NOVU_STATE_DIR": str(cache_dir() / "demo-state"),
    }


def _say_how_to_go_on(environment: dict[str, str], found: Servers) -> None:
    ours = {name: value for name, value in environment.items() if name not in ("PATH", "HOME")}
    settings = " \\\n  ".join(f"{name}='{value}'" for name, value in ours.items())
    _say(f"\nTo keep it running:\n\n  {settings} \\\n  {sys.executable} -m otel_novu run\n")
    query = urlencode({"g0.expr": "last_over_time(novu_event_count[65m])"})
    _say(f"In Prometheus: {found.prometheus}/graph?{query}")
    _say("`make down` stops the servers; what was built stays in the cache for the next time:")
    _say(f"  {cache_dir()}")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("Interrupted; what was whole by then is kept.")
    except PyMongoError as error:  # its text may hold a piece of the URL
        sys.exit(f"The database can't be used: {type(error).__name__}")
