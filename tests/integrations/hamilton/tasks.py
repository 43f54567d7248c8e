"""A flow of tasks, which worker processes import."""

from hamilton.function_modifiers import cache
from hamilton.htypes import Collect, Parallelizable
from tests.integrations.hamilton.flows import ran


def count(size: int) -> int:
    ran("count")
    return size


def step(count: int) -> Parallelizable[int]:
    yield from range(count)


def square(step: int) -> int:
    ran("square")
    return step**2


@cache(format="json")
def described(step: int, square: int) -> dict:  # type: ignore[type-arg]  # Hamilton wants it plain
    ran("described")
    return {"step": step, "square": square}


def total(described: Collect[dict]) -> int:  # type: ignore[type-arg]  # as above
    ran("total")
    return sum(item["square"] for item in described)


def final(total: int) -> int:
    ran("final")
    return total + 1
