"""Jobs: work that is asked for by some, and done by one who holds its lease.

A job is an entry of a store, as JSON. Who claims it holds a lease in it, the same as one on a kept
call: its heart beats as long as its process lives, and when it stops somebody else may claim the job,
with a larger fencing token. Whatever a worker says of a job is taken only with the token of its lease.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from wellkept.errors import ConfigError, NotKept, StoreError
from wellkept.kv.entry import check_key
from wellkept.kv.execution_store import ExecutionStore
from wellkept.kv.locks import NotHeld
from wellkept.kv.service import seconds_of
from wellkept.stores.leases import Lease, RecordLeases

__all__ = ["Job", "Jobs"]

_OVER = ("completed", "failed", "canceled")
_FIELDS = ("owner", "token", "beat", "deadline")


class Jobs:
    """The jobs of a store.

    Args:
        store: holds them, one entry each, and may hold others.
        prefix: what the keys of jobs begin with.
        ttl: seconds (or text) after its last change when a job is gone; None: never.
        host: the name of this host; what it says of processes is believed for this host only.
    """

    def __init__(
        self,
        store: ExecutionStore,
        prefix: str = "",
        *,
        ttl: float | str | None = None,
        host: str | None = None,
    ) -> None:
        self.store = store
        self._prefix = check_key(prefix)
        self._ttl = seconds_of(ttl)
        self._leases = RecordLeases(_JobLeases(self), host)

    def create(self, payload: Any = None, *, id: str | None = None, owner: Any = None) -> str:  # noqa: A002  as users call it
        """Ask for work; the job's id.

        Args:
            payload: what is to be done.
            id: by default one that sorts by time.
            owner: the worker that asks.

        Raises:
            ConfigError: there is a job of that id.
            EncodeError: the payload can't be encoded.
        """
        number = f"{time.time_ns():019d}-{os.urandom(4).hex()}" if id is None else id
        now = self.store.service.entries.now()
        job = {
            "id": number,
            "state": "requested",
            "payload": payload,
            "owner": owner,
            "created": now,
            "updated": now,
            "lease": None,
            "token": 0,
            "cancel_requested": False,
            "progress": None,
            "result": None,
            "error": None,
        }
        key = check_key(self._prefix + number)
        if not self.store.set_if_absent(key, job, self._ttl, "held"):
            raise ConfigError(f"there is a job {number!r} already: choose another id")
        return number

    def get(self, id: str) -> dict[str, Any]:  # noqa: A002  the same
        """A job: `id state payload owner created updated lease token cancel_requested progress
        result error`. Its state is `requested`, `running`, `completed`, `failed` or `canceled`.

        Raises:
            NotKept: there is none of that id.
        """
        found = self.store.get(self._prefix + id)
        if found is None:
            raise NotKept(f"there is no job {id!r}")
        return _job(found, id)

    def list(self, state: str | None = None) -> Iterator[dict[str, Any]]:
        """The jobs, or those in a state, in the order of their ids."""
        for key, found in self.store.items(self._prefix):
            job = _job(found, key)
            if state is None or job["state"] == state:
                yield job

    # -- working ----------------------------------------------------------------------------------

    def claim(self, id: str | None = None) -> Job | None:  # noqa: A002  the same
        """Take a job that is requested, or whose worker is dead; None if there is none to take.

        A dead worker of this host is noticed at once. Of one elsewhere the heart is watched
        from the first claim on: it is dead when it has not moved for some seconds.
        """
        if id is not None:
            return self._claimed(id)
        for job in self.list():
            if job["state"] in ("requested", "running"):
                taken = self._claimed(job["id"])
                if taken is not None:
                    return taken
        return None

    def _claimed(self, id: str) -> Job | None:  # noqa: A002  the same
        name = id.encode()
        if not self._leases.acquire(name):
            return None
        token = self._leases.token(name)
        assert token is not None
        if self.get(id)["cancel_requested"]:  # of a worker that is dead
            self.cancel(id, token)
            return None
        return Job(self, id, token)

    def heartbeat(self, id: str, token: int) -> bool:  # noqa: A002  the same
        """Whether the lease with this token still holds. Its heart beats by itself."""
        job = self.store.get(self._prefix + id)
        return job is not None and _holds(_job(job, id), token)

    def progress(self, id: str, token: int, progress: Any) -> bool:  # noqa: A002  the same
        """Say how far it is; False if the lease is another's by now."""
        return self._say(id, token, progress=progress)

    def complete(self, id: str, token: int, result: Any = None) -> bool:  # noqa: A002  the same
        """The job is done; False if the lease is another's by now."""
        return self._end(id, token, state="completed", result=result)

    def fail(self, id: str, token: int, error: object) -> bool:  # noqa: A002  the same
        """The job can't be done; False if the lease is another's by now."""
        return self._end(id, token, state="failed", error=str(error))

    def cancel(self, id: str, token: int | None = None) -> bool:  # noqa: A002  the same
        """Cancel a job. One that runs is asked to end, and its worker, with its token, cancels it."""
        if token is not None:
            return self._end(id, token, state="canceled")

        def ask(job: dict[str, Any]) -> dict[str, Any] | None:
            if job["state"] in _OVER:
                return None
            ended = {"state": "canceled"} if job["state"] == "requested" else {}
            return job | {"cancel_requested": True} | ended

        return self._change(id, ask)

    def _say(self, id: str, token: int, **changes: Any) -> bool:  # noqa: A002  the same
        return self._change(id, lambda job: job | changes if _holds(job, token) else None)

    def _end(self, id: str, token: int, **changes: Any) -> bool:  # noqa: A002  the same
        done = self._say(id, token, lease=None, **changes)
        self.release(id, token)
        return done

    def release(self, id: str, token: int) -> None:  # noqa: A002  the same
        """Give a job back that is not ended, for others to claim."""
        name = id.encode()
        if self._leases.token(name) == token:  # or it is a later claim of ours
            self._leases.release(name)

    def _change(
        self,
        id: str,  # noqa: A002  the same
        change: Callable[[dict[str, Any]], dict[str, Any] | None],
    ) -> bool:
        """Make another job of it, atomically; False if it is not there or `change` gives None."""
        key = self._prefix + id
        service, name = self.store.service, self.store.store_name
        while True:
            found = service.get_key(name, check_key(key))
            if found is None:
                return False
            changed = change(_job(found.value, id))
            if changed is None:
                return False
            changed["updated"] = service.entries.now()
            # Until it is over somebody waits for it, or works at it: it makes room for nothing.
            over = changed["state"] in _OVER and self._ttl is not None
            if self.store.compare_and_set(
                key,
                None,
                changed,
                self._ttl,
                "evict" if over else "held",
                revision=found.revision,
            ):
                return True

    def close(self) -> None:
        """Give back what is claimed and not ended, for others to claim."""
        self._leases.close()


