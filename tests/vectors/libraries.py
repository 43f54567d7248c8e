"""Vectors of library types: the digests of `EXPRESSIONS` are in libraries.json.

    python libraries.py SRC [write]

Prints them as JSON, of what is installed for the running interpreter; `write` adds those of new
expressions to the file, where what is there already is never changed.
"""

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FILE = HERE / "libraries.json"
NEEDED = {"np": "numpy", "pd": "pandas", "pa": "pyarrow", "xr": "xarray", "pl": "polars"} | {
    name: name
    for name in ("scipy.sparse", "networkx", "shapely", "sympy", "PIL.Image", "ipaddress")
}

# The first of each library are of the scheme k1; the others have tags of k2.
EXPRESSIONS = """
np.arange(6).reshape(2, 3)
np.zeros(2, [("a", "<i4"), ("b", "<f8")])
np.ma.array([1, 2], mask=[0, 1])
np.float32(1)
np.zeros(1, [(("title", "a"), "<i4")])
pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})
pd.Series([1, 2], name="a")
pd.RangeIndex(3, name="a")
pd.Index([1, 2])
pd.date_range("2020", periods=3, freq="D", unit="ns")
pd.Categorical([1], [1, 2], ordered=True)
pd.array([1, None], dtype="Int64")
pd.Timestamp("2020", tz="UTC").as_unit("ns")
pd.MultiIndex.from_product([[1, 2], [3]], names=["a", "b"])
pd.MultiIndex.from_product([[1, 2], [3]], names=["a", "b"])[:1]
pd.DataFrame({"a": [1]}, pd.MultiIndex.from_product([[1], [3]]))
pd.DatetimeIndex(["2020-01-02"], freq=pd.offsets.CustomBusinessDay(holidays=["2020"])).as_unit("ns")
pa.array([1, None])
pa.array(["a", "b"])
pa.table({"a": [1, 2], "b": [[1], [2]]})
pa.schema([pa.field("a", pa.int64(), metadata={"x": "1"})])
pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), ["a", "b"])
pa.table({"a": pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), ["a"])})
pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1]), pa.array(["a"])])
pa.struct([pa.field("a", pa.int64(), metadata={"x": "1"})])
pl.DataFrame({"a": [1, 2], "b": ["x", "y"]})
pl.Series("a", [0.5, None])
xr.Dataset({"a": ("x", [0.0, 1.0])}, coords={"x": [1, 2]}, attrs={"t": 1})
xr.DataArray([1, 2], dims="x")
xr.Variable("x", [1.0], {"u": 1}, {"_FillValue": -9})
xr.DataArray(pd.Categorical([1], [1, 2]), dims="x")
scipy.sparse.csr_array(np.eye(2))
ipaddress.ip_network("10.0.0.0/8")
shapely.Point(0, 1)
sympy.Function("f", real=True)
PIL.Image.new("L", (2, 2), 3)
""".strip().splitlines()


def digests(src: str) -> dict[str, str]:
    import importlib
    import warnings

    sys.path.insert(0, src)
    from wellkept.hashing import digest

    names: dict[str, Any] = {}
    for name, module in NEEDED.items():
        try:
            found = importlib.import_module(module)
        except ImportError:
            continue
        names[name.partition(".")[0]] = (
            found if "." not in name else sys.modules[name.split(".")[0]]
        )
    made = {}
    for text in EXPRESSIONS:
        if text.split(".")[0] in names:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made[text] = str(digest(eval(text, dict(names))))
    return made


if __name__ == "__main__":
    found = digests(sys.argv[1])
    if "write" in sys.argv:
        kept = json.loads(FILE.read_text()) if FILE.exists() else {}
        FILE.write_text(json.dumps({**found, **kept}, indent=1) + "\n")
    json.dump({"python": sys.version.split()[0], "digests": found}, sys.stdout)
