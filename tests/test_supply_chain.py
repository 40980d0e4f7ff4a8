"""What is installed and what builds it: locked, pinned, and with no more rights than needed."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = {name: (ROOT / name).read_text() for name in ("requirements.txt", "requirements-dev.txt")}
LOCKED = {
    name: dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", text, re.MULTILINE))
    for name, text in LOCKS.items()
}
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TEMPLATES = set((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
CONFIG = ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml"
WORKFLOWS: list[dict[Any, Any]] = [yaml.safe_load(file.read_text()) for file in FILES]
JOBS = [job for workflow in WORKFLOWS for job in workflow["jobs"].values()]
STEPS = [step for job in JOBS for step in job["steps"]]


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_is_locked_to_a_version_and_hashes_and_to_no_place(name: str) -> None:
    text = LOCKS[name].replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    for line in lines:
        assert re.match(r"[a-z0-9._-]+==\S+( ;[^-]*)? +--hash=sha256:[0-9a-f]{64}", line), line
    assert len(lines) == len(LOCKED[name]) > 15
    assert "://" not in text
    assert not re.search(r"^\s*--?(i|index-url|extra-index-url|find-links)\b", text, re.MULTILINE)


def test_the_lock_has_every_declared_package_and_what_ships_is_what_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime, dev = project["project"]["dependencies"], project["dependency-groups"]["dev"]
    for lock, declared in (("requirements.txt", runtime), ("requirements-dev.txt", dev)):
        for requirement in map(Requirement, declared):
            version = LOCKED[lock][canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version, prereleases=True), requirement
    assert LOCKED["requirements.txt"].items() <= LOCKED["requirements-dev.txt"].items()


YANKED = (  # as pip 23.2 says it
    "WARNING: The candidate selected for download or install is a yanked version: 'urllib3' "
    "candidate (version 2.0.0 at https://index.example/urllib3-2.0.0.whl)\n"
)


@pytest.mark.parametrize(
    ("log", "lock", "named"),
    [
        ("", LOCKS["requirements.txt"], ""),
        (YANKED, "", "urllib3"),
        ("", "no-such-package==1.0 \\\n    --hash=sha256:00\n", "no-such-package"),
    ],
    ids=["what ships", "yanked", "without a known license"],
)
def test_the_audit_finds_yanked_packages_and_licenses_that_are_not_accepted(
    log: str, lock: str, named: str, tmp_path: Path
) -> None:
    (tmp_path / "log").write_text(log)
    (tmp_path / "lock").write_text(lock)
    command = [sys.executable, str(ROOT / ".ci" / "audit_judge.py"), "log", "lock"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, bool(done.stderr)) == (int(bool(named)), bool(named))
    assert named in done.stderr


def test_the_gate_and_a_workflow_run_the_audit() -> None:
    assert re.search(r"^\.ci/audit$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert ".ci/audit" in [step.get("run") for step in STEPS]


def test_every_python_and_the_lowest_versions_are_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = set(re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"])))
    [rows] = [job["strategy"]["matrix"]["include"] for job in JOBS if "strategy" in job]
    assert {row["python"] for row in rows} == declared
    makefile = (ROOT / "Makefile").read_text()
    others = re.search(r"^FURTHER_PYTHONS \?= (.*)", makefile, re.MULTILINE)
    assert others
    assert {project["requires-python"].removeprefix(">="), *others[1].split()} == declared
    assert re.search(r"^RESOLUTIONS \?= lowest-direct highest$", makefile, re.MULTILINE)
    assert "test-versions" in {row["verb"] for row in rows}
    assert "\nmake test-versions RESOLUTIONS=lowest-direct\n" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", FILES),
        ("dependabot", [ROOT / ".github" / "dependabot.yml"]),
        ("github-issue-forms", sorted(TEMPLATES - {CONFIG})),
        ("github-issue-config", [CONFIG]),
    ],
)
def test_workflows_dependabot_and_issue_templates_fit_their_schemas(
    schema: str, files: list[Path]
) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    subprocess.run([*command, *files], check=True)


def test_pre_commit_downloads_nothing_and_runs_what_make_check_runs() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    [repository] = config["repos"]
    assert repository["repo"] == "local"
    checks = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        words = hook["entry"].replace(".venv/bin/", "$(BIN)/")
        assert f"\t{words}" in checks


def test_the_package_names_its_repository_in_every_address() -> None:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert set(urls) == {"Source", "Documentation", "Changelog", "Issues"}
    assert all(f"{url}/".startswith(f"{urls['Source']}/") for url in urls.values())


def test_every_action_is_pinned_to_a_commit_with_its_release_beside_it() -> None:
    uses = {use for file in FILES for use in re.findall(r"uses: (.*)", file.read_text())}
    assert uses
    for use in uses:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use), use
    # One action has one commit everywhere.
    assert len(uses) == len({use.partition("@")[0] for use in uses})


# What the jobs of a release may do beyond reading the code.
RELEASE_RIGHTS = {
    "build": {"contents": "read"},
    "image": {"contents": "read", "packages": "write"},
    "publish": {"id-token": "write"},
    "release": {"contents": "write"},
}


def test_workflows_may_only_read_the_code_and_see_no_secret() -> None:
    for file, workflow in zip(FILES, WORKFLOWS, strict=True):
        assert workflow["permissions"] == {}
        assert not re.search(r"secrets\.|GITHUB_TOKEN", file.read_text())
        if file.name == "release.yml":
            continue
        # YAML reads the key `on` as True.
        assert set(workflow[True]) <= {"push", "pull_request", "schedule"}
        assert "github.token" not in file.read_text()
        assert all(job["permissions"] == {"contents": "read"} for job in workflow["jobs"].values())
    for job in JOBS:
        assert (job["timeout-minutes"] <= 60, job["runs-on"]) == (True, "ubuntu-24.04")
    for step in STEPS:
        checkout = step.get("uses", "").startswith("actions/checkout@")
        assert not checkout or step["with"]["persist-credentials"] is False
        assert "${{" not in step.get("run", "")


def test_a_release_starts_by_a_tag_and_each_of_its_jobs_has_the_rights_of_its_last_step() -> None:
    [workflow] = [w for f, w in zip(FILES, WORKFLOWS, strict=True) if f.name == "release.yml"]
    assert workflow[True] == {"push": {"tags": ["v*"]}}
    rights = {name: job["permissions"] for name, job in workflow["jobs"].items()}
    assert rights == RELEASE_RIGHTS
    for name, job in workflow["jobs"].items():
        uses_token = "github.token" in str(job)
        assert uses_token == (name in {"image", "release"})
        # What is published does not run beside the rights to publish.
        assert name in {"build", "image"} or "checkout" not in str(job)
