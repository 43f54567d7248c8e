"""Many processes at once on one directory."""

import subprocess
import sys

import pytest
from tests.thorough import often

from wellkept.integrations.hamilton import KeptMetadataStore, KeptResultStore

SCRIPT = """
import multiprocessing, warnings
from wellkept.errors import KeptWarning
from wellkept.integrations.hamilton import KeptMetadataStore, KeptResultStore

warnings.simplefilter("ignore")  # that threads are forked, which they are on purpose
warnings.simplefilter("error", KeptWarning)  # that a store was busy would be one

def work(number):
    metadata, results = KeptMetadataStore("store"), KeptResultStore("store")
    metadata.initialize(f"run {number}")
    for i in range(NODES):
        metadata.set(
            cache_key=f"{number}-{i}", data_version=f"{number}.{i}", run_id=f"run {number}",
            node_name="node", code_version="code",
        )
        results.set(f"{number}.{i}", i)

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(number,)) for number in range(32)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print([worker.exitcode for worker in workers if worker.exitcode])
"""
NODES = often(100, 300)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_32_processes_set_many_nodes_each() -> None:
    script = f"NODES = {NODES}{SCRIPT}"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=500, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
    metadata, results = KeptMetadataStore("store"), KeptResultStore("store")
    assert metadata.size == 32 * NODES
    assert len(metadata.get_run_ids()) == 32
    assert [len(metadata.get_run(f"run {n}")) for n in (0, 31)] == [NODES, NODES]
    assert [results.get(f"{n}.{NODES - 1}") for n in (0, 31)] == [NODES - 1] * 2
