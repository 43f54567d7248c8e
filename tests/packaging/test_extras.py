"""Each optional package missing: one error that names the extra to install, and nothing else breaks."""

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.forks import Forks

ROOT = Path(__file__).parents[2]

BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {name!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
import wellkept
from wellkept import ConfigError, keep
from wellkept.stores import *
try:
    {code}
except ConfigError as error:
    print(error)
else:
    print("no error")

@keep(version=1)
def f(x):
    return [x]
assert f(1) == f(1) and f.stats().hits == 1 and f.stats().unavailable == 0
"""

CASES = [
    ("sqlalchemy", 'wellkept.open("postgresql://u:s3cret@h/d")', "sql", "postgresql"),
    ("sqlalchemy", 'wellkept.open("mariadb://u:s3cret@h/d")', "sql", "mariadb"),
    ("psycopg", 'wellkept.open("postgresql://u:s3cret@h/d")', "psycopg", "postgresql"),
    ("pymysql", 'wellkept.open("mariadb://u:s3cret@h/d")', "pymysql", "mariadb"),
    ("redis", 'wellkept.open("redis://u:s3cret@h/0")', "redis", "redis"),
    (
        "obstore",
        'wellkept.open("s3://b/p", access_key_id="a", secret_access_key="s3cret")',
        "obstore",
        "s3",
    ),
    ("obstore", 'wellkept.open("gs://b/p", skip_signature=True)', "obstore", "s3"),
    ("h5py", 'wellkept.open("hdf5:x.h5")', "h5py", "hdf5"),
    ("h5py", 'keep(codec="hdf5", version=1, strict=True)(abs)(1)', "h5py", "hdf5"),
    ("bagofholding", 'keep(codec="hdf5", version=1, strict=True)(abs)(1)', "bagofholding", "hdf5"),
    ("dill", 'keep(codec="dill", version=1, strict=True)(abs)(1)', "dill", "dill"),
    ("pyarrow", 'keep(codec="arrow", version=1, strict=True)(abs)(1)', "pyarrow", "arrow"),
    ("numpy", 'keep(codec="npy", version=1, strict=True)(abs)(1)', "NumPy", "numpy"),
    ("numpy", 'wellkept.open("hdf5:x.h5")', "HDF5", "hdf5"),
    *(
        (package, 'from wellkept.cli.serve import serve; serve(["./c"])', package, "server")
        for package in ("prometheus_client", "starlette", "uvicorn")
    ),
    *((package, "wellkept.ui()", package, "ui") for package in ("jinja2", "starlette", "uvicorn")),
    ("jinja2", 'from wellkept.cli.ui import ui; ui("./c")', "jinja2", "ui"),
    (
        "networkx",
        "from wellkept.runs.graph import Graph; Graph({}, []).to_networkx()",
        "networkx",
        "graph",
    ),
    ("hamilton", "import wellkept.integrations.hamilton", "Hamilton", "hamilton"),
    ("dask", "import wellkept.integrations.dask", "Dask", "dask"),
    ("ray", "import wellkept.integrations.ray", "Ray", "ray"),
    ("executorlib", "import wellkept.integrations.executorlib", "executorlib", "executorlib"),
    ("joblib", "import wellkept.integrations.joblib", "joblib", "joblib"),
    (
        "opentelemetry",
        "import wellkept.integrations.opentelemetry",
        "OpenTelemetry",
        "opentelemetry",
    ),
    ("key_value", "import wellkept.integrations.key_value", "py-key-value", "key-value"),
    *(
        (name, f"import wellkept.integrations.{name}", name, name)
        for name in ("langgraph", "litellm", "dspy")
    ),
    ("zstandard", "Compressed(Memory())", "zstandard", "zstd"),
    ("zstandard", 'Compressed(Memory(), "gzip").put("a", b"x")', "", ""),
    ("msgspec", "pass", "", ""),  # imported with the first remote cache only
]


# What every program imports, and none of the optional packages.
BEGIN = """
import asyncio, sys
import wellkept.caches.building, wellkept.errors, wellkept.memo.keep, wellkept.stores.embedded
met = {case.partition(".")[0] for case in sys.modules} & %r
assert not met, met
"""


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    made = Forks(BEGIN % {package for package, *_ in CASES}, "-W", "error")
    yield made
    made.close()


@pytest.mark.parametrize(("package", "code", "names", "extra"), CASES)
def test_a_missing_package(forks: Forks, package: str, code: str, names: str, extra: str) -> None:
    if package == "zstandard" and sys.version_info >= (3, 14):
        pytest.skip("zstd is in the standard library")
    status, printed = forks.run(BLOCK.format(name=package, code=code))
    assert status == 0, printed
    lines = printed.splitlines()
    assert len(lines) == 1, lines
    if not extra:
        assert lines == ["no error"]
        return
    assert f"pip install 'wellkept[{extra}]'" in lines[0]
    assert names in lines[0]
    assert "s3cret" not in lines[0]


def test_every_extra_is_tried() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    told = {extra for *_, extra in CASES}
    # Frames and lazy arrays are met only where their library was imported already; the demo and the
    # integrations say their own.
    others = {"all", "sql", "pandas", "demo", "lazy"}
    others |= {path.stem for path in (ROOT / "src/wellkept/integrations").glob("*")}
    assert set(project["optional-dependencies"]) - others <= told
