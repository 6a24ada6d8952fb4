"""Sleep and wake up by HTTP: the workers' KV memory goes back to the system and comes again, and no answer changes.

One engine, and two nodes whose engines step together; real workers, with a KV cache that requests fill before.
"""

import contextlib
import random
import threading
import time
from pathlib import Path

import pytest
from cluster import Cluster, descendants, wait_for
from expert_parallel_test import MODEL
from pause_test import DEV, cluster_of, in_background, kill_rank

TOKENS_MAX = 1024
BLOCKS = 1024  # Of 16 tokens: 2 KiB of K and V each.
KV_BYTES = BLOCKS * 16 * 2048
FLAGS = [str(MODEL), "--max-model-len", TOKENS_MAX, "--num-gpu-blocks-override", BLOCKS]
TOGETHER = ["--enable-expert-parallel", "--data-parallel-size", 2, "--data-parallel-size-local", 1,
            "--data-parallel-address", "127.0.0.1"]  # fmt: skip
PROMPT = list(range(100, 200))


class Nodes:
    def __init__(self, front: Cluster, others: list, ranks: int):
        self.front, self.launchers, self.ranks = front, [front, *others], ranks

    def pids(self, name: str) -> list[int]:
        return [p.pid for launcher in self.launchers for p in descendants(launcher.process.pid) if p.name == name]

    def post(self, path: str):
        reply = self.front.post(path, None, method="POST")
        assert reply.status == 200, reply.body
        return reply

    def is_sleeping(self) -> bool:
        return self.front.get("/is_sleeping").json()["is_sleeping"]

    def ask(self, prompt: list[int], rank: int, tokens: int):
        body = {"model": "demo", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "logprobs": 1}
        return self.front.post("/v1/completions", body, headers={"X-data-parallel-rank": str(rank)})

    def answers(self, tokens: int = 30) -> list:
        choices = [self.ask(PROMPT, rank, tokens).json()["choices"][0] for rank in range(self.ranks)]
        return [(choice["text"], choice["logprobs"]["token_logprobs"]) for choice in choices]

    def fill_kv(self):
        """Every block is written: what is freed waits behind what was never used."""
        rng = random.Random(5)
        for rank in range(self.ranks):
            for _ in range(BLOCKS * 16 // TOKENS_MAX + 4):
                assert self.ask([rng.randrange(10, 2000) for _ in range(TOKENS_MAX - 8)], rank, 1).status == 200


@pytest.fixture(scope="module", params=["alone", "together"])
def nodes(request):
    with contextlib.ExitStack() as running:
        shape = TOGETHER if request.param == "together" else []
        front = running.enter_context(Cluster([*FLAGS, "--served-model-name", "demo", *shape], environment=DEV))
        others = []
        if shape:
            start = ["--headless", "--data-parallel-start-rank", 1, "--data-parallel-rpc-port", front.rpc_port]
            others.append(running.enter_context(Cluster([*FLAGS, *shape, *start], program="engine-core")))
        ranks = len(others) + 1
        front.wait_ready()
        front.wait_engines(ranks)
        yield Nodes(front, others, ranks)


def pss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().split("\n")
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def cpu_ticks(pid: int) -> int:
    words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(words[11]) + int(words[12])


def test_asleep_the_workers_give_their_kv_memory_back_and_use_no_cpu(nodes):
    expected = nodes.answers()
    nodes.fill_kv()
    workers = nodes.pids("worker")
    assert len(workers) == nodes.ranks
    before = {pid: pss(pid) for pid in workers}
    nodes.post("/sleep")
    assert nodes.is_sleeping()
    for pid in workers:
        assert before[pid] - pss(pid) > 0.9 * KV_BYTES, (before[pid], pss(pid), KV_BYTES)
    refused = nodes.ask(PROMPT, 0, 1)
    assert refused.status == 503 and int(refused.headers["Retry-After"]) >= 1
    assert refused.json()["error"]["message"] == "The engine is asleep."
    assert nodes.front.get("/ready").status == 200

    watched = workers + nodes.pids("engine-core")
    ticks = {pid: cpu_ticks(pid) for pid in watched}
    time.sleep(3)
    assert {pid: used for pid in watched if (used := cpu_ticks(pid) - ticks[pid]) > 3} == {}, "ticks of 10 ms in 3 s"

    nodes.post("/wake_up?tags=weights")
    assert nodes.is_sleeping()
    nodes.post("/wake_up?tags=weights&tags=kv_cache")
    assert not nodes.is_sleeping()
    assert nodes.answers() == expected
    assert nodes.pids("worker") == workers


@pytest.mark.parametrize("wake", ["/wake_up", "/resume"])
def test_what_runs_is_kept_and_goes_on_with_the_same_tokens(nodes, wake):
    expected = nodes.answers(tokens=500)
    for _ in range(3):
        got = []
        thread = threading.Thread(target=lambda: got.extend(nodes.answers(tokens=500)))
        thread.start()
        wait_for("one runs", lambda: nodes.front.metric("vllm:num_requests_running") == 1)
        nodes.post("/sleep?mode=keep")
        late, replies = in_background(lambda: nodes.ask(PROMPT, nodes.ranks - 1, 30))
        time.sleep(0.3)
        assert not replies and not got
        assert nodes.front.metric("vllm:num_requests_running") == 0
        nodes.post(wake)
        thread.join(timeout=60)
        late.join(timeout=60)
        assert got == expected
        assert replies[0].status == 200


def test_an_aborting_sleep_ends_what_runs_and_one_that_waits_does_not(nodes):
    for mode, reason in (("abort", "abort"), ("wait", "length")):
        thread, replies = in_background(lambda: nodes.ask(PROMPT, nodes.ranks - 1, 500))
        wait_for("it runs", lambda: nodes.front.metric("vllm:num_requests_running") == 1)
        nodes.post(f"/sleep?mode={mode}")
        thread.join(timeout=60)
        assert replies[0].json()["choices"][0]["finish_reason"] == reason
        nodes.post("/wake_up")


def test_a_rank_that_is_killed_comes_back_asleep():
    with cluster_of("--enable-expert-parallel") as cluster:
        cluster.wait_ready()
        cluster.wait_engines(2)
        assert cluster.post("/sleep", None, method="POST").status == 200
        kill_rank(cluster, 1)
        assert cluster.get("/is_sleeping").json() == {"is_sleeping": True}
        reply = cluster.complete("x", tokens=1)
        assert reply.status == 503 and reply.json()["error"]["message"] == "The engine is asleep."
        assert cluster.post("/wake_up", None, method="POST").status == 200
        for rank in ("0", "1"):
            body = {"model": "demo", "prompt": "x", "max_tokens": 2}
            assert cluster.post("/v1/completions", body, headers={"X-data-parallel-rank": rank}).status == 200


def test_what_cannot_be_is_refused_and_nobody_sleeps(nodes):
    for query, words in (
        ("?level=2", "level: 2 is not supported: weights are not loaded again while serving"),
        ("?level=deep", "level: must be 0 or 1, got 'deep'"),
        ("?mode=never", "mode: must be one of abort, wait, keep, got 'never'"),
    ):
        reply = nodes.front.post("/sleep" + query, None, method="POST")
        assert reply.status == 400 and words in reply.json()["error"]["message"]
    assert not nodes.is_sleeping()
