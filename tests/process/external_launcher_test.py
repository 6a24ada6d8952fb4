"""Ranks that mpirun started: they become engines and their workers, and nothing of them is left behind."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from cluster import BIN, DEMO, ROOT, Cluster, all_processes, descendants, free_port, wait_for

MPIRUN = shutil.which("mpirun")
assert MPIRUN, "openmpi-bin is not installed (./trireme test does it)"


class Ranks:
    """mpirun and the ranks that it started; everything is killed at the end."""

    def __init__(self, count: int, rpc_port: int, *flags):
        self.log = tempfile.NamedTemporaryFile("w+", prefix="trireme-mpi-", suffix=".log")
        words = [MPIRUN, "--oversubscribe", *(["--allow-run-as-root"] if os.geteuid() == 0 else []), "-n", count,
                 BIN / "engine-core", DEMO, "--distributed-executor-backend", "external_launcher", "--served-model-name", "demo",
                 "--data-parallel-rpc-port", rpc_port, "--master-port", free_port(), *flags]  # fmt: skip
        self.process = subprocess.Popen([str(w) for w in words], stdout=self.log, stderr=subprocess.STDOUT, cwd=ROOT)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        family = self.family()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=10)
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if kind is not None:
            print(f"--- log of mpirun\n{self.log_text()[-20000:]}")
        self.log.close()

    def log_text(self) -> str:
        return Path(self.log.name).read_text(errors="replace")

    def family(self) -> set:
        return {p.pid for p in descendants(self.process.pid)}


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
        family = ranks.family()
        assert len(family) == 8  # A rank and its worker, four times.
        ranks.process.kill()
        wait_for("nothing is left", lambda: is_none_left(family), 3)


def test_interrupted_mpirun_leaves_nothing_and_ranks_can_come_again(front):
    with serving_ranks(front, 4, *SHAPE) as ranks:
        family = ranks.family()
        ranks.process.send_signal(signal.SIGINT)
        ranks.process.wait(timeout=30)
        wait_for("nothing is left", lambda: is_none_left(family), 5)


def test_killed_rank_ends_the_job(front):
    with serving_ranks(front, 4, *SHAPE) as ranks:
        family = ranks.family()
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
