"""Each optional package missing: one error that names the extra to install, and nothing else breaks."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {name!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
import kept
from kept import ConfigError, keep
from kept.stores import *
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
    ("sqlalchemy", 'kept.open("postgresql://u:s3cret@h/d")', "sql", "postgresql"),
    ("sqlalchemy", 'kept.open("mariadb://u:s3cret@h/d")', "sql", "mariadb"),
    ("psycopg", 'kept.open("postgresql://u:s3cret@h/d")', "psycopg", "postgresql"),
    ("pymysql", 'kept.open("mariadb://u:s3cret@h/d")', "pymysql", "mariadb"),
    ("redis", 'kept.open("redis://u:s3cret@h/0")', "redis", "redis"),
    (
        "obstore",
        'kept.open("s3://b/p", access_key_id="a", secret_access_key="s3cret")',
        "obstore",
        "s3",
    ),
    ("obstore", 'kept.open("gs://b/p", skip_signature=True)', "obstore", "s3"),
    ("h5py", 'kept.open("hdf5:x.h5")', "h5py", "hdf5"),
    ("h5py", 'keep(codec="hdf5", version=1, strict=True)(abs)(1)', "h5py", "hdf5"),
    ("bagofholding", 'keep(codec="hdf5", version=1, strict=True)(abs)(1)', "bagofholding", "hdf5"),
    ("dill", 'keep(codec="dill", version=1, strict=True)(abs)(1)', "dill", "dill"),
    ("pyarrow", 'keep(codec="arrow", version=1, strict=True)(abs)(1)', "pyarrow", "arrow"),
    ("numpy", 'keep(codec="npy", version=1, strict=True)(abs)(1)', "NumPy", "numpy"),
    ("numpy", 'kept.open("hdf5:x.h5")', "HDF5", "hdf5"),
    ("httpx", 'kept.open("https://s3cret@h/team")', "httpx", "http"),
    *(
        (package, 'from kept.cli.serve import serve; serve(["./c"])', package, "server")
        for package in ("starlette", "uvicorn")
    ),
    (
        "networkx",
        "from kept.runs.graph import Graph; Graph({}, []).to_networkx()",
        "networkx",
        "graph",
    ),
    ("hamilton", "import kept.integrations.hamilton", "Hamilton", "hamilton"),
    ("dask", "import kept.integrations.dask", "Dask", "dask"),
    ("ray", "import kept.integrations.ray", "Ray", "ray"),
    ("executorlib", "import kept.integrations.executorlib", "executorlib", "executorlib"),
    ("joblib", "import kept.integrations.joblib", "joblib", "joblib"),
    ("zstandard", "Compressed(Memory())", "zstandard", "zstd"),
    ("zstandard", 'Compressed(Memory(), "gzip").put("a", b"x")', "", ""),
]


@pytest.mark.parametrize(("package", "code", "names", "extra"), CASES)
def test_a_missing_package(package: str, code: str, names: str, extra: str) -> None:
    if package == "zstandard" and sys.version_info >= (3, 14):
        pytest.skip("zstd is in the standard library")
    made = BLOCK.format(name=package, code=code)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", made], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1, lines
    if not extra:
        assert lines == ["no error"]
        return
    assert f"pip install 'kept[{extra}]'" in lines[0]
    assert names in lines[0]
    assert "s3cret" not in lines[0]


def test_every_extra_is_tried() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    told = {extra for *_, extra in CASES}
    # Frames are digested only where pandas was imported already; the demo and the integrations say
    # their own.
    others = {"all", "sql", "pandas", "demo"}
    others |= {path.stem for path in (ROOT / "src/kept/integrations").glob("*")}
    assert set(project["optional-dependencies"]) - others <= told
