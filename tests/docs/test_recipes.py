"""What the recipes promise about rights: pull requests read a cache, and only main writes to it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.docs.pages import fences

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/github-actions.md"
WORKFLOWS = {
    fence.title: yaml.safe_load(fence.text)
    for fence in fences(PAGE.read_text(encoding="utf-8"))
    if fence.kind == "yaml"
}
ON_MAIN = "github.ref == 'refs/heads/main'"


@pytest.mark.parametrize("workflow", WORKFLOWS.values(), ids=list(WORKFLOWS))
def test_a_pull_request_saves_nothing(workflow: dict[Any, Any]) -> None:
    # YAML reads the key `on` as true.
    assert set(workflow[True]) == {"push", "pull_request"}
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    for step in job["steps"]:
        used = step.get("uses", "").partition("@")[0]
        # `actions/cache` itself saves after every job.
        assert used != "actions/cache"
        if used == "actions/cache/save":
            assert step["if"] == ON_MAIN


def test_a_shared_cache_is_written_to_on_main_only() -> None:
    job = WORKFLOWS[".github/workflows/shared.yml"]["jobs"]["tests"]
    assert job["env"]["WELLKEPT_CACHE"] == f"${{{{ {ON_MAIN} && 'writing' || 'reading' }}}}"
    assert job["environment"] == f"${{{{ {ON_MAIN} && 'main' || 'pull-request' }}}}"
