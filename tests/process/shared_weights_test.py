"""The weights of a node: there once however many ranks use them, and still there when a worker is started again."""

import os
import re
import signal
from pathlib import Path

import pytest
from cluster import demo_cluster, kind_of, wait_for
from restart_test import Load

IMAGE = "memfd:trireme-weights"
PROMPTS = ["The capital of France is", "The capital of Spain is", "Number 7 is"]


def image_kilobytes(pid: int, field: str) -> int:
    """Of the mapped image, as /proc/<pid>/smaps has it."""
    total, is_ours = 0, False
    try:
        lines = Path(f"/proc/{pid}/smaps").read_text().split("\n")
    except OSError:
        return 0
    for line in lines:
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            is_ours = IMAGE in line
        elif is_ours and line.startswith(field + ":"):
            total += int(line.split()[1])
    return total


def workers(cluster) -> list[int]:
    return [p.pid for p in cluster.family() if kind_of(p) == "worker"]


def answers(cluster) -> list[str]:
    replies = [cluster.complete(prompt, tokens=24, ignore_eos=True) for prompt in PROMPTS]
    return [reply.json()["choices"][0]["text"] if reply.status == 200 else str(reply.status) for reply in replies]


@pytest.fixture
def cluster():
    with demo_cluster("--data-parallel-size", "2") as running:
        running.wait_ready()
        running.wait_engines(2)
        if "weights_not_shared" in running.log_text():
            pytest.skip("this system gives shared memory no huge pages")
        yield running


def test_weights_of_two_ranks_are_there_once(cluster):
    assert len(workers(cluster)) == 2
    resident = [image_kilobytes(pid, "Rss") for pid in workers(cluster)]
    shares = [image_kilobytes(p.pid, "Pss") for p in cluster.family()]
    assert resident[0] == resident[1] > 4096, resident
    assert abs(sum(shares) - resident[0]) <= 8, (shares, resident)
    assert [image_kilobytes(pid, "ShmemPmdMapped") for pid in workers(cluster)] == resident
    assert cluster.log_text().count("shared by 2 ranks, made by this one") == 1
    assert cluster.log_text().count("shared by 2 ranks, found") == 1


def test_worker_killed_under_load_finds_the_weights_again(cluster):
    before = answers(cluster)
    assert len(set(before)) == 3, before
    with Load(cluster) as load:
        victim = workers(cluster)[0]
        os.kill(victim, signal.SIGKILL)
        wait_for("the other worker is alone", lambda: victim not in workers(cluster))
        wait_for("two workers", lambda: len(workers(cluster)) == 2)
        cluster.wait_engines(2)
        load.more(16)
    assert {reply.status for reply in load.replies} <= {200, 503}
    assert cluster.log_text().count("shared by 2 ranks, made by this one") == 1
    assert cluster.log_text().count("shared by 2 ranks, found") == 2
    for _ in range(4):
        assert answers(cluster) == before


def test_shared_weights_answer_as_own_ones_do(cluster):
    with demo_cluster("--distributed-executor-backend", "uni") as alone:
        alone.wait_ready()
        alone.wait_engines(1)
        assert not any(IMAGE in Path(f"/proc/{p.pid}/maps").read_text() for p in alone.family())
        assert answers(alone) == answers(cluster)


def test_worker_that_is_killed_while_it_starts_keeps_nobody_from_the_weights():
    with demo_cluster("--data-parallel-size", "2") as cluster:
        wait_for("a worker maps it", lambda: any(IMAGE in read_maps(pid) for pid in workers(cluster)), interval=0.001)
        victim = next(pid for pid in workers(cluster) if IMAGE in read_maps(pid))
        os.kill(victim, signal.SIGKILL)
        wait_for("it is gone", lambda: victim not in workers(cluster))
        cluster.wait_ready()
        wait_for("both have the weights", lambda: [image_kilobytes(pid, "Rss") > 4096 for pid in workers(cluster)] == [True, True])
        cluster.wait_engines(2)
        wait_for("an answer", lambda: cluster.complete(PROMPTS[0]).status == 200)


def read_maps(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return ""
