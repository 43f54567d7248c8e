"""What the tests of `@keep` share."""

import pytest


@pytest.fixture(autouse=True)
def ran(request: pytest.FixtureRequest) -> None:
    """Empty the module's `RAN`, to which bodies append: a global, because a closure would count."""
    getattr(request.module, "RAN", []).clear()
