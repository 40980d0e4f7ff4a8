"""The container files. The Dockerfile's steps run here without an engine, below a test's folder."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from servers import PrometheusClient
from stack import PORTS, Servers, poll

from otel_novu.settings import VARIABLES, load
from otel_novu.version import __version__

ROOT = Path(__file__).parents[1]
STACK = ROOT / "examples" / "stack" / "compose.yaml"
OVERRIDE = ROOT / "examples" / "novu" / "compose.override.yaml"
SETTINGS = {name for variable in VARIABLES for name in variable.names}
DOCKERFILE = (ROOT / "Dockerfile").read_text()
# The instructions in their order; of those that may occur once, the last one counts.
STEPS = [
    (name, " ".join(words.replace("\\\n", " ").split()))
    for name, words in re.findall(r"^([A-Z]+) ((?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE)
]
LAST = dict(STEPS)
ENV = dict(word.split("=", 1) for word in shlex.split(LAST["ENV"]))
COMMAND = json.loads(LAST["ENTRYPOINT"]) + json.loads(LAST["CMD"])
PROBE = json.loads(LAST["HEALTHCHECK"].partition("CMD ")[2])

both = pytest.mark.parametrize("file", [STACK, OVERRIDE], ids=lambda file: file.name)

# Starts a command as another user, on a root file system that is read-only but for one folder. The
# interpreter may be in a home that only its owner may enter, so that home is hidden.
SEALED = """
ground=$1 base=$2 state=$3 user=$4; shift 4
case $base in /usr*) ;; *)
  mkdir -p "$ground/base" && mount --bind "$base" "$ground/base"
  mount -t tmpfs -o mode=0755 hidden "/$(echo "$base" | cut -d/ -f2)"
  mkdir -p "$base" && mount --bind "$ground/base" "$base";;
esac
mount --bind "$state" "$state" && mount -o remount,bind,ro / || exit
exec setpriv --reuid="$user" --regid="$user" --clear-groups --no-new-privs \
  --bounding-set=-all --inh-caps=-all "$@"
"""


def moved(text: str, ground: Path) -> str:
    """Put the image's folders below another one."""
    return re.sub(r"(?<![\w.])(/opt/otel-novu|/var/lib/otel-novu|/src)\b", rf"{ground}\1", text)


def start(ground: Path, *command: str, **environ: str) -> subprocess.Popen[str]:
    """Start a command as the image's user."""
    variables = {name: moved(value, ground) for name, value in ENV.items()} | environ
    program = shutil.which(command[0], path=variables["PATH"])
    assert program is not None
    given = ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
    places = [str(ground), sys.base_prefix, moved(LAST["VOLUME"], ground)]
    sealed = ["unshare", "--mount", "sh", "-c", SEALED, "sh", *places, LAST["USER"].split(":")[0]]
    words = [*sealed, *given, program, *command[1:]]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, cwd="/", stdout=pipe, stderr=subprocess.STDOUT, text=True)


def run(ground: Path, *command: str, **environ: str) -> tuple[int, str]:
    with start(ground, *command, **environ) as process:
        return process.wait(240), process.communicate()[0]


