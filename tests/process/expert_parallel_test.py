"""A mixture of experts divided over ranks: the same answers however it is divided, and when ranks are lost in the middle."""

import contextlib
import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest
from cluster import Cluster, descendants, wait_for

MODEL = Path(__file__).resolve().parents[2] / "models/demo-moe"
PROMPTS = ["The capital of France is", "Question: What is the capital of Japan? Answer:", "The opposite of hot is"]


def start(data: int, tensor: int, *flags) -> Cluster:
    return Cluster([
        str(MODEL), "--served-model-name", "demo", "--enable-expert-parallel", "--max-model-len", 1024,
        "--data-parallel-size", data, "--tensor-parallel-size", tensor, *flags,
    ])  # fmt: skip


def answer(cluster, prompt: str, rank: int, tokens: int = 60) -> tuple:
    """Beyond the end of the sentence, where a model of this size finds little to hold on to: every bit shows."""
    body = {"model": "demo", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "logprobs": 1}
    reply = cluster.post("/v1/completions", body, headers={"X-data-parallel-rank": str(rank)})
    if reply.status != 200:
        return (reply.status, reply.body)
    choice = reply.json()["choices"][0]
    return choice["text"], tuple(choice["logprobs"]["token_logprobs"])


@pytest.fixture(scope="module")
def expected():
    """Of one rank that has all experts."""
    with Cluster([str(MODEL), "--served-model-name", "demo", "--max-model-len", 1024]) as alone:
        alone.wait_ready()
        return {prompt: answer(alone, prompt, 0) for prompt in PROMPTS}


def answers_at_once(cluster, ranks: int) -> dict:
    found = {}

    def ask(rank, prompt):
        found[rank, prompt] = answer(cluster, prompt, rank)

    threads = [threading.Thread(target=ask, args=(rank, prompt)) for rank in range(ranks) for prompt in PROMPTS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    return found


def test_four_ranks_answer_as_one_bit_for_bit(expected):
    with start(4, 1) as cluster:
        cluster.wait_ready()
        cluster.wait_engines(4)
        for (rank, prompt), got in answers_at_once(cluster, 4).items():
            assert got == expected[prompt], (rank, prompt)


@pytest.mark.parametrize("data", [1, 2])
def test_with_tensor_parallelism_the_tokens_are_the_same(expected, data):
    with start(data, 2) as cluster:
        cluster.wait_ready()
        cluster.wait_engines(data)
        for (rank, prompt), (text, _) in answers_at_once(cluster, data).items():
            assert text == expected[prompt][0], (rank, prompt)


class Asker(threading.Thread):
    """Asks one rank again and again."""

    def __init__(self, cluster, rank: int, expected):
        super().__init__()
        self.arguments = (cluster, rank, expected)
        self.is_over = False
        self.count = 0
        self.wrong = []
        self.longest = 0.0
        self.start()

    def run(self):
        cluster, rank, expected = self.arguments
        while not self.is_over:
            for prompt in PROMPTS:
                begin = time.monotonic()
                got = answer(cluster, prompt, rank)
                self.longest = max(self.longest, time.monotonic() - begin)
                self.count += 1
                if got != expected[prompt]:
                    self.wrong.append(got)

    def stop(self):
        self.is_over = True
        self.join(timeout=60)
        return self


def worker_of(cluster, rank: int) -> int:
    return next(p.pid for p in descendants(cluster.find(f"rank {rank}").pid) if p.name == "worker")


@pytest.mark.parametrize("kind", ["worker killed", "rank killed", "worker stopped", "rank stopped"])
def test_a_rank_that_is_lost_in_the_middle_costs_the_others_seconds_and_no_bit(expected, kind):
    with start(3, 1) as cluster:
        cluster.wait_ready()
        cluster.wait_engines(3)
        askers = [Asker(cluster, rank, expected) for rank in (0, 2)]
        wait_for("answers", lambda: min(asker.count for asker in askers) >= 3)
        victim = worker_of(cluster, 1) if kind.startswith("worker") else cluster.find("rank 1").pid
        os.kill(victim, signal.SIGKILL if kind.endswith("killed") else signal.SIGSTOP)
        before = [asker.count for asker in askers]
        wait_for("the others go on", lambda: all(a.count >= n + 6 for a, n in zip(askers, before)), 20)
        if kind == "rank stopped":
            os.kill(victim, signal.SIGCONT)
        wait_for("rank 1 serves again", lambda: answer(cluster, PROMPTS[0], 1) == expected[PROMPTS[0]], 30)
        if kind == "worker stopped":
            kept = re.search(r'"event":"stacks_kept","stuck_pid":%d,"file":"([^"]*)"' % victim, cluster.log_text())
            assert kept and "state T" in Path(kept[1]).read_text()
            Path(kept[1]).unlink()
        for asker in askers:
            asker.stop()
            assert asker.wrong == []
            assert asker.longest < 5.5
        for (rank, prompt), got in answers_at_once(cluster, 3).items():
            assert got == expected[prompt], (rank, prompt)


def weight_bytes(cluster) -> int:
    return int(re.search(r'"event":"weights_ready","bytes":(\d+)', cluster.log_text())[1])


@contextlib.contextmanager
def two_nodes(ranks_each: int, *flags):
    size = 2 * ranks_each
    more = ("--data-parallel-size-local", ranks_each, "--data-parallel-address", "127.0.0.1", *flags)
    with start(size, 1, *more) as front:
        there = Cluster([
            str(MODEL), "--headless", "--enable-expert-parallel", "--max-model-len", 1024, "--data-parallel-size", size, *more,
            "--data-parallel-start-rank", ranks_each, "--data-parallel-rpc-port", front.rpc_port,
        ], program="engine-core")  # fmt: skip
        with there:
            front.wait_ready()
            front.wait_engines(size)
            yield front, there


def test_two_nodes_answer_as_one_bit_for_bit_and_one_goes_on_alone(expected):
    with two_nodes(2) as (front, there):
        for (rank, prompt), got in answers_at_once(front, 4).items():
            assert got == expected[prompt], (rank, prompt)
        # Each node has half of the experts.
        stored = (MODEL / "model.safetensors").stat().st_size
        assert max(weight_bytes(front), weight_bytes(there)) < 0.7 * stored
        asker = Asker(front, 0, expected)
        wait_for("answers", lambda: asker.count >= 3)
        for process in [*there.family(), there.process]:
            os.kill(process.pid, signal.SIGKILL)
        before = asker.count
        wait_for("it goes on", lambda: asker.count >= before + 6, 20)
        assert '"event":"experts_taken_over"' in front.log_text()
        asker.stop()
        assert asker.wrong == [] and asker.longest < 5.5


def test_a_node_that_drains_costs_the_other_no_step_and_no_bit(expected):
    with two_nodes(1) as (front, there):
        askers = [Asker(front, 0, expected) for _ in range(2)]
        wait_for("answers", lambda: min(asker.count for asker in askers) >= 2)
        there.process.send_signal(signal.SIGTERM)
        assert there.process.wait(timeout=15) == 0
        before = [asker.count for asker in askers]
        wait_for("they go on", lambda: all(asker.count >= n + 3 for asker, n in zip(askers, before)), 20)
        for asker in askers:
            asker.stop()
            assert asker.wrong == []
        assert '"event":"step_broken_off"' not in front.log_text()
        assert front.engines_up() == 1
