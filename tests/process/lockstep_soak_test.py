"""Random arrivals, bursts, hang-ups, pauses and sleeps on four ranks of two nodes that divide their experts: every answer is right.

The nodes are network namespaces with a slow link between them (slow_link.py). What a pause may do to a request is what its
mode says and no more; what is answered is what one rank alone answers, bit for bit. Between rounds there is nothing, or a
time without requests that a wave may outlast or not. 40 rounds; LOCKSTEP_ROUNDS=1000 runs the long one, LOCKSTEP_SEED=n
repeats one.
"""

import collections
import json
import os
import random
import socket
import threading
import time

import pytest
from cluster import Cluster, metric_by_engine, wait_for
from expert_parallel_test import MODEL, PROMPTS
from slow_link import BACK, FRONT_IP, two_nodes

ROUNDS = int(os.environ.get("LOCKSTEP_ROUNDS", "40"))
SEED = int(os.environ.get("LOCKSTEP_SEED", "1"))
RANKS = 4
TOKENS = (1, 7, 30)
PAUSES = ("abort", "wait", "keep", None, None, None, None, None, None, None)  # Of each ten rounds, in any order.
HELD = ("The engine is paused.", "The engine is asleep.")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


def hang_up(cluster, rank: int, after: float):
    """Asks for a long answer and closes the connection."""
    body = json.dumps({"model": "demo", "prompt": "hello", "max_tokens": 500, "ignore_eos": True, "stream": True})
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nX-data-parallel-rank: {rank}\r\nContent-Type: application/json\r\n"
    with socket.create_connection((cluster.host, cluster.port), timeout=30) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        until = time.monotonic() + after
        try:
            while (left := until - time.monotonic()) > 0:
                connection.settimeout(left)
                if not connection.recv(65536):
                    return
        except TimeoutError:
            pass


def answer(cluster, prompt: str, rank: int, tokens: int) -> tuple:
    """Why it ended, its text and its logprobs; or 503 and why."""
    body = {"model": "demo", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "logprobs": 1}
    reply = cluster.post("/v1/completions", body, headers={"X-data-parallel-rank": str(rank)})
    if reply.status != 200:
        return reply.status, reply.json()["error"]["message"], ()
    choice = reply.json()["choices"][0]
    logprobs = choice["logprobs"]["token_logprobs"] if choice["logprobs"] else ()
    return choice["finish_reason"], choice["text"], tuple(logprobs)


def outcome(got: tuple, expected: tuple, mode) -> str:
    """What has become of a request in a round with a pause of this mode; "wrong": what may not."""
    reason, text, logprobs = got
    if got == expected:
        return "answered"
    if reason == 503 and text in HELD and mode in ("abort", "wait"):
        return "refused"
    begun = expected[1].startswith(text.rstrip("\ufffd")) and logprobs == expected[2][: len(logprobs)]
    return "aborted" if reason == "abort" and begun and mode == "abort" else "wrong"


