"""Every snippet of the documentation is run: a page is one test, with an empty directory and cache."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.docs.commands import Commands
from tests.docs.pages import NEEDS, PAGES, ROOT, Page, fences, read
from tests.pytest_entry import with_plugin


def test_every_page_is_named_where_readers_begin() -> None:
    begin = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert [page for page in sorted(pages - {"index.md"}) if f"]({page})" not in begin] == []


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    made = Commands()
    yield made
    made.close()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_snippet_of_the_page_does_what_it_shows(
    path: Path, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = path.relative_to(ROOT).as_posix()
    for module in NEEDS.get(name, ()):
        pytest.importorskip(module)
    # The reader has set nothing: the default cache is below the test's empty home.
    monkeypatch.delenv("WELLKEPT_CACHE")
    read(name, path.read_text(encoding="utf-8"), Page(name, with_plugin, commands.run))


GOOD = """
Text, then a function whose source is read:

```python
import inspect

def twice(n):
    return 2 * n

twice(4)  # -> 8
print("a", twice(1))  # -> a 2
assert inspect.getsource(twice).startswith("def twice")
```

1. in a list

    ```pycon
    >>> twice(3)
    6
    ```

```python title="greet.py"
print("hello from a file")
```

```console
$ python greet.py
hello from ...
$ make demo
```

```toml title="wellkept.toml"
[caches]
```

```text
$ anything
```
"""


@pytest.fixture
def page() -> Iterator[Page]:
    made = Page("made-up.md")
    yield made
    made.leave()


def read_all(page: Page, text: str) -> list[str]:
    read = list(fences(text))
    for fence in read:
        page.read(fence)
    return [fence.kind for fence in read]


def test_the_runner_reads_a_good_page(page: Page) -> None:
    kinds = read_all(page, GOOD)
    assert kinds == ["python", "pycon", "python", "console", "toml", "text"]


@pytest.mark.parametrize(
    "bad",
    [
        "```python\n1 + 1  # -> 3\n```",
        "```python\nprint('a')  # -> b\n```",
        "```python\nraise ValueError\n```",
        "```pycon\n>>> 1 + 1\n3\n```",
        "```pycon\n1 + 1\n```",
        "```console\n$ false\n```",
        "```console\n$ echo a\nb\n```",
        "```toml\n= 1\n```",
        "```json\n{,}\n```",
        "```yaml\na: [\n```",
        "```dockerfile\nFORM python\n```",
        "```\nno kind\n```",
        "```python\n# never closed",
    ],
)
def test_the_runner_refuses_a_page_that_shows_what_is_not_so(page: Page, bad: str) -> None:
    with pytest.raises((AssertionError, ValueError, SyntaxError, yaml.YAMLError)):
        read_all(page, bad)
