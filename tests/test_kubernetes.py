import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from servers import ExporterRunner

from otel_novu.commands.health import GRACE
from otel_novu.settings import load
from otel_novu.version import __version__

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples" / "kubernetes"
FILES = sorted(FOLDER.glob("*.yaml"))
# All that its project still tends, the newest that the schemas are packaged for included.
VERSIONS = list(dict.fromkeys(kubernetes_validate.utils.all_versions()))[-4:]

Manifest = dict[str, Any]


def manifests(*kinds: str) -> list[Any]:
    found = [
        (path, document)
        for path in FILES
        for document in yaml.safe_load_all(path.read_text())
        if not kinds or document["kind"] in kinds
    ]
    return [
        pytest.param(document, id=f"{path.name}-{document['kind']}") for path, document in found
    ]


EVERY = manifests()
PODS = manifests("Deployment", "DaemonSet")


def pod_of(manifest: Manifest) -> Manifest:
    spec = manifest["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


def container_of(manifest: Manifest) -> Manifest:
    (container,) = pod_of(manifest)["containers"]
    assert isinstance(container, dict)
    return container


def variables_of(manifest: Manifest) -> Mapping[str, str]:
    """What the container sees, its references resolved as the kubelet does."""
    found: dict[str, str] = {}
    for entry in container_of(manifest)["env"]:
        value = entry.get("value", "of-the-node")
        found[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda name: found[name[1]], value)
    return found


def nested(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from nested(inner)
    if isinstance(value, list):
        for inner in value:
            yield from nested(inner)


def test_there_is_one_deployment_for_usage_and_one_daemon_set_for_beacons() -> None:
    kinds = sorted(each.values[0]["kind"] for each in PODS)
    assert kinds == ["DaemonSet", "Deployment"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", EVERY)
def test_kubernetes_schemas_accept_every_manifest_and_know_every_field(
    manifest: Manifest, version: str
) -> None:
    assert (
        kubernetes_validate.validate(manifest, version, strict=True) == version.rpartition(".")[0]
    )


def test_the_schemas_refuse_a_misspelt_field() -> None:
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {"containrs": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("manifest", PODS)
def test_the_pod_security_standard_restricted_is_kept(manifest: Manifest) -> None:
    pod, container = pod_of(manifest), container_of(manifest)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostPath", "privileged"} & {
        key for key, _ in nested(manifest)
    }
    allowed = {"persistentVolumeClaim", "secret", "emptyDir"}
    assert all(volume.keys() - {"name"} <= allowed for volume in pod["volumes"])


@pytest.mark.parametrize("manifest", PODS)
def test_user_and_image_are_those_of_the_dockerfile(manifest: Manifest) -> None:
    user, group = re.findall(
        r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE
    )[0]
    context = pod_of(manifest)["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"]) == (int(user), int(group))
    assert container_of(manifest)["image"] == f"otel-novu:{__version__}"


@pytest.mark.parametrize("manifest", PODS)
def test_the_root_file_system_is_read_only_and_state_lies_below_a_volume(
    manifest: Manifest,
) -> None:
    container = container_of(manifest)
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mounts = [Path(mount["mountPath"]) for mount in container["volumeMounts"]]
    assert Path(variables_of(manifest)["OTEL_NOVU_STATE_DIR"]).parent in mounts


@pytest.mark.parametrize("manifest", PODS)
def test_probes_ask_health_within_what_health_forgives(manifest: Manifest) -> None:
    container = container_of(manifest)
    for probe in (container["startupProbe"], container["livenessProbe"]):
        assert probe["exec"]["command"] == ["otel-novu", "health"]
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] <= GRACE


@pytest.mark.parametrize("manifest", EVERY)
def test_no_secret_is_written_into_a_manifest(manifest: Manifest) -> None:
    assert manifest["kind"] != "Secret"
    # An environment is shown by `kubectl describe`, a file is not.
    assert not {"secretKeyRef", "envFrom"} & {key for key, _ in nested(manifest)}
    assert "MONGO_URL" not in {name for name, _ in nested(manifest)}


@pytest.mark.parametrize("manifest", manifests("Deployment"))
def test_the_database_url_comes_as_a_file_that_only_the_group_may_read(manifest: Manifest) -> None:
    file = Path(variables_of(manifest)["MONGO_URL_FILE"])
    mount = next(
        m for m in container_of(manifest)["volumeMounts"] if file.is_relative_to(m["mountPath"])
    )
    secret = next(v for v in pod_of(manifest)["volumes"] if v["name"] == mount["name"])["secret"]
    assert mount["readOnly"] is True
    assert [item["path"] for item in secret["items"]] == [file.name]
    assert secret["defaultMode"] == stat.S_IRUSR | stat.S_IRGRP


@pytest.mark.parametrize("manifest", manifests("Deployment"))
def test_usage_has_one_replica_that_ends_before_the_next_begins(manifest: Manifest) -> None:
    assert manifest["spec"]["replicas"] == 1
    assert manifest["spec"]["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize("manifest", manifests("DaemonSet"))
def test_beacons_read_no_usage_and_bear_the_name_of_their_node(
    manifest: Manifest, tmp_path: Path
) -> None:
    settings = load(variables_of(manifest), env_file=None, cwd=tmp_path, home=tmp_path)
    assert settings.telemetry is False
    assert settings.mongo_url is None
    assert settings.resource_attributes["k8s.node.name"] == "of-the-node"
    assert settings.service_name != "novu"


@pytest.mark.parametrize("manifest", PODS)
def test_otel_novu_accepts_every_variable_of_the_manifests(
    manifest: Manifest, tmp_path: Path, exporter: ExporterRunner
) -> None:
    url = tmp_path / "mongo-url"
    url.write_text("mongodb://mongodb/novu-db\n")
    given = {
        **variables_of(manifest),
        "OTEL_NOVU_STATE_DIR": str(tmp_path / "state"),
        "MONGO_URL_FILE": str(url),
    }
    done = exporter("spool", "--json", env=given)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_volume_of_kubernetes_is_fit_for_state_as_the_manifests_mount_it(
    tmp_path: Path, exporter: ExporterRunner
) -> None:
    """With `fsGroup` the volume's root is its group's to write, and stays another user's."""
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(0o2777)
    if os.geteuid() == 0:
        os.chown(volume, 0, 10001)
    environment = {
        "OTEL_NOVU_STATE_DIR": str(volume / "state"),
        "NOVU_TELEMETRY": "false",
        "OTEL_METRICS_EXPORTER": "console",
    }
    for _ in range(2):
        assert exporter("once", env=environment).returncode == 0
    assert stat.S_IMODE((volume / "state").stat().st_mode) & 0o077 == 0
