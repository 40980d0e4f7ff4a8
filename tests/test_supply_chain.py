"""What is installed and what builds it: locked, pinned, and with no more rights than needed."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = {name: (ROOT / name).read_text() for name in ("requirements.txt", "requirements-dev.txt")}
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
JUDGE = ROOT / ".ci" / "audit_judge.py"


def locked(name: str) -> dict[str, str]:
    """Versions by package."""
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", LOCKS[name], re.MULTILINE))


def parsed(workflow: Path) -> dict[str, Any]:
    document = yaml.safe_load(workflow.read_text())
    assert isinstance(document, dict)
    return document


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for workflow in WORKFLOWS:
        for name, job in parsed(workflow)["jobs"].items():
            yield f"{workflow.name}: {name}", job


# The lock


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_is_locked_to_a_version_and_to_hashes(name: str) -> None:
    text = LOCKS[name].replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    for line in lines:
        assert re.match(r"[a-z0-9._-]+==\S+( ;[^-]*)? +--hash=sha256:[0-9a-f]{64}", line), line
    assert len(lines) == len(locked(name)) > 20


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_names_no_place_to_get_packages_from(name: str) -> None:
    assert "://" not in LOCKS[name]
    assert not re.search(
        r"^\s*--?(i|index-url|extra-index-url|find-links)\b", LOCKS[name], re.MULTILINE
    )


def test_what_ships_is_what_is_tested() -> None:
    assert locked("requirements.txt").items() <= locked("requirements-dev.txt").items()


def test_the_lock_has_every_package_that_is_declared_in_a_version_that_fits() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = {
        "requirements.txt": project["project"]["dependencies"],
        "requirements-dev.txt": project["dependency-groups"]["dev"],
    }
    for name, declared in groups.items():
        for requirement in map(Requirement, declared):
            version = locked(name)[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version, prereleases=True), requirement


# The audit


def judged(tmp_path: Path, log: str, lock: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "log").write_text(log)
    (tmp_path / "lock").write_text(lock)
    command = [sys.executable, str(JUDGE), str(tmp_path / "log"), str(tmp_path / "lock")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_ships_comes_under_licences_that_are_accepted(tmp_path: Path) -> None:
    done = judged(tmp_path, "", LOCKS["requirements.txt"])
    assert (done.returncode, done.stderr) == (0, "")


def test_a_yanked_package_is_a_fault(tmp_path: Path) -> None:
    # As pip 23.2 says it.
    log = (
        "WARNING: The candidate selected for download or install is a yanked version: 'urllib3' "
        "candidate (version 2.0.0 at https://index.example/urllib3-2.0.0.whl)\n"
        "Reason for being yanked: Truncated response bodies.\n"
    )
    done = judged(tmp_path, log, "")
    assert done.returncode == 1
    assert (
        done.stderr == "audit: urllib3: the locked version is yanked; `make lock` takes another.\n"
    )


def test_a_package_without_a_known_licence_is_a_fault(tmp_path: Path) -> None:
    done = judged(tmp_path, "", "no-such-package==1.0 \\\n    --hash=sha256:00\n")
    assert done.returncode == 1
    assert "no-such-package: its licence is not one that we accept (none is told)" in done.stderr


def test_the_gate_audits() -> None:
    assert re.search(r"^\.ci/audit$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert any(step.get("run") == ".ci/audit" for _, job in jobs() for step in job["steps"])


# The workflows


def test_workflows_and_dependabot_fit_their_schemas() -> None:
    for schema, files in (
        ("vendor.github-workflows", WORKFLOWS),
        ("vendor.dependabot", [ROOT / ".github" / "dependabot.yml"]),
    ):
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
        subprocess.run([*command, *map(str, files)], check=True, capture_output=True)


def test_every_action_is_pinned_to_a_commit_with_its_release_behind_it() -> None:
    pins: dict[str, tuple[str, ...]] = {}
    for workflow in WORKFLOWS:
        for line in re.findall(r"uses:.*", workflow.read_text()):
            pin = re.fullmatch(r"uses: ([\w./-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)", line)
            assert pin, f"{workflow.name}: {line}"
            # One action, one commit, everywhere.
            assert pins.setdefault(pin[1], pin.group(2, 3)) == pin.group(2, 3)
    assert set(pins) >= {"actions/checkout", "actions/setup-python"}


def test_no_job_may_do_more_than_read_the_code() -> None:
    for workflow in WORKFLOWS:
        assert parsed(workflow)["permissions"] == {}
    for name, job in jobs():
        assert job["permissions"] == {"contents": "read"}, name
        assert job["timeout-minutes"] <= 60, name
        assert job["runs-on"] == "ubuntu-24.04", name


def test_no_workflow_runs_with_others_rights_or_sees_a_secret() -> None:
    for workflow in WORKFLOWS:
        text = workflow.read_text()
        # YAML reads the key `on` as a truth value.
        triggers = set(parsed(workflow)[True])  # type: ignore[index]
        assert triggers <= {"push", "pull_request", "schedule"}
        assert "secrets." not in text
        assert "GITHUB_TOKEN" not in text


def test_the_checkout_leaves_no_token_behind_and_no_step_runs_text_from_outside() -> None:
    for name, job in jobs():
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False, name
            assert "${{" not in step.get("run", ""), name


def test_the_security_page_says_how_to_report() -> None:
    page = (ROOT / "SECURITY.md").read_text()
    assert "Report a vulnerability" in page
    for link in re.findall(r"\]\(([^)]+)\)", page):
        assert (ROOT / link).exists(), link
