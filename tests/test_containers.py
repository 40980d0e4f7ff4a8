"""Where no Docker engine runs: the container files are held against what they name.

The Dockerfile's steps are run without an engine too: what it copies is copied, its commands run
with its folders moved to one of the test's, and the result is started as its user, on a root file
system that is mounted read-only.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from real_faults import need_root, open_ground
from servers import PrometheusClient, eventually
from stack import PORTS, Servers

from otel_novu.settings import VARIABLES, load
from otel_novu.version import __version__

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = ROOT / "Dockerfile"
STACK = ROOT / "examples" / "stack" / "compose.yaml"
OVERRIDE = ROOT / "examples" / "novu" / "compose.override.yaml"
COMPOSE_FILES = (STACK, OVERRIDE)
COLLECTOR_CONFIG = ROOT / "collector-config.yaml"
SETTINGS = {name for variable in VARIABLES for name in variable.names}
IMAGE = f"otel-novu:{__version__}"
INTERPOLATION = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")

# The folders that the image has, and the test's machine has not.
FOLDERS = ("/opt/otel-novu", "/var/lib/otel-novu", "/src")
SEALED = """
set -eu
ground=$1 base=$2 state=$3 user=$4
shift 4
top=/$(echo "$base" | cut -d/ -f2)
if [ "$top" != /usr ]; then
  # The interpreter may be in a home that only its owner enters.
  mkdir -p "$ground/python"
  mount --bind "$base" "$ground/python"
  mount -t tmpfs -o mode=0755 hidden "$top"
  mkdir -p "$base"
  mount --bind "$ground/python" "$base"
fi
mount --bind "$state" "$state"
mount -o remount,bind,ro /
exec setpriv --reuid="$user" --regid="$user" --clear-groups --no-new-privs \
  --bounding-set=-all --inh-caps=-all "$@"
"""


# --- the Dockerfile ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction of a Dockerfile."""

    name: str
    words: str

    def exec_form(self) -> list[str]:
        """Its words as a command without a shell."""
        return list(json.loads(self.words[self.words.index("[") :]))


