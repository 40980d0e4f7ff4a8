import json
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from prometheusrule import SOURCES, generate
from servers import ExporterRunner

from otel_novu.settings import load
from otel_novu.version import __version__

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "kubernetes"
# Of kinds that Kubernetes itself has no schema for.
OTHERS = ("kustomization.yaml", "prometheusrule.yaml")
FILES = [file for file in sorted(FOLDER.glob("*.yaml")) if file.name not in OTHERS]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
# The newest four releases that the schemas are packaged for; Kubernetes maintains three.
VERSIONS = list(dict.fromkeys(kubernetes_validate.utils.all_versions()))[-4:]

Manifest = dict[str, Any]
ALL: list[Manifest] = [m for file in FILES for m in yaml.safe_load_all(file.read_text())]
BY_KIND = {manifest["kind"]: manifest for manifest in ALL}
DEPLOYMENT, DAEMON_SET = BY_KIND["Deployment"], BY_KIND["DaemonSet"]
pods = pytest.mark.parametrize("manifest", [DEPLOYMENT, DAEMON_SET], ids=["usage", "beacons"])


def pod_of(manifest: Manifest) -> tuple[Manifest, Manifest]:
    pod = manifest["spec"]["template"]["spec"]
    return pod, pod["containers"][0]


def variables_of(manifest: Manifest) -> dict[str, str]:
    """Return what the container sees, on a node called `of-the-node`."""
    entries = pod_of(manifest)[1]["env"]
    found = {entry["name"]: entry.get("value", "of-the-node") for entry in entries}
    return {name: value.replace("$(NODE_NAME)", "of-the-node") for name, value in found.items()}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", ALL, ids=[m["kind"] for m in ALL])
def test_kubernetes_schemas_accept_every_field(manifest: Manifest, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


def test_no_manifest_holds_a_secret_or_passes_one_through_the_environment() -> None:
    assert "Secret" not in BY_KIND
    assert not re.search('"(secretKeyRef|envFrom|MONGO_URL)"', json.dumps(ALL))


@pods
def test_a_pod_keeps_the_restricted_security_standard(manifest: Manifest) -> None:
    pod, container = pod_of(manifest)
    of_pod, of_container = pod["securityContext"], container["securityContext"]
    assert (of_pod["runAsNonRoot"], of_pod["seccompProfile"]["type"]) == (True, "RuntimeDefault")
    assert of_container["capabilities"] == {"drop": ["ALL"]}
    assert of_container["allowPrivilegeEscalation"] is False
    assert of_container["readOnlyRootFilesystem"] is True
    assert not re.search('"(hostNetwork|hostPID|hostIPC|hostPath)"', json.dumps(manifest))


@pods
def test_user_image_and_probes_are_those_of_the_dockerfile(manifest: Manifest) -> None:
    pod, container = pod_of(manifest)
    user = f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}"
    assert user in DOCKERFILE.splitlines()
    assert container["image"] == f"otel-novu:{__version__}"
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["exec"]["command"] == ["otel-novu", "health"]
    mounts = [Path(mount["mountPath"]) for mount in container["volumeMounts"]]
    assert Path(variables_of(manifest)["OTEL_NOVU_STATE_DIR"]).parent in mounts


def test_usage_has_one_replica_and_reads_the_url_from_a_file_of_its_group() -> None:
    pod, container = pod_of(DEPLOYMENT)
    spec = DEPLOYMENT["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    file = Path(variables_of(DEPLOYMENT)["MONGO_URL_FILE"])
    [mount] = [m for m in container["volumeMounts"] if file.is_relative_to(m["mountPath"])]
    [secret] = [v["secret"] for v in pod["volumes"] if v["name"] == mount["name"]]
    assert mount["readOnly"] is True
    assert [item["path"] for item in secret["items"]] == [file.name]
    assert secret["defaultMode"] == stat.S_IRUSR | stat.S_IRGRP


def test_beacons_read_no_usage_and_carry_the_name_of_their_node(tmp_path: Path) -> None:
    variables = variables_of(DAEMON_SET)
    settings = load(variables, env_file=None, cwd=tmp_path, home=tmp_path)
    assert (settings.telemetry, settings.mongo_url) == (False, None)
    assert settings.resource_attributes["k8s.node.name"] == "of-the-node"
    assert settings.service_name != "novu"


def test_the_volume_can_be_had_of_most_storage_drivers() -> None:
    assert BY_KIND["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_the_network_policy_admits_every_port_that_the_documentation_names() -> None:
    [egress] = BY_KIND["NetworkPolicy"]["spec"]["egress"]
    ports = {(port["port"], port["protocol"]) for port in egress["ports"]}
    assert ports == {(53, "UDP"), *((port, "TCP") for port in (53, 443, 4317, 4318, 9090, 27017))}
    endpoints = [
        variables_of(pod)["OTEL_EXPORTER_OTLP_ENDPOINT"] for pod in (DEPLOYMENT, DAEMON_SET)
    ]
    pages = [page.read_text() for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))]
    lines = [
        *endpoints,
        *re.findall(r"^.*(?:OTLP_ENDPOINT|MONGO_URL).*$", "\n".join(pages), re.MULTILINE),
    ]
    urls = re.findall(r"(?:https?|mongodb)://[\w.@:%-]*?:(\d{2,5})\b", "\n".join(lines))
    assert {int(port) for port in urls} <= {port for port, _ in ports}


def test_the_kustomization_has_the_usage_manifest_and_only_files_that_exist() -> None:
    text = (FOLDER / "kustomization.yaml").read_text()
    kustomization = yaml.safe_load(text)
    assert kustomization["resources"] == ["usage.yaml"]
    named = set(re.findall(r"- (\w+\.yaml)", text))
    assert named == {file.name for file in FILES} | {"prometheusrule.yaml"}
    assert kustomization["images"] == [{"name": "otel-novu", "newTag": __version__}]
    if kubectl := shutil.which("kubectl"):
        command = [kubectl, "kustomize", str(FOLDER)]
        built = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        usage = list(yaml.safe_load_all((FOLDER / "usage.yaml").read_text()))
        assert {m["kind"] for m in yaml.safe_load_all(built)} == {m["kind"] for m in usage}


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.parent.name)
def test_the_prometheus_rule_has_the_rules_and_alerts_as_they_are(file: Path) -> None:
    written = file.read_text()
    assert written == generate(SOURCES[file]), "run `make dashboard`"
    rule = yaml.safe_load(written)
    parts = [SOURCES[file] / name for name in ("rules.yml", "alerts.yml")]
    groups = [group for part in parts for group in yaml.safe_load(part.read_text())["groups"]]
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert rule["spec"] == {"groups": groups}


@pods
def test_otel_novu_accepts_the_variables_and_a_volume_with_fs_group(
    manifest: Manifest, tmp_path: Path, exporter: ExporterRunner
) -> None:
    (tmp_path / "mongo-url").write_text("mongodb://mongodb/novu-db\n")
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o2777)  # with fsGroup its group may write to it
    env = {**variables_of(manifest), "OTEL_NOVU_STATE_DIR": str(volume / "state")}
    env["MONGO_URL_FILE"] = str(tmp_path / "mongo-url")
    done = exporter("spool", "--json", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    env |= {"NOVU_TELEMETRY": "false", "OTEL_METRICS_EXPORTER": "console"}
    for _ in range(2):
        assert exporter("once", env=env).returncode == 0
    assert stat.S_IMODE((volume / "state").stat().st_mode) & 0o077 == 0
