"""A worker that cannot run and is not stopped either: its cgroup is frozen, as by `docker pause` (or it hangs in the kernel). Even SIGKILL waits there."""

import contextlib
import os
import re
from pathlib import Path

import pytest
from cluster import wait_for
from expert_parallel_test import start, worker_of
from lockstep_test import Stream

RANKS = 3
GROUP = Path(f"/sys/fs/cgroup/freezer/trireme-test-{os.getpid()}")


def can_freeze() -> bool:
    try:
        GROUP.mkdir()
    except OSError:
        return False
    usable = (GROUP / "freezer.state").exists()
    GROUP.rmdir()
    return usable


def has_left() -> bool:
    with contextlib.suppress(OSError):
        GROUP.rmdir()
    return not GROUP.exists()


@contextlib.contextmanager
def frozen(pid: int):
    GROUP.mkdir()
    try:
        (GROUP / "cgroup.procs").write_text(str(pid))
        (GROUP / "freezer.state").write_text("FROZEN")
        yield
    finally:
        (GROUP / "freezer.state").write_text("THAWED")
        wait_for("the killed worker ends, now that it can", has_left, 10)


@pytest.mark.skipif(not can_freeze(), reason="no cgroup freezer (v1) that we may use")
@pytest.mark.parametrize("is_busy", [False, True])
def test_a_frozen_worker_is_named_and_the_others_go_on_without_it(is_busy):
    with start(RANKS, 1) as cluster:
        cluster.wait_ready()
        cluster.wait_engines(RANKS)
        streams = [Stream(cluster, rank, 900) for rank in (0, 2)]
        its_own = Stream(cluster, 1, 900) if is_busy else None
        for stream in streams:
            stream.wait_tokens(50)
        victim = worker_of(cluster, 1)
        with frozen(victim):
            for stream in streams:
                stream.check_whole()
                assert stream.longest_gap() < 6
            log = cluster.log_text()
            assert re.search(rf'"rank":1,"event":"step_slow",.*"worker_pid":{victim},', log), "it is named"
            assert f"worker killed, as it made no progress: rank 1 worker tp0 (pid {victim})" in log
            cluster.wait_engines(RANKS, 60)
            if its_own:
                its_own.join(timeout=60)
                assert its_own.error
            Stream(cluster, 1, 20).check_whole()
