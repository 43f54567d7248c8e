"""Work that is asked for by some and done by one."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.kv.conftest import place_of

import wellkept
from wellkept.errors import ConfigError, NotKept, StoreError
from wellkept.kv import Jobs
from wellkept.stores import leases


@pytest.fixture
def jobs(url: str) -> Jobs:
    return Jobs(wellkept.store("jobs", cache=wellkept.open(url)))


def test_a_job_from_its_request_to_its_end(jobs: Jobs) -> None:
    first, second = jobs.create({"n": (1, 2)}, owner="me"), jobs.create("more")
    assert [job["id"] for job in jobs.list("requested")] == [first, second]
    job = jobs.claim()
    assert job is not None
    assert job.id == first
    assert job.payload == {"n": (1, 2)}
    assert jobs.get(first)["state"] == "running"
    assert jobs.claim(first) is None
    assert job.heartbeat()
    job.progress(0.5)
    assert jobs.get(first)["progress"] == 0.5
    job.complete([1])
    said = jobs.get(first)
    assert (said["state"], said["result"], said["lease"], said["owner"]) == (
        "completed",
        [1],
        None,
        "me",
    )
    assert not job.heartbeat()
    with pytest.raises(StoreError, match="no longer held"):
        job.progress(1)
    other = jobs.claim()
    assert other is not None
    assert other.id == second
    other.fail("no room")
    assert jobs.get(second)["error"] == "no room"
    assert jobs.claim() is None
    assert jobs.claim(first) is None
    with pytest.raises(NotKept, match="no job 'x'"):
        jobs.get("x")
    assert jobs.claim("x") is None
    with pytest.raises(ConfigError, match="already"):
        jobs.create(id=first)


def test_a_block_ends_its_job(jobs: Jobs) -> None:
    jobs.create(id="good")
    jobs.create(id="bad")
    jobs.create(id="stopped")
    with claimed(jobs, "good"):
        pass
    with pytest.raises(ValueError, match="broken"), claimed(jobs, "bad"):
        raise ValueError("broken")
    with pytest.raises(KeyboardInterrupt), claimed(jobs, "stopped"):
        raise KeyboardInterrupt
    assert [job["state"] for job in jobs.list()] == ["failed", "completed", "requested"]
    assert jobs.get("bad")["error"] == "ValueError: broken"


def claimed(jobs: Jobs, number: str) -> wellkept.kv.Job:
    job = jobs.claim(number)
    assert job is not None
    return job


def test_canceling(jobs: Jobs) -> None:
    jobs.create(id="waits")
    assert jobs.cancel("waits")
    assert jobs.get("waits")["state"] == "canceled"
    assert not jobs.cancel("waits")
    assert not jobs.cancel("nothing")
    jobs.create(id="runs")
    job = claimed(jobs, "runs")
    assert not job.cancel_requested
    assert jobs.cancel("runs")
    assert job.cancel_requested
    assert jobs.get("runs")["state"] == "running"
    job.cancel()
    assert jobs.get("runs")["state"] == "canceled"


def test_a_given_back_job_has_a_larger_token(jobs: Jobs) -> None:
    jobs.create(id="j")
    first = claimed(jobs, "j")
    first.release()
    assert jobs.get("j")["state"] == "requested"
    second = claimed(jobs, "j")
    assert second.token > first.token
    assert not jobs.complete("j", first.token, "stale")
    assert jobs.get("j")["state"] == "running"
    second.complete()


@pytest.mark.parametrize("medium", ["sqlite", "redis"])
def test_a_dead_worker_is_replaced_at_once_on_its_host(
    medium: str, request: Any, tmp_path: Path
) -> None:
    url = place_of(request, medium, tmp_path)
    jobs = Jobs(wellkept.store("jobs", cache=url))
    jobs.create(id="j")
    source = """
import sys, time, wellkept
from wellkept.kv import Jobs
job = Jobs(wellkept.store("jobs", cache=sys.argv[1])).claim("j")
print(job.token, flush=True)
time.sleep(100)
"""
    worker = subprocess.Popen(
        [sys.executable, "-c", source, url], stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    token = int(worker.stdout.readline())
    assert jobs.claim("j") is None, "its worker lives"
    worker.kill()
    worker.wait()
    deadline = time.monotonic() + 3
    while (job := jobs.claim("j")) is None:
        assert time.monotonic() < deadline
    assert job.token > token
    assert not jobs.progress("j", token, "from the dead")
    job.complete()


def test_a_worker_elsewhere_whose_heart_stands_still_is_replaced(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "DEAD", 0.2)
    there = Jobs(jobs.store, host="elsewhere")
    jobs.create(id="j")
    job = claimed(there, "j")
    there._leases._heart.stop()  # as if its process stood still
    deadline = time.monotonic() + 20
    while (mine := jobs.claim("j")) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert mine.token > job.token
    with pytest.raises(StoreError, match="no longer held"):
        job.complete("too late")
    mine.complete("done")
    assert jobs.get("j")["result"] == "done"


def test_each_job_is_done_once(jobs: Jobs) -> None:
    ids = [jobs.create(number) for number in range(20)]
    done: list[int] = []

    def work() -> None:
        mine = Jobs(jobs.store)
        while any(job["state"] in ("requested", "running") for job in mine.list()):
            job = mine.claim()
            if job is not None:
                with job:
                    done.append(job.payload)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(done) == list(range(20))
    assert [job["id"] for job in jobs.list("completed")] == ids


def test_old_jobs_go(url: str) -> None:
    store = wellkept.store("jobs", cache=wellkept.open(url))
    jobs = Jobs(store, "job/", ttl=100)
    store["other"] = "not a job"
    jobs.create(id="j")
    store.service.entries.ahead += 60
    claimed(jobs, "j").complete()
    store.service.entries.ahead += 60
    assert jobs.get("j")["state"] == "completed"
    store.service.entries.ahead += 60
    assert list(jobs.list()) == []
    assert len(store) == 1
    with pytest.raises(StoreError, match="not a job"):
        list(Jobs(store).list())


def test_jobs_with_a_ttl_make_room_for_nothing_until_they_are_over(jobs: Jobs) -> None:
    jobs.store.service.create_store("full", max_keys=5)
    store = wellkept.kv.ExecutionStore("full", jobs.store.service)
    some = Jobs(store, "job/", ttl="1 h")
    running, waiting = some.create({"w": 1}), some.create({"w": 2})
    job = some.claim()
    assert job is not None
    for i in range(30):
        store.set_cache(f"x{i}", i)
    store.clear_cache()
    assert some.get(waiting)["state"] == "requested"
    job.progress(0.5)
    job.complete(1)
    assert some.get(running)["result"] == 1
    for i in range(30):
        store.set_cache(f"x{i}", i)
    assert some.get(waiting)["state"] == "requested"
    some.close()
