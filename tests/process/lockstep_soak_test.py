"""Random arrivals, hang-ups and pauses on four ranks of two nodes that divide their experts: every answer is the right one.

The nodes are network namespaces, with a delay between them where the kernel has netem (else it says so). 40 rounds;
LOCKSTEP_ROUNDS=1000 runs the long one, LOCKSTEP_SEED=n repeats one.
"""

import contextlib
import ctypes
import json
import os
import random
import socket
import subprocess
import threading

import pytest
from cluster import Cluster, wait_for
from expert_parallel_test import MODEL, PROMPTS, answer

ROUNDS = int(os.environ.get("LOCKSTEP_ROUNDS", "40"))
SEED = int(os.environ.get("LOCKSTEP_SEED", "1"))
RANKS = 4
FRONT, BACK = "trireme-soak-front", "trireme-soak-back"
FRONT_IP, BACK_IP = "10.213.9.1", "10.213.9.2"
CLONE_NEWNET = 0x40000000

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


def sh(*words, check=True):
    return subprocess.run(words, check=check, capture_output=True, text=True)


def enter_namespace(namespace):
    """This thread, and what it starts from here on."""
    if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"setns {namespace.name}")


@contextlib.contextmanager
def two_nodes():
    """In the front one."""
    ends = ((FRONT, "ts-front", FRONT_IP), (BACK, "ts-back", BACK_IP))
    home = open("/proc/thread-self/ns/net")
    try:
        for name, _, _ in ends:
            sh("ip", "netns", "del", name, check=False)
            sh("ip", "netns", "add", name)
            sh("ip", "-n", name, "link", "set", "lo", "up")
        sh("ip", "link", "add", "ts-front", "netns", FRONT, "type", "veth", "peer", "name", "ts-back", "netns", BACK)
        for name, device, address in ends:
            sh("ip", "-n", name, "addr", "add", f"{address}/24", "dev", device)
            sh("ip", "-n", name, "link", "set", device, "up")
            delay = sh("ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", device, "root", "netem", "delay", "1ms", "1ms", check=False)
            if delay.returncode != 0:
                print(f"no delay between the nodes: {delay.stderr.strip()}", flush=True)
        with open(f"/run/netns/{FRONT}") as front:
            enter_namespace(front)
        yield
    finally:
        enter_namespace(home)
        home.close()
        for name, _, _ in ends:
            sh("ip", "netns", "del", name, check=False)


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
    shape = ["--enable-expert-parallel", "--data-parallel-size", RANKS, "--data-parallel-size-local", 2,
             "--data-parallel-address", FRONT_IP, "--insecure-cluster"]  # fmt: skip
    rng = random.Random(SEED)
    with two_nodes():
        front = Cluster([*flags, "--served-model-name", "demo", *shape], environment={"VLLM_SERVER_DEV_MODE": "1"})
        there = [*flags, "--headless", *shape, "--data-parallel-start-rank", 2, "--data-parallel-rpc-port", front.rpc_port]
        with front, Cluster(there, program="engine-core", prefix=("ip", "netns", "exec", BACK)):
            front.wait_ready()
            front.wait_engines(RANKS)
            for number in range(ROUNDS):
                one_round(front, rng, expected)
                if number % 50 == 49:
                    print(f"{number + 1} rounds", flush=True)
            wait_for("all are idle", lambda: front.metric("vllm:num_requests_running") == 0)
