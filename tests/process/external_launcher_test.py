"""Ranks that mpirun started: they become engines and their workers, and nothing of them is left behind."""

import contextlib
import os
import re
import shutil
import signal

import pytest
from cluster import BIN, DEMO, Cluster, all_processes, descendants, free_port, wait_for

MPIRUN = shutil.which("mpirun")
assert MPIRUN, "openmpi-bin is not installed (./trireme test does it)"


class Ranks(Cluster):
    """mpirun and the ranks that it started."""

    def __init__(self, count: int, rpc_port: int, *flags):
        super().__init__(list(flags), program="mpirun")
        self.count = count
        self.rpc_port = rpc_port

    def command(self) -> list:
        words = [MPIRUN, "--oversubscribe", *(["--allow-run-as-root"] if os.geteuid() == 0 else []), "-n", self.count,
                 BIN / "engine-core", DEMO, "--distributed-executor-backend", "external_launcher", "--served-model-name", "demo",
                 "--data-parallel-rpc-port", self.rpc_port, "--master-port", free_port(), *self.arguments]  # fmt: skip
        return [str(word) for word in words]

    def pids(self) -> set:
        return {p.pid for p in self.family()}


def engines(front) -> int:
    """-1: nobody answers yet."""
    try:
        return front.engines_up()
    except OSError:
        return -1


@contextlib.contextmanager
def serving_ranks(front, count, *flags, engine_count: int = 1):
    wait_for("the front misses those before", lambda: engines(front) == 0, 20)
    with Ranks(count, front.rpc_port, *flags) as ranks:
        wait_for(f"{engine_count} engines", lambda: engines(front) == engine_count, 60)
        yield ranks


def is_none_left(pids: set) -> bool:
    return not pids & set(all_processes())


def says_paris(front) -> bool:
    return front.complete("The capital of France is").json()["choices"][0]["text"].startswith(" Paris")


SHAPE = ["--tensor-parallel-size", 2, "--pipeline-parallel-size", 2]


@pytest.fixture(scope="module")
def front():
    with Cluster([DEMO, "--served-model-name", "demo", "--data-parallel-size-local", 0, *SHAPE]) as cluster:
        yield cluster


def test_four_ranks_answer_and_killed_mpirun_leaves_nothing(front):
    with serving_ranks(front, 4, *SHAPE) as ranks:
        assert says_paris(front)
        family = ranks.pids()
        assert len(family) == 8  # A rank and its worker, four times.
        ranks.process.kill()
        wait_for("nothing is left", lambda: is_none_left(family), 3)


def test_stopped_worker_is_named_and_killed_by_the_rank_that_started_it(front):
    with serving_ranks(front, 4, *SHAPE, "--distributed-timeout-seconds", 3) as ranks:
        family = ranks.pids()
        victim = max(p.pid for p in ranks.family() if p.name == "worker")
        os.kill(victim, signal.SIGSTOP)
        assert front.complete("Count:", tokens=1900, ignore_eos=True).status == 503
        killed = re.compile(rf"worker killed, as it made no progress: rank 0 worker pp\d tp\d \(pid {victim}\) is stopped")
        wait_for("it is named", lambda: killed.search(ranks.log_text()), 10)
        wait_for("nothing is left", lambda: is_none_left(family), 10)


def test_interrupted_mpirun_leaves_nothing_and_ranks_can_come_again(front):
    with serving_ranks(front, 4, *SHAPE) as ranks:
        family = ranks.pids()
        ranks.process.send_signal(signal.SIGINT)
        ranks.process.wait(timeout=30)
        wait_for("nothing is left", lambda: is_none_left(family), 5)


def test_killed_rank_ends_the_job(front):
    with serving_ranks(front, 4, *SHAPE) as ranks:
        family = ranks.pids()
        os.kill(max(p.pid for p in descendants(ranks.process.pid) if p.name == "engine-core"), signal.SIGKILL)
        assert ranks.process.wait(timeout=30) != 0
        wait_for("nothing is left", lambda: is_none_left(family), 5)


def test_ranks_beyond_one_engine_are_the_next_ones():
    flags = ["--tensor-parallel-size", 2, "--data-parallel-size", 2]
    with Cluster([DEMO, "--served-model-name", "demo", "--data-parallel-size-local", 0, *flags]) as front:
        with serving_ranks(front, 4, *flags, engine_count=2):
            assert says_paris(front)


def test_wrong_number_of_ranks_is_one_line():
    with Ranks(3, free_port(), *SHAPE) as ranks:
        assert ranks.process.wait(timeout=30) != 0
        text = ranks.log_text()
    assert text.count("the launcher started 3 ranks") == 1, text
    assert "need 4" in text
