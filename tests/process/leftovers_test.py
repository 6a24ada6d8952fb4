"""kill -9 of any process: what it started is gone within a second, and nothing else is left behind."""

import os
import signal
from pathlib import Path

import pytest
from cluster import all_processes, demo_cluster, descendants, kind_of, listening, ports_of, wait_for

KINDS = ["launcher", "coordinator", "node agent", "api-server 0", "rank 0", "rank 1", "worker"]


def shared_memory() -> set[str]:
    return set(os.listdir("/dev/shm"))


def socket_files() -> set[str]:
    lines = Path("/proc/net/unix").read_text().split("\n")[1:]
    return {words[7] for words in (line.split() for line in lines) if len(words) > 7 and words[7].startswith("/tmp")}


def answers(cluster) -> bool:
    try:
        return cluster.complete("The capital of France is").status == 200
    except OSError:  # An api-server that was killed is not listening yet.
        return False


@pytest.mark.parametrize("kind", KINDS)
def test_killed_process_leaves_nothing(kind):
    shm_before, sockets_before = shared_memory(), socket_files()
    with demo_cluster("--data-parallel-size", "2") as cluster:
        cluster.wait_ready()
        cluster.wait_engines(2)
        victim = cluster.process.pid if kind == "launcher" else cluster.find(kind).pid
        below = {p.pid for p in descendants(victim)}
        ports = ports_of(below | {victim})
        family = {p.pid for p in cluster.family()}
        os.kill(victim, signal.SIGKILL)
        if kind == "launcher":
            cluster.process.wait(timeout=5)
        gone = below | {victim}
        wait_for(f"what {kind} had started is gone", lambda: not (gone & set(all_processes())), 1.0)
        if kind == "launcher":
            assert not (family & set(all_processes()))
            wait_for("its ports are free", lambda: not (ports & listening()), 1.0)
        else:
            # Everyone else lives, and the place is taken again. The front may hold the lost engines for ready
            # a moment longer, and says 503 until the new ones are: an answer is what counts.
            wait_for(f"{kind} is back", lambda: any(kind_of(p) == kind for p in cluster.family()))
            wait_for("an answer", lambda: answers(cluster))
            cluster.wait_engines(2)
    assert shared_memory() == shm_before
    assert socket_files() <= sockets_before
