"""The beginning of a run: checked, named, and noted."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from wellkept.caches import Cache, active
from wellkept.errors import ConfigError, KeptError, StoreError, tell
from wellkept.records import RunRecord
from wellkept.runs.collectors import configured
from wellkept.runs.events import pack_record
from wellkept.runs.notes import ENVS, HEADS, INNER
from wellkept.runs.processes import environment, owner
from wellkept.runs.recording import Recorder, recorder
from wellkept.stores.base import put_many

__all__ = ["begin", "checked_tags"]


def checked_tags(tags: Any) -> dict[str, Any]:
    """Tags, if they are some.

    Raises:
        ConfigError: they are not.
    """
    if tags is None:
        return {}
    if not isinstance(tags, Mapping):
        raise ConfigError(f"tags= is a dict of names and values, not {tags!r}")
    for key, value in tags.items():
        if not isinstance(key, str) or not key:
            raise ConfigError(f"the name of a tag is text, not {key!r}")
        if not isinstance(value, (str, int, float, bool, type(None))):
            raise ConfigError(
                f"the tag {key!r} is text, a number, a truth or None, not {value!r:.80}"
            )
    try:
        json.dumps(dict(tags), allow_nan=False)
    except ValueError as error:
        raise ConfigError(f"a tag can't be kept: {error}") from error
    return dict(tags)


def begin(record: RunRecord, cache: Cache | None) -> Recorder:
    """Note that a run begins in this process; what records its events.

    Raises:
        ConfigError: the configuration is wrong.
    """
    outer = recorder()
    if cache is None and outer is not None:
        cache = outer.cache
    elif cache is None:
        try:
            cache = active()
        except StoreError as error:
            tell(f"the run {record.id} is not kept: {error}")
    env, facts = environment()
    record = record._replace(
        started=time.time(),
        owner=owner(),
        outer=None if outer is None else outer.record.id,
        env=env,
        metadata={
            name: json.loads(said) for name, said in configured().collect(None, cache).items()
        },
    )
    found = Recorder(record, cache, outer)
    found.own = True
    if cache is not None:
        items = {f"{HEADS}{record.id}": pack_record(record), f"{ENVS}{env}": facts}
        if outer is not None:
            items[f"{INNER}{outer.record.id}/{record.id}"] = b"{}"
        try:
            put_many(found.notes, items)
        except KeptError as error:
            tell(f"the run {record.id} is not kept: {error}")
            found.cache, found.notes = None, Recorder(record, None, outer).notes
    found.open()
    return found
