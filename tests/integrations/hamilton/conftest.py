"""No run of one test is written in the next one's time."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from wellkept.integrations.hamilton.run_history import ending


@pytest.fixture(autouse=True)
def ended(home: Path) -> Iterator[None]:
    yield
    ending.finish()
