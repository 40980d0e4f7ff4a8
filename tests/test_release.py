"""The release workflow: actionlint, and a dry run of each shell step."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from stack_build import build_part
from stack_cache import cache_dir

from otel_novu.version import __version__

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"
JOBS: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())["jobs"]
STEPS = {
    step["name"]: step["run"] for job in JOBS.values() for step in job["steps"] if "run" in step
}
CHECK, NOTES, BUILD, GATHER, IMAGE, RELEASE = STEPS
ACTIONLINT = "v1.7.12"
REPOSITORY = "otel-novu/otel-novu"
CHANGELOG = f"""# Changelog

## [Unreleased]

- later

## [{__version__}] - 2026-12-01

### Added

- this

## [0.0.9] - 2026-11-01

- earlier
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the steps read."""
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "examples", folder / "examples")
    (folder / "otel_novu").mkdir()
    (folder / "otel_novu" / "version.py").write_text(f'__version__ = "{__version__}"\n')
    for name in ("pyproject.toml", "collector-config.yaml", "Makefile", "requirements-dev.txt"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "CHANGELOG.md").write_text(CHANGELOG)
    return folder


def dry_run(
    step: str, folder: Path, *, tag: str = f"v{__version__}", repository: str = REPOSITORY
) -> subprocess.CompletedProcess[str]:
    """Run a step as a runner does."""
    env = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "TAG": tag,
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REPOSITORY": repository,
        "GITHUB_OUTPUT": str(folder / "output"),
    }
    command = ["bash", "-e", "-c", STEPS[step]]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.contract
def test_actionlint_accepts_the_workflows() -> None:
    path = cache_dir() / f"actionlint-{ACTIONLINT}" / "actionlint"
    build_part("actionlint", path, {"VERSION": ACTIONLINT})
    files = sorted(WORKFLOW.parent.glob("*.yml"))
    done = subprocess.run([path, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, ""),
        ({"tag": "v9.9.9"}, "The tag is v9.9.9, but otel_novu/version.py has"),
        ({"tag": __version__}, "The tag is"),
        ({"repository": "someone/fork"}, "project.urls in pyproject.toml are not those of"),
    ],
)
def test_a_release_is_of_its_tag_and_of_its_repository(
    given: dict[str, str], message: str, checkout: Path
) -> None:
    done = dry_run(CHECK, checkout, **given)
    assert (done.returncode, bool(done.stderr)) == (int(bool(message)), bool(message))
    assert message in done.stderr


def test_the_text_is_the_section_of_the_changelog_and_a_missing_one_is_an_error(
    checkout: Path,
) -> None:
    assert dry_run(NOTES, checkout).returncode == 0
    notes = (checkout / "release" / "notes.md").read_text()
    assert notes.split() == ["###", "Added", "-", "this"]
    shutil.rmtree(checkout / "release")
    done = dry_run(NOTES, checkout, tag="v0.0")
    assert (done.returncode, done.stderr) == (1, "CHANGELOG.md has no section for 0.0.\n")


def test_the_package_that_is_tested_is_the_one_that_is_published(checkout: Path) -> None:
    folder = re.search(r"DIST=(\S+)", STEPS[BUILD])
    assert folder
    assert folder[1] == '"$PWD/dist"'
    script = (ROOT / ".ci" / "test-wheel").read_text()
    assert "dist=${DIST:-" in script
    assert {'--outdir "$dist"', '"$dist"/*.whl'} <= set(
        re.findall(r'(?:--outdir )?"\$dist"\S*', script)
    )
    uploaded = [step["with"] for step in JOBS["build"]["steps"] if "upload" in step.get("uses", "")]
    assert {step["path"] for step in uploaded} == {"dist", "release"}
    command = STEPS[BUILD].replace("make ", "make -n ", 1).replace("PYTHON=python", "PYTHON=x")
    done = subprocess.run(
        ["bash", "-e", "-c", command], cwd=checkout, capture_output=True, text=True, check=True
    )
    assert ".ci/test-wheel" in done.stdout


def test_all_files_are_attached_with_their_sums_and_the_published_image(checkout: Path) -> None:
    (checkout / "dist").mkdir()
    for name in ("otel_novu-1-py3-none-any.whl", "otel_novu-1.tar.gz"):
        (checkout / "dist" / name).write_text(name)
    assert dry_run(NOTES, checkout).returncode == 0
    done = dry_run(GATHER, checkout, repository="Otel-Novu/otel-novu")
    assert done.returncode == 0, done.stderr
    files = checkout / "release" / "files"
    names = {"novu.json", "alerts.yml", "rules.yml", "prometheusrule.yaml", "otel-novu.service"}
    names |= {"usage.yaml", "beacons.yaml", "kustomization.yaml", "compose.override.yaml"}
    names |= {
        "collector-config.yaml",
        "SHA256SUMS",
        *(file.name for file in (checkout / "dist").iterdir()),
    }
    assert {file.name for file in files.iterdir()} == names
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=files, check=True)
    image = f"ghcr.io/otel-novu/otel-novu:{__version__}"
    for name in ("usage.yaml", "beacons.yaml", "compose.override.yaml"):
        assert re.findall(r"image: (.*)", (files / name).read_text()) == [image]
    [named] = yaml.safe_load((files / "kustomization.yaml").read_text())["images"]
    assert f"{named['name']}:{named['newTag']}" == image


def test_the_image_has_a_name_that_a_registry_accepts(checkout: Path) -> None:
    assert dry_run(IMAGE, checkout, repository="Otel-Novu/Otel-Novu").returncode == 0
    image = "ghcr.io/otel-novu/otel-novu"
    expected = f"tags={image}:{__version__},{image}:latest\n"
    assert (checkout / "output").read_text() == expected
    [build] = [step["with"] for step in JOBS["image"]["steps"] if "build-push" in str(step)]
    assert build["platforms"] == "linux/amd64,linux/arm64"
    assert (build["provenance"], build["sbom"], build["push"]) == ("mode=max", True, True)


def test_the_release_gets_text_and_files(checkout: Path) -> None:
    (checkout / "release" / "files").mkdir(parents=True)
    (checkout / "release" / "files" / "novu.json").touch()
    gh = checkout / "gh"
    gh.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    gh.chmod(0o755)
    words = dry_run(RELEASE, checkout).stdout.splitlines()
    assert words[:3] == ["release", "create", f"v{__version__}"]
    assert words[words.index("--repo") + 1] == REPOSITORY
    assert words[words.index("--notes-file") + 1] == "release/notes.md"
    assert words[-1] == "release/files/novu.json"
