"""The entry point of the pytest plugin, for sessions that tests start, also where no wheel is installed."""

import os
from pathlib import Path

import wellkept


def with_plugin() -> dict[str, str]:
    """Return the environment of a session that has the plugin as one does after `pip install`."""
    made = Path(os.environ["HOME"], ".pytest-entry")
    listed = made / "wellkept_entry-0.dist-info"
    listed.mkdir(parents=True, exist_ok=True)
    (listed / "METADATA").write_text("Metadata-Version: 2.1\nName: wellkept-entry\n")
    (listed / "entry_points.txt").write_text(
        "[pytest11]\nwellkept = wellkept.testing.pytest_plugin\n"
    )
    source = str(Path(wellkept.__file__).parents[1])
    before = os.environ.get("PYTHONPATH", "")
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (source, str(made), before)))}