class Job:
    """A job that is claimed: by a `with` block, which fails it if the block raises, and completes it if
    nothing else was said."""

    def __init__(self, jobs: Jobs, id: str, token: int) -> None:  # noqa: A002  the same
        self.jobs = jobs
        self.id = id
        self.token = token
        """Larger than that of each worker before: what others should refuse smaller ones by."""
        self._ended = False

    @property
    def payload(self) -> Any:
        """What is to be done."""
        return self.jobs.get(self.id)["payload"]

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked for its end."""
        return bool(self.jobs.get(self.id)["cancel_requested"])

    def heartbeat(self) -> bool:
        """Whether it is still ours."""
        return self.jobs.heartbeat(self.id, self.token)

    def progress(self, progress: Any) -> None:
        """Say how far it is.

        Raises:
            NotHeld: the job is another's by now.
        """
        self._mine(self.jobs.progress(self.id, self.token, progress))

    def complete(self, result: Any = None) -> None:
        """It is done; raises as `progress`."""
        self._ended = True
        self._mine(self.jobs.complete(self.id, self.token, result))

    def fail(self, error: object) -> None:
        """It can't be done; raises as `progress`."""
        self._ended = True
        self._mine(self.jobs.fail(self.id, self.token, error))

    def cancel(self) -> None:
        """It is canceled; raises as `progress`."""
        self._ended = True
        self._mine(self.jobs.cancel(self.id, self.token))

    def release(self) -> None:
        """Give it back, for others to claim."""
        self._ended = True
        self.jobs.release(self.id, self.token)

    def _mine(self, done: bool) -> None:
        if not done:
            raise NotHeld(
                f"the job {self.id!r} is no longer held with token {self.token}: it was canceled, "
                "deleted, or given to another worker, as this one seemed dead"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._ended:
            return
        if error is None:
            self.complete()
        elif isinstance(error, Exception):
            self._ended = True
            self.jobs.fail(self.id, self.token, f"{type(error).__name__}: {error}")
        else:
            self.release()  # the process is asked to end, which says nothing of the job


def _job(found: Any, key: str) -> dict[str, Any]:
    if not isinstance(found, dict) or not {"id", "state", "lease", "token"} <= found.keys():
        raise StoreError(
            f"the entry {key!r} is not a job: keep jobs in a store, or under a prefix, of their own"
        )
    return found


def _holds(job: dict[str, Any], token: int) -> bool:
    return job["state"] == "running" and job["lease"] is not None and job["token"] == token


class _JobLeases:
    """`LeaseRecords` in the jobs themselves."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def read(self, key: bytes) -> Lease | None:
        job = self._jobs.store.get(self._jobs._prefix + key.decode())
        lease = job.get("lease") if isinstance(job, dict) else None
        return None if lease is None else Lease(*(lease[name] for name in _FIELDS))

    def swap(self, key: bytes, old: Lease | None, new: Lease | None) -> bool:
        held = None if old is None else old._asdict()
        wanted = None if new is None else new._asdict()

        def change(job: dict[str, Any]) -> dict[str, Any] | None:
            if job["state"] in _OVER or job["lease"] != held:
                return None
            if wanted is None:
                return job | {"lease": None, "state": "requested"}
            token = wanted["token"]
            if held is None and token <= job["token"]:
                return None  # a clock that was put back: at the next try it is later
            return job | {"lease": wanted, "state": "running", "token": token}

        return self._jobs._change(key.decode(), change)
