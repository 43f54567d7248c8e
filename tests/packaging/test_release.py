"""What a release is made by: workflows, forms and recipes that parse, pin what they use, and agree."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_pins_what_it_uses_and_may_do_little(path: Path) -> None:
    said = read(path)
    assert said["permissions"] == {"contents": "read"}
    assert set(said[True]) <= {"push", "pull_request"}  # YAML reads `on` as a truth
    for name, job in said["jobs"].items():
        assert job["timeout-minutes"] <= 90, name
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            if "uses" in step:
                assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", step["uses"]), step["uses"]
                if "/checkout@" in step["uses"]:
                    assert step["with"]["persist-credentials"] is False
            # What others choose, such as the name of a branch, is no part of a script.
            assert "${{" not in step.get("run", "")
    # The version stands beside each, for people.
    for line in path.read_text("utf-8").splitlines():
        if "uses:" in line:
            assert re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_only_the_release_may_sign_and_publish() -> None:
    jobs = read(ROOT / ".github/workflows/release.yml")["jobs"]
    signs = {name for name, job in jobs.items() if "id-token" in job.get("permissions", {})}
    assert signs == {"attest", "publish"}
    assert jobs["publish"]["needs"] == ["build", "attest"]
    assert not any("run" in step for name in signs for step in jobs[name]["steps"])


def test_each_system_and_python_is_in_the_workflow() -> None:
    matrix = read(ROOT / ".github/workflows/test.yml")["jobs"]["systems"]["strategy"]["matrix"]
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    tried = {*matrix["python"], *(more["python"] for more in matrix["include"])}
    said = {found[1] for c in PROJECT["classifiers"] if (found := re.search(r":: (3\.\d+)$", c))}
    assert tried == said == {"3.11", "3.12", "3.13", "3.14"}


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_an_issue_form_is_one(path: Path) -> None:
    said = read(path)
    if path.name == "config.yml":
        assert set(said) <= {"blank_issues_enabled", "contact_links"}
        return
    assert {"name", "description", "body"} <= set(said) <= {"name", "description", "body", "labels"}
    assert any(field.get("validations", {}).get("required") for field in said["body"])
    for field in said["body"]:
        assert field["type"] in ("textarea", "dropdown", "input", "checkboxes")
        assert re.fullmatch(r"[a-z-]+", field["id"])
        assert field["attributes"]["label"]


def test_the_recipe_asks_for_what_the_package_asks_for() -> None:
    recipe = read(ROOT / "recipe" / "recipe.yaml")
    assert recipe["context"]["version"] == PROJECT["version"]
    python, *others = recipe["requirements"]["run"]
    assert python == "python >=${{ python_min }}"
    assert recipe["context"]["python_min"] == PROJECT["requires-python"].removeprefix(">=")
    assert [other.replace(" ", "") for other in others] == PROJECT["dependencies"]
    scripts = [f"{name} = {place}" for name, place in PROJECT["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == scripts


def test_what_runs_before_a_commit_is_pinned() -> None:
    for repository in read(ROOT / ".pre-commit-config.yaml")["repos"]:
        assert re.fullmatch(r"v\d+\.\d+\.\d+", repository["rev"])


def test_the_version_is_one() -> None:
    assert read(ROOT / "CITATION.cff")["version"] == PROJECT["version"]
    assert f"## {PROJECT['version']} " in (ROOT / "CHANGELOG.md").read_text("utf-8")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The wheel and the sdist, built by what a release builds them by."""
    made = tmp_path_factory.mktemp("dist")
    builder = tmp_path_factory.mktemp("builder")
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--target", str(builder), "hatchling"]
    subprocess.run(pip, check=True, timeout=300)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(made)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(builder)},
        check=True,
        timeout=300,
    )
    return sorted(map(str, made.iterdir()))


def pythons() -> list[str]:
    done = subprocess.run([ROOT / "scripts/pythons"], capture_output=True, text=True, check=True)
    return [line.partition(" ")[2] for line in done.stdout.splitlines()]


@pytest.mark.long
@pytest.mark.skipif(
    sys.platform == "win32", reason="scripts/pythons looks for Pythons as POSIX has them"
)
@pytest.mark.timeout(900)
def test_wheel_and_sdist_work_in_an_empty_environment_on_each_python(built: list[str]) -> None:
    assert [Path(file).name.rpartition("-")[0] for file in built] == [
        f"wellkept-{PROJECT['version']}-py3-none",
        "wellkept",
    ]
    wheel, _ = built
    # The wheel that an sdist makes is the same for each.
    tried = {python: [wheel] for python in pythons()}
    tried[next(iter(tried))] = built
    started = [
        subprocess.Popen(
            [ROOT / "scripts/try-install", *files],
            env=os.environ | {"PYTHON": python, "INSTALLER": sys.executable},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for python, files in tried.items()
    ]
    for (python, files), process in zip(tried.items(), started, strict=True):
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, f"{python}\n{said}"
        assert said.count("installs, keeps, and has its command") == len(files)