class Soak:
    def __init__(self, cluster, expected: dict):
        self.cluster, self.expected = cluster, expected
        self.rng = random.Random(SEED)
        self.counts = collections.Counter()
        self.outcomes = []  # Of the round's requests.
        self.wrong = []
        self.modes = []  # Of the rounds to come.

    def ask(self, after: float, mode, rank: int, prompt: str, tokens: int):
        time.sleep(after)
        got = answer(self.cluster, prompt, rank, tokens)
        became = outcome(got, self.expected[prompt, tokens], mode)
        self.outcomes.append(became)
        if became == "wrong":
            self.wrong.append((mode, rank, prompt, tokens, got))

    def leave(self, after: float, rank: int, patience: float):
        time.sleep(after)
        hang_up(self.cluster, rank, patience)
        self.outcomes.append("hung up")

    def arrival(self, is_burst: bool, mode) -> threading.Thread:
        rng = self.rng
        after = 0 if is_burst else rng.uniform(0, 0.1)
        rank = rng.randrange(RANKS)
        if rng.random() < 0.25:
            return threading.Thread(target=self.leave, args=(after, rank, rng.uniform(0.001, 0.1)))
        return threading.Thread(target=self.ask, args=(after, mode, rank, rng.choice(PROMPTS), rng.choice(TOKENS)))

    def one_round(self):
        rng = self.rng
        if not self.modes:
            self.modes = rng.sample(PAUSES, len(PAUSES))
        mode = self.modes.pop()
        is_burst = rng.random() < 0.2
        arrivals = [self.arrival(is_burst, mode) for _ in range(rng.randrange(8, 17) if is_burst else rng.randrange(1, 7))]
        for thread in arrivals:
            thread.start()
        if mode:
            self.pause_and_resume(mode)
        for thread in arrivals:
            thread.join(timeout=60)
            assert not thread.is_alive(), "a request is stranded"
        assert self.wrong == [], f"seed {SEED}"
        assert len(self.outcomes) == len(arrivals), "a request has failed"
        self.counts.update(self.outcomes)
        self.outcomes.clear()
        self.counts["no pause"] += mode is None
        self.counts["burst"] += is_burst
        if rng.random() < 0.5:
            self.counts["idle time"] += 1
            time.sleep(rng.choice((rng.uniform(0, 0.02), rng.uniform(0, 0.2))))

    def pause_and_resume(self, mode: str):
        cluster, rng = self.cluster, self.rng
        time.sleep(rng.uniform(0, 0.1))
        sleeps = rng.random() < 0.5
        route = "sleep?" if sleeps else f"pause?clear_cache={rng.choice(('true', 'false'))}&"
        assert cluster.post(f"/{route}mode={mode}", {}).status == 200
        assert cluster.get("/is_paused").json() == {"is_paused": True}
        if mode != "keep":
            assert answer(cluster, PROMPTS[0], rng.randrange(RANKS), 1)[:2] == (503, HELD[sleeps])
        time.sleep(rng.choice((0, rng.uniform(0, 0.05))))
        assert cluster.post("/wake_up" if sleeps else "/resume", {}).status == 200
        self.counts[f"{'sleep' if sleeps else 'pause'} {mode}"] += 1

    def wave(self) -> int:
        return int(max(metric_by_engine(self.cluster, "trireme:engine_wave").values()))


def run_rounds(cluster, expected: dict) -> collections.Counter:
    soak = Soak(cluster, expected)
    began, first_wave = time.monotonic(), soak.wave()
    for number in range(ROUNDS):
        soak.one_round()
        if number % 50 == 49:
            print(f"{number + 1} rounds, {time.monotonic() - began:.0f} s", flush=True)
    wait_for("all are idle", lambda: cluster.metric("vllm:num_requests_running") == 0)
    soak.counts["waves"] = soak.wave() - first_wave
    print(f"seed {SEED}: {(time.monotonic() - began) / ROUNDS:.2f} s a round; {dict(sorted(soak.counts.items()))}", flush=True)
    return soak.counts


def test_every_answer_of_every_round_is_right():
    flags = [str(MODEL), "--max-model-len", 1024]
    with Cluster([*flags, "--served-model-name", "demo"]) as alone:
        alone.wait_ready()
        expected = {(prompt, tokens): answer(alone, prompt, 0, tokens) for prompt in PROMPTS for tokens in TOKENS}
    shape = ["--enable-expert-parallel", "--data-parallel-size", RANKS, "--data-parallel-size-local", 2,
             "--data-parallel-address", FRONT_IP, "--insecure-cluster"]  # fmt: skip
    with two_nodes():
        front = Cluster([*flags, "--served-model-name", "demo", *shape], environment={"VLLM_SERVER_DEV_MODE": "1"})
        there = [*flags, "--headless", *shape, "--data-parallel-start-rank", 2, "--data-parallel-rpc-port", front.rpc_port]
        with front, Cluster(there, program="engine-core", prefix=("ip", "netns", "exec", BACK)):
            front.wait_ready()
            front.wait_engines(RANKS)
            counts = run_rounds(front, expected)
            assert front.metric("trireme:engine_losses_total") == 0
    for kind in ("answered", "hung up", "burst", "idle time"):
        assert counts[kind] > 0 or ROUNDS < 40, kind
    for mode in ("abort", "wait", "keep"):
        assert counts[f"pause {mode}"] + counts[f"sleep {mode}"] >= ROUNDS // len(PAUSES)
    assert counts["waves"] > ROUNDS // 4