def read_stages() -> list[list[Step]]:
    """The stages, each from its FROM on."""
    lines = [x for x in DOCKERFILE.read_text().splitlines() if not x.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    stages: list[list[Step]] = []
    for line in filter(None, joined.splitlines()):
        name, _, words = line.partition(" ")
        if name == "FROM":
            stages.append([])
        stages[-1].append(Step(name, words.strip()))
    return stages


def steps(name: str, stage: int = -1) -> list[Step]:
    return [step for step in read_stages()[stage] if step.name == name]


def environment() -> dict[str, str]:
    return dict(word.split("=", 1) for step in steps("ENV") for word in shlex.split(step.words))


def copied_from_context() -> list[tuple[list[str], str]]:
    """Sources and target of each COPY that takes from the build context."""
    found = []
    for stage in read_stages():
        for step in stage:
            if step.name == "COPY" and not step.words.startswith("--from"):
                *sources, target = step.words.split()
                found.append((sources, target))
    return found


def test_base_images_are_pinned_to_a_full_version() -> None:
    for stage in read_stages():
        image = stage[0].words.split()[0]
        assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-[a-z]+", image)


def test_the_image_runs_as_a_number_that_is_not_root() -> None:
    [user] = steps("USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user.words)


def test_the_image_keeps_its_state_in_a_volume() -> None:
    [volume] = steps("VOLUME")
    assert environment()["OTEL_NOVU_STATE_DIR"] == volume.words


def test_the_image_is_probed_by_its_own_health_command() -> None:
    [probe] = steps("HEALTHCHECK")
    assert probe.exec_form() == ["otel-novu", "health"]
    assert steps("ENTRYPOINT")[0].exec_form() == ["otel-novu"]
    assert steps("CMD")[0].exec_form() == ["run"]


def test_the_context_holds_what_is_copied_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied = {source for sources, _ in copied_from_context() for source in sources}
    assert let_in == copied
    # The wheel is tested where the package's source is not.
    assert all((ROOT / source).exists() for source in copied - {"otel_novu"})


# --- the Dockerfile's steps, without an engine ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class Image:
    """What the steps made.

    Args:
        ground: the folder in which the image's folders are.
    """

    ground: Path

    def moved(self, text: str) -> str:
        """The text with the image's folders where they are here."""
        for folder in FOLDERS:
            text = re.sub(rf"(?<![\w.]){re.escape(folder)}\b", f"{self.ground}{folder}", text)
        return text

    @property
    def state(self) -> Path:
        return Path(self.moved("/var/lib/otel-novu"))

    def start(self, *command: str, env: Mapping[str, str]) -> subprocess.Popen[str]:
        """Start a command as the image's user; nothing but the state directory can be written."""
        variables = {name: self.moved(value) for name, value in environment().items()} | dict(env)
        user = steps("USER")[0].words.partition(":")[0]
        program = shutil.which(command[0], path=variables["PATH"])
        assert program is not None
        given = ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
        sealed = ["unshare", "--mount", "sh", "-c", SEALED, "sh"]
        places = [str(self.ground), sys.base_prefix, str(self.state), user]
        return subprocess.Popen(
            [*sealed, *places, *given, program, *command[1:]],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str, env: Mapping[str, str]) -> tuple[int, str]:
        """Run a command to its end; its exit code and what it said."""
        with self.start(*command, env=env) as process:
            said, _ = process.communicate(timeout=240)
            return process.returncode, said


def make_pythons_tools(folder: Path) -> None:
    """The base image's `python` and `pip`, of the Python that runs the tests."""
    folder.mkdir()
    for name, module in (("python", ""), ("pip", "-m pip ")):
        tool = folder / name
        tool.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module}"$@"\n')
        tool.chmod(0o755)


def copy_context(step: Step, into: Path) -> None:
    *sources, target = step.words.split()
    for source in sources:
        origin, place = ROOT / source, into / target
        if origin.is_dir():
            shutil.copytree(origin, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(origin, into)


def run_step(step: Step, image: Image, folder: Path, tools: Path) -> None:
    command = image.moved(step.words)
    env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    need_root()
    with open_ground() as ground:
        made = Image(ground)
        folder, tools = Path(made.moved("/src")), ground / "tools"
        folder.mkdir(parents=True)
        make_pythons_tools(tools)
        for stage in read_stages():
            for step in stage:
                if step.name == "RUN":
                    run_step(step, made, folder, tools)
                elif step.name == "COPY" and not step.words.startswith("--from"):
                    copy_context(step, folder)
        yield made


@pytest.mark.long
def test_the_dockerfiles_steps_make_an_exporter_of_this_version(image: Image) -> None:
    assert image.run("otel-novu", "--version", env={}) == (0, f"otel-novu {__version__}\n")


@pytest.mark.long
def test_the_result_has_what_the_lock_file_says_and_no_more(image: Image) -> None:
    script = "import importlib.metadata as m; print(*{d.name.lower() for d in m.distributions()})"
    code, said = image.run("python", "-c", script, env={})
    names = {name.replace("_", "-") for name in said.split()}
    locked = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert code == 0, said
    assert "otel-novu" in names
    assert names - {"otel-novu"} <= set(locked)


@pytest.mark.long
def test_only_the_state_directory_can_be_written(image: Image) -> None:
    script = "import sys; open(sys.argv[1] + '/x', 'w')"
    code, said = image.run("python", "-c", script, image.moved("/opt/otel-novu"), env={})
    assert code == 1
    assert "Read-only file system" in said
    assert image.run("python", "-c", script, str(image.state), env={}) == (0, "")
    (image.state / "x").unlink()


@pytest.mark.long
def test_the_result_reports_without_root_on_a_read_only_root_and_its_probe_tells(
    image: Image, stack: Servers, mongo_url: str, prometheus: PrometheusClient
) -> None:
    instance_id = str(uuid.uuid4())
    env = {
        "MONGO_URL": mongo_url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": stack.otlp_http,
        "OTEL_NOVU_INSTANCE_ID": instance_id,
    }
    probe = steps("HEALTHCHECK")[0].exec_form()
    command = steps("ENTRYPOINT")[0].exec_form() + steps("CMD")[0].exec_form()
    assert image.run(*probe, env=env)[0] == 1
    with image.start(*command, env=env) as exporter:
        seen = f'novu_beacon_timestamp_seconds{{instance="{instance_id}"}}'
        prometheus.eventually(seen)
        eventually(lambda: image.run(*probe, env=env)[0], lambda code: code == 0)
        exporter.send_signal(signal.SIGTERM)
        said, _ = exporter.communicate(timeout=240)
    assert exporter.returncode == 0, said
    assert "WARNING The state directory" not in said
    assert image.run(*probe, env=env)[0] == 1


# --- compose -------------------------------------------------------------------------------------


def services_of(file: Path) -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text())["services"]
    return services


def exporters_of(file: Path) -> list[dict[str, Any]]:
    found = [s for s in services_of(file).values() if s["image"].startswith("otel-novu")]
    assert found
    return [service for service in found if "environment" in service]


def with_defaults(text: str, given: Mapping[str, str]) -> str:
    return INTERPOLATION.sub(lambda found: given.get(found[1]) or found[2] or "", text)


@pytest.mark.parametrize("file", COMPOSE_FILES, ids=lambda file: file.name)
def test_a_compose_file_fits_the_compose_schema(file: Path) -> None:
    command: Sequence[str] = [sys.executable, "-m", "check_jsonschema"]
    command = [*command, "--builtin-schema", "vendor.compose-spec", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", COMPOSE_FILES, ids=lambda file: file.name)
def test_every_image_is_pinned_and_ours_is_of_this_version(file: Path) -> None:
    for service in services_of(file).values():
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+", service["image"])
        if service["image"].startswith("otel-novu"):
            assert service["image"] == IMAGE
    for text in (OVERRIDE.read_text(), DOCKERFILE.read_text()):
        assert set(re.findall(r"otel-novu:\d[\d.]+", text)) == {IMAGE}


@pytest.mark.parametrize("file", COMPOSE_FILES, ids=lambda file: file.name)
def test_every_variable_of_an_exporter_is_a_setting(file: Path) -> None:
    for service in exporters_of(file):
        assert set(service["environment"]) <= SETTINGS


@pytest.mark.parametrize("file", COMPOSE_FILES, ids=lambda file: file.name)
def test_every_variable_that_a_file_asks_for_is_one_that_somebody_sets(file: Path) -> None:
    asked = {name for name, _ in INTERPOLATION.findall(file.read_text())}
    assert asked <= SETTINGS | set(PORTS) | {"OTEL_NOVU_STACK_GRAFANA_PORT"}


def test_the_collectors_variables_are_those_of_its_configuration() -> None:
    known = set(re.findall(r"\$\{env:(\w+):-", COLLECTOR_CONFIG.read_text()))
    assert set(services_of(STACK)["collector"]["environment"]) <= known


@pytest.mark.parametrize("file", COMPOSE_FILES, ids=lambda file: file.name)
def test_an_exporters_environment_is_accepted_with_nothing_set_outside(
    file: Path, tmp_path: Path
) -> None:
    for service in exporters_of(file):
        environ = {k: with_defaults(v, {}) for k, v in service["environment"].items()}
        settings = load(environ, env_file=None, cwd=tmp_path, home=tmp_path)
        assert settings.telemetry is None
        assert settings.warnings == ()
        assert ":4318/v1/metrics" in settings.otlp.endpoint.reveal()


@pytest.mark.parametrize("file", COMPOSE_FILES, ids=lambda file: file.name)
def test_the_telemetry_flag_of_novus_env_file_is_passed_on(file: Path, tmp_path: Path) -> None:
    given = {"NOVU_TELEMETRY": "false", "MONGO_URL": "mongodb://mongodb:27017/novu-db"}
    for service in exporters_of(file):
        environ = {k: with_defaults(v, given) for k, v in service["environment"].items()}
        settings = load(environ, env_file=None, cwd=tmp_path, home=tmp_path)
        assert settings.telemetry is False
        assert settings.mongo_url is not None


@pytest.mark.parametrize("file", COMPOSE_FILES, ids=lambda file: file.name)
def test_an_exporter_has_a_volume_for_its_state_and_can_do_nothing_else(file: Path) -> None:
    volumes = yaml.safe_load(file.read_text())["volumes"]
    state = steps("VOLUME")[0].words
    for service in exporters_of(file):
        [mount] = service["volumes"]
        name, _, place = mount.partition(":")
        assert place == state
        assert name in volumes
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "user" not in service
        assert "ports" not in service


def test_the_override_stays_on_novus_network_and_touches_none_of_its_services() -> None:
    override = yaml.safe_load(OVERRIDE.read_text())
    assert set(override) == {"services", "volumes"}
    assert set(override["services"]) == {"otel-novu"}
    assert not {"networks", "network_mode", "depends_on"} & set(override["services"]["otel-novu"])


def test_files_that_are_mounted_exist() -> None:
    for service in services_of(STACK).values():
        for mount in service.get("volumes", []):
            source = mount.partition(":")[0]
            if source.startswith("."):
                assert (STACK.parent / source).exists(), source


def test_everything_waits_for_what_it_needs() -> None:
    services = services_of(STACK)
    for service in services.values():
        for name, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[name]
    assert services["exporter"]["depends_on"]["sample-data"]["condition"] == (
        "service_completed_successfully"
    )


def test_grafana_can_be_looked_at_without_a_login_and_on_this_machine_only() -> None:
    grafana = services_of(STACK)["grafana"]
    assert grafana["environment"]["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
    assert grafana["environment"]["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert all(port.startswith("127.0.0.1:") for port in grafana["ports"])


def test_the_demos_prometheus_has_the_alerts_and_keeps_more_than_a_year() -> None:
    prometheus = services_of(STACK)["prometheus"]
    assert "../prometheus:/etc/prometheus:ro" in prometheus["volumes"]
    assert "--config.file=/etc/prometheus/prometheus.yml" in prometheus["command"]
    assert "--storage.tsdb.retention.time=400d" in prometheus["command"]
    assert "--web.enable-remote-write-receiver" in prometheus["command"]


def test_the_sample_datas_command_is_one_that_the_script_takes() -> None:
    script = STACK.parent / "novu_data.py"
    told = subprocess.run(
        [sys.executable, str(script), "--help"], capture_output=True, text=True, check=True
    ).stdout
    for name in ("sample-data", "traffic"):
        options = [word for word in services_of(STACK)[name]["command"] if word.startswith("--")]
        assert options
        assert all(option in told for option in options)