@pytest.fixture(scope="module")
def ground() -> Iterator[Path]:
    assert os.geteuid() == 0, "this test needs root: it mounts"
    with tempfile.TemporaryDirectory(prefix="otel-novu-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "src").mkdir()
        for step, words in STEPS:
            if step == "RUN":
                path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # of python and pip
                command = ["env", f"PATH={path}", "sh", "-ec", moved(words, folder)]
                subprocess.run(command, cwd=folder / "src", check=True)
            elif step == "COPY" and "--from" not in words:
                subprocess.run(
                    ["cp", "-r", *words.split()[:-1], folder / "src"], cwd=ROOT, check=True
                )
        yield folder


def test_the_dockerfile_is_pinned_and_runs_as_a_number_with_its_state_in_a_volume() -> None:
    bases = [words.split()[0] for name, words in STEPS if name == "FROM"]
    assert all(re.fullmatch(r"python:\d+\.\d+\.\d+-slim-[a-z]+", base) for base in bases)
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", LAST["USER"])
    assert ENV["OTEL_NOVU_STATE_DIR"] == LAST["VOLUME"]
    assert COMMAND == ["otel-novu", "run"]
    # Nothing else than what is copied gets into the image.
    rules = re.findall(r"^[^#\n].*", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert rules[0] == "*"
    copies = [words.split() for name, words in STEPS if name == "COPY" and "--from" not in words]
    copied = {source for *sources, _ in copies for source in sources}
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied


@pytest.mark.long
def test_the_image_has_this_version_and_only_locked_packages(ground: Path) -> None:
    assert run(ground, "otel-novu", "--version") == (0, f"otel-novu {__version__}\n")
    script = "import importlib.metadata as m; print(*{d.name.lower() for d in m.distributions()})"
    names = set(run(ground, "python", "-c", script)[1].replace("_", "-").split())
    locked = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert "otel-novu" in names <= {"otel-novu", *locked}


@pytest.mark.long
def test_the_image_reports_without_root_on_a_read_only_file_system_and_its_probe_sees_it(
    ground: Path, stack: Servers, mongo_url: str, prometheus: PrometheusClient
) -> None:
    instance = str(uuid.uuid4())
    env = {"MONGO_URL": mongo_url, "OTEL_NOVU_INSTANCE_ID": instance}
    env["OTEL_EXPORTER_OTLP_ENDPOINT"] = stack.otlp_http
    assert run(ground, *PROBE, **env)[0] == 1
    with start(ground, *COMMAND, **env) as exporter:
        try:
            prometheus.eventually(f'novu_beacon_timestamp_seconds{{instance="{instance}"}}')
            assert poll(lambda: run(ground, *PROBE, **env)[0] == 0, 120)
        finally:
            exporter.terminate()
            output, _ = exporter.communicate(timeout=240)
    assert exporter.returncode == 0, output
    assert "OTEL_NOVU_STATE_DIR" not in output
    assert run(ground, *PROBE, **env)[0] == 1
    assert "Read-only" in run(ground, "touch", moved("/opt/otel-novu/x", ground))[1]


def services(file: Path) -> dict[str, dict[str, Any]]:
    return dict(yaml.safe_load(file.read_text())["services"])


def exporter_of(file: Path) -> dict[str, Any]:
    return services(file)["exporter" if file == STACK else "otel-novu"]


@both
def test_a_compose_file_fits_its_schema_and_pins_images(file: Path) -> None:
    schema = ["check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    subprocess.run([sys.executable, "-m", *schema, file], check=True)
    for service in services(file).values():
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", service["image"])
    for text in (file.read_text(), DOCKERFILE):
        assert set(re.findall(r"otel-novu:\d[\d.]+", text)) == {f"otel-novu:{__version__}"}


@both
@pytest.mark.parametrize(("given", "flag"), [({}, None), ({"NOVU_TELEMETRY": "false"}, False)])
def test_an_exporter_accepts_its_environment_and_the_telemetry_flag_reaches_it(
    file: Path, given: Mapping[str, str], flag: object, tmp_path: Path
) -> None:
    known = {*SETTINGS, *PORTS, "OTEL_NOVU_STACK_GRAFANA_PORT", "NOVU_RESOURCE_ATTRIBUTES"}
    known -= {"OTEL_RESOURCE_ATTRIBUTES"}  # docker compose sets it for itself
    interpolation = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
    assert {name for name, _ in interpolation.findall(file.read_text())} <= known
    environ = {
        name: interpolation.sub(lambda found: given.get(found[1]) or found[2] or "", value)
        for name, value in exporter_of(file)["environment"].items()
    }
    assert environ.keys() <= SETTINGS
    settings = load(environ, env_file=None, cwd=tmp_path, home=tmp_path)
    assert (settings.telemetry, settings.warnings) == (flag, ())
    assert ":4318/v1/metrics" in settings.otlp.endpoint.reveal()


@both
def test_an_exporter_has_a_volume_for_its_state_and_no_other_right(file: Path) -> None:
    service = exporter_of(file)
    [(name, place)] = [mount.split(":") for mount in service["volumes"]]
    assert place == LAST["VOLUME"]
    assert name in yaml.safe_load(file.read_text())["volumes"]
    rights = service["read_only"], service["cap_drop"], service["security_opt"]
    assert rights == (True, ["ALL"], ["no-new-privileges:true"])
    assert not {"user", "ports", "networks", "network_mode"} & service.keys()
    assert file == STACK or list(services(file)) == ["otel-novu"]  # beside Novu's own


def test_the_override_waits_for_novus_database() -> None:
    healthy = {"mongodb": {"condition": "service_healthy"}}
    assert exporter_of(OVERRIDE)["depends_on"] == healthy


@pytest.mark.parametrize("name", ["sample-data", "traffic"])
def test_what_runs_another_program_has_no_health_check_of_the_image(name: str) -> None:
    assert services(STACK)[name]["healthcheck"] == {"disable": True}


def test_the_stack_mounts_what_exists_waits_for_what_it_needs_and_is_open_here_only() -> None:
    found = services(STACK)
    for service in found.values():
        sources = [mount.split(":")[0] for mount in service.get("volumes", [])]
        assert all((STACK.parent / source).exists() for source in sources if source[0] == ".")
        for name, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in found[name]
    config = (ROOT / "collector-config.yaml").read_text()
    assert set(found["collector"]["environment"]) <= set(re.findall(r"\$\{env:(\w+):-", config))
    ports = [port for service in found.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)
