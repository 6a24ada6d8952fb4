"""Ranks that step together (here without a model): whatever is killed or stands still, the others go on within seconds.

A step takes 4 ms, so that a stream of 1,000 tokens lasts four seconds and everything happens in its middle.
"""

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request

import pytest
from cluster import DEMO, Cluster, demo_cluster, wait_for

STEPS_TOGETHER = ("--distributed-executor-backend", "sim", "--sim-profile", "base_us=4000", "--enable-expert-parallel")
RANKS = 3
FLAGS = (*STEPS_TOGETHER, "--data-parallel-size", RANKS, "--max-model-len", 4096)


class Stream(threading.Thread):
    """One streamed completion at one rank, and when its tokens came."""

    def __init__(self, cluster, rank: int, tokens: int):
        super().__init__()
        body = {"model": "demo", "prompt": "hello", "max_tokens": tokens, "stream": True, "ignore_eos": True}
        headers = {"Content-Type": "application/json", "X-data-parallel-rank": str(rank)}
        self.request = urllib.request.Request(cluster.url + "/v1/completions", json.dumps(body).encode(), headers)
        self.times = []
        self.finish = None
        self.error = None
        self.start()

    def run(self):
        try:
            with urllib.request.urlopen(self.request, timeout=60) as answer:
                for line in answer:
                    if not line.startswith(b"data: {"):
                        continue
                    event = json.loads(line[6:])
                    self.error = event.get("error", self.error)
                    if event.get("choices"):
                        self.times.append(time.monotonic())
                        self.finish = event["choices"][0]["finish_reason"] or self.finish
        except urllib.error.HTTPError as failure:
            self.error = (failure.code, failure.read())
        except OSError as failure:
            self.error = failure

    def wait_tokens(self, count: int):
        wait_for(f"{count} tokens", lambda: len(self.times) >= count or self.error, 20)
        return self

    def longest_gap(self) -> float:
        return max(later - earlier for earlier, later in zip(self.times, self.times[1:]))

    def ended(self):
        self.join(timeout=60)
        return self.finish

    def check_whole(self):
        self.join(timeout=60)
        assert self.error is None and self.finish == "length", (self.error, self.finish, len(self.times))


@pytest.fixture
def cluster():
    with demo_cluster(*FLAGS) as running:
        running.wait_ready()
        running.wait_engines(RANKS)
        yield running


def kill_ranks(cluster, *ranks: int):
    victims = {cluster.find(f"rank {rank}").pid for rank in ranks}
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    wait_for("they are gone from the view", lambda: cluster.engines_up() < RANKS)


def cpu_ticks(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def test_every_rank_serves_and_all_sleep_afterwards(cluster):
    assert '"steps_together":true' in cluster.log_text()
    streams = [Stream(cluster, rank, 50) for rank in range(RANKS)]
    for stream in streams:
        stream.check_whole()
    pids = [cluster.find(f"rank {rank}").pid for rank in range(RANKS)]
    wait_for("streams are over", lambda: cluster.metric("vllm:num_requests_running") == 0)
    before = [cpu_ticks(pid) for pid in pids]
    time.sleep(2)
    spent = [now - then for now, then in zip([cpu_ticks(pid) for pid in pids], before)]
    assert max(spent) <= 6, f"ticks of 10 ms in 2 s: {spent}"


def test_a_killed_rank_is_left_out_and_taken_back(cluster):
    stream = Stream(cluster, 0, 1500).wait_tokens(100)
    kill_ranks(cluster, 1)
    cluster.wait_engines(RANKS, 20)
    assert stream.is_alive(), "it is back while the stream goes on"
    Stream(cluster, 1, 20).check_whole()
    stream.check_whole()
    assert stream.longest_gap() < 5


def test_two_ranks_killed_at_once(cluster):
    stream = Stream(cluster, 2, 800).wait_tokens(100)
    kill_ranks(cluster, 0, 1)
    stream.check_whole()
    assert stream.longest_gap() < 5
    cluster.wait_engines(RANKS, 20)
    for rank in range(RANKS):
        Stream(cluster, rank, 20).check_whole()


def test_a_frozen_rank_is_left_out_and_taken_back(cluster):
    stream = Stream(cluster, 0, 800).wait_tokens(100)
    frozen = cluster.find("rank 1").pid
    os.kill(frozen, signal.SIGSTOP)
    stream.check_whole()
    assert stream.longest_gap() < 5
    assert '"event":"lockstep_waits"' in cluster.log_text() and '"awaits_ranks":"1"' in cluster.log_text()
    os.kill(frozen, signal.SIGCONT)
    wait_for("rank 1 serves again", lambda: Stream(cluster, 1, 20).ended() == "length", 20)


def test_the_wave_goes_on_without_a_coordinator_and_the_next_one_starts_with_a_new_one(cluster):
    stream = Stream(cluster, 0, 1500).wait_tokens(100)
    os.kill(cluster.find("coordinator").pid, signal.SIGKILL)
    stream.check_whole()
    assert stream.longest_gap() < 2
    for rank in range(RANKS):
        Stream(cluster, rank, 20).check_whole()


def test_a_coordinator_that_dies_while_a_wave_begins(cluster):
    for _ in range(3):
        streams = [Stream(cluster, rank, 50) for rank in range(RANKS)]
        os.kill(cluster.find("coordinator").pid, signal.SIGKILL)
        for stream in streams:
            stream.check_whole()
        wait_for("a new coordinator", lambda: cluster.find("coordinator"))


def test_a_rank_that_is_lost_while_the_coordinator_stands_still(cluster):
    stream = Stream(cluster, 0, 1500).wait_tokens(100)
    coordinator = cluster.find("coordinator").pid
    os.kill(coordinator, signal.SIGSTOP)
    os.kill(cluster.find("rank 1").pid, signal.SIGKILL)
    stream.check_whole()
    # 4 s until the coordinator is replaced, and a lease until the new one knows who lives.
    assert 3 < stream.longest_gap() < 12
    assert cluster.find("coordinator").pid != coordinator
    wait_for("rank 1 serves again", lambda: Stream(cluster, 1, 20).ended() == "length", 20)


def test_two_nodes_step_together_and_one_goes_on_when_the_other_is_gone():
    shape = (*STEPS_TOGETHER, "--max-model-len", 4096, "--data-parallel-size", 4, "--data-parallel-size-local", 2)
    with demo_cluster(*shape, "--data-parallel-address", "127.0.0.1") as front:
        there = ("--data-parallel-address", "127.0.0.1", "--data-parallel-rpc-port", front.rpc_port)
        arguments = [str(DEMO), "--headless", *shape, *there, "--data-parallel-start-rank", 2]
        with Cluster(arguments, program="engine-core") as headless:
            front.wait_ready()
            front.wait_engines(4)
            for stream in [Stream(front, rank, 50) for rank in range(4)]:
                stream.check_whole()
            stream = Stream(front, 0, 1000).wait_tokens(100)
            for process in [*headless.family(), headless.process]:
                os.kill(process.pid, signal.SIGKILL)
            stream.check_whole()
            assert stream.longest_gap() < 5
        with Cluster(arguments, program="engine-core"):
            wait_for("rank 3 serves again", lambda: Stream(front, 3, 20).ended() == "length", 30)
