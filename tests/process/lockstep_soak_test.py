"""Random arrivals, hang-ups and pauses on four ranks of two nodes that divide their experts: every answer is the right one.

40 rounds; LOCKSTEP_ROUNDS=1000 runs the long one, LOCKSTEP_SEED=n repeats one.
"""

import os
import random
import socket
import json
import threading

from cluster import Cluster, wait_for
from expert_parallel_test import MODEL, PROMPTS, answer

ROUNDS = int(os.environ.get("LOCKSTEP_ROUNDS", "40"))
SEED = int(os.environ.get("LOCKSTEP_SEED", "1"))
RANKS = 4


def hang_up(cluster, rank: int, after: float):
    """Asks for a long answer and closes the connection."""
    body = json.dumps({"model": "demo", "prompt": "hello", "max_tokens": 500, "ignore_eos": True, "stream": True})
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nX-data-parallel-rank: {rank}\r\nContent-Type: application/json\r\n"
    with socket.create_connection((cluster.host, cluster.port), timeout=30) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        connection.settimeout(after)
        try:
            while connection.recv(65536):
                pass
        except TimeoutError:
            pass


def one_round(cluster, rng: random.Random, expected: dict):
    wrong = []

    def ask(rank, prompt, tokens):
        got = answer(cluster, prompt, rank, tokens)
        if got != expected[prompt, tokens]:
            wrong.append((rank, prompt, tokens, got))

    threads = []
    for _ in range(rng.randrange(1, 9)):
        rank = rng.randrange(RANKS)
        if rng.random() < 0.25:
            threads.append(threading.Thread(target=hang_up, args=(cluster, rank, rng.uniform(0.001, 0.05))))
        else:
            threads.append(threading.Thread(target=ask, args=(rank, rng.choice(PROMPTS), rng.choice((1, 7, 30)))))
    pauses = rng.random() < 0.3
    for thread in threads:
        thread.start()
    if pauses:
        assert cluster.post("/pause?mode=keep&clear_cache=false", {}).status == 200
        assert cluster.get("/is_paused").json() == {"is_paused": True}
        assert cluster.post("/resume", {}).status == 200
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive(), "a request is stranded"
    assert wrong == []


def test_every_answer_of_every_round_is_right():
    flags = [str(MODEL), "--max-model-len", 1024]
    with Cluster([*flags, "--served-model-name", "demo"]) as alone:
        alone.wait_ready()
        expected = {(prompt, tokens): answer(alone, prompt, 0, tokens) for prompt in PROMPTS for tokens in (1, 7, 30)}
    shape = ["--enable-expert-parallel", "--data-parallel-size", RANKS, "--data-parallel-size-local", 2, "--data-parallel-address", "127.0.0.1"]
    rng = random.Random(SEED)
    front = Cluster([*flags, "--served-model-name", "demo", *shape], environment={"VLLM_SERVER_DEV_MODE": "1"})
    with front:
        there = [*flags, "--headless", *shape, "--data-parallel-start-rank", 2, "--data-parallel-rpc-port", front.rpc_port]
        with Cluster(there, program="engine-core"):
            front.wait_ready()
            front.wait_engines(RANKS)
            for number in range(ROUNDS):
                one_round(front, rng, expected)
                if number % 50 == 49:
                    print(f"{number + 1} rounds", flush=True)
            wait_for("all are idle", lambda: front.metric("vllm:num_requests_running") == 0)
