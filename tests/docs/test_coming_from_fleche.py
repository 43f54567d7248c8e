"""The page for those who come from fleche names each name of its documents, and what it says is there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import wellkept
from wellkept import Cache, Kept, Matches, stores

PAGE = Path(__file__).parents[2] / "docs/how-to/coming-from-fleche.md"

NAMES = """
fleche version hash_version hash_module hash_code require ignore isolate digest contains load call query
arguments result metadata cache Cache CacheStack values _calls Memory PickleFile with_pickle with_cloudpickle
with_dill root compress CloudpickleFile DillFile BagOfHoldingH5File Sql url echo engine session
SaveError AmbiguousDigestError KeyManagement StorageBackend ValueStorage ValueMixin CallStorage CallMixin
DestructuringMixin remaining_depth ValueMemory CallMemory ValueVoid CallVoid FileStorage ValuePickleFile
CallPickleFile ValueBagOfHoldingH5File CallBagOfHoldingH5File SerializingMixin PerKeyLockMixin QueryCall Digest
_operation_context _to_file _from_file lock_timeout lock_wait_start list evict expand shrink put get save
transform
sqlalchemy cloudpickle dill bagofholding ssh executorlib storage remote serve toml XDG
tags meta project BoundWrapper wrap_executor rerun D add_hook Ignored Required SizeLimitedCache ReadOnlyCache
filter
redigest gc SshCache table Runtime Git Environment bind skip unique transfer from_config to_config stack
"""


@pytest.mark.parametrize("name", NAMES.split())
def test_each_name_is_on_the_page(name: str) -> None:
    page = PAGE.read_text(encoding="utf-8").partition("## Quick start")[0]
    said = {word for code in re.findall("`[^`]+`", page) for word in re.findall(r"\w+", code)}
    assert name in said | set(re.findall(r"\w+", page) if name == "XDG" else ())


@pytest.mark.parametrize(
    ("where", "names"),
    [
        (
            wellkept,
            "keep use set_cache active_cache refresh tags meta run executor D Digest Call Stack Pool",
        ),
        (
            wellkept,
            "register_digest Ignored Required ANY open EncodeError StoreError AmbiguousDigest",
        ),
        (Kept, "key contains load call query rerun bind submit map put"),
        (
            Cache,
            "readonly limited filtered bind save put load evict expand shrink gc transform migrate",
        ),
        (Cache, "transfer from_config to_config query calls values"),
        (Matches, "where skip unique filter sorted group_by to_pandas to_polars to_arrow"),
        (stores, "Memory Void Files Compressed Hdf5 Sql Sqlite Locked"),
    ],
)
def test_what_the_page_offers_is_there(where: object, names: str) -> None:
    assert [name for name in names.split() if not hasattr(where, name)] == []
