"""Two nodes whose ranks cannot reach each other, while the coordinator and the front end reach both: one is left out, and comes back.

The nodes are network namespaces. What is blocked are the ports at which ranks and workers hear each other: packets to and from
them find no route.
"""

import contextlib
import ctypes
import os
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest
from cluster import Cluster, kind_of, wait_for
from expert_parallel_test import MODEL, PROMPTS, answer

RANKS = 4
FRONT, BACK = "trireme-cut-front", "trireme-cut-back"
ADDRESS = {FRONT: "10.213.11.1", BACK: "10.213.11.2"}
DEVICE = {FRONT: "tc-front", BACK: "tc-back"}
RULE = ("priority", "10")
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
    home = open("/proc/thread-self/ns/net")
    try:
        for name in (FRONT, BACK):
            sh("ip", "netns", "del", name, check=False)
            sh("ip", "netns", "add", name)
            sh("ip", "-n", name, "link", "set", "lo", "up")
        sh("ip", "link", "add", DEVICE[FRONT], "netns", FRONT, "type", "veth", "peer", "name", DEVICE[BACK], "netns", BACK)
        for name in (FRONT, BACK):
            sh("ip", "-n", name, "addr", "add", f"{ADDRESS[name]}/24", "dev", DEVICE[name])
            sh("ip", "-n", name, "link", "set", DEVICE[name], "up")
        with open(f"/run/netns/{FRONT}") as front:
            enter_namespace(front)
        yield
    finally:
        enter_namespace(home)
        home.close()
        for name in (FRONT, BACK):
            sh("ip", "netns", "del", name, check=False)


def exchange_ports(node: Cluster) -> set[int]:
    """Where the node's ranks and workers listen."""
    ports = set()
    for process in node.family():
        if process.name != "worker" and not kind_of(process).startswith("rank "):
            continue
        links = {os.readlink(fd.path) for fd in os.scandir(f"/proc/{process.pid}/fd")}
        for line in Path(f"/proc/{process.pid}/net/tcp").read_text().split("\n")[1:]:
            words = line.split()
            if len(words) > 9 and words[3] == "0A" and f"socket:[{words[9]}]" in links:
                ports.add(int(words[1].split(":")[1], 16))
    return ports


def cut(ports: dict):
    for here, there in ((FRONT, BACK), (BACK, FRONT)):
        for side, list_of_ports in (("sport", ports[here]), ("dport", ports[there])):
            for port in list_of_ports:
                sh("ip", "-n", here, "rule", "add", *RULE, "to", ADDRESS[there], "ipproto", "tcp", side, str(port), "blackhole")


def heal():
    for node in (FRONT, BACK):
        while sh("ip", "-n", node, "rule", "del", *RULE, check=False).returncode == 0:
            pass


class Asker(threading.Thread):
    """Asks one rank again and again; keeps what was not the expected answer, and the longest time between two that were."""

    def __init__(self, cluster, rank: int, expected: dict):
        super().__init__()
        self.arguments = (cluster, rank, expected)
        self.is_over = False
        self.good = 0
        self.others = []
        self.longest = 0.0
        self.start()

    def run(self):
        cluster, rank, expected = self.arguments
        last = time.monotonic()
        while not self.is_over:
            prompt = PROMPTS[self.good % len(PROMPTS)]
            got = answer(cluster, prompt, rank)
            if got == expected[prompt]:
                self.longest = max(self.longest, time.monotonic() - last)
                last = time.monotonic()
                self.good += 1
            else:
                self.others.append(got)
                time.sleep(0.1)

    def stop(self):
        self.is_over = True
        self.join(timeout=60)
        return self


def test_of_two_nodes_that_cannot_reach_each_other_one_goes_on_and_the_other_comes_back():
    flags = [str(MODEL), "--max-model-len", 1024]
    with Cluster([*flags, "--served-model-name", "demo"]) as alone:
        alone.wait_ready()
        expected = {prompt: answer(alone, prompt, 0) for prompt in PROMPTS}
    shape = ["--enable-expert-parallel", "--data-parallel-size", RANKS, "--data-parallel-size-local", 2,
             "--data-parallel-address", ADDRESS[FRONT], "--insecure-cluster"]  # fmt: skip
    with two_nodes():
        front = Cluster([*flags, "--served-model-name", "demo", *shape])
        there = [*flags, "--headless", *shape, "--data-parallel-start-rank", 2, "--data-parallel-rpc-port", front.rpc_port]
        with front, Cluster(there, program="engine-core", prefix=("ip", "netns", "exec", BACK)) as back:
            front.wait_ready()
            front.wait_engines(RANKS)
            near, far = Asker(front, 1, expected), Asker(front, 3, expected)
            wait_for("answers of both", lambda: min(near.good, far.good) >= 3)
            pids = sorted(p.pid for p in back.family())
            cut({FRONT: exchange_ports(front), BACK: exchange_ports(back)})
            wait_for("the node is left out", lambda: front.engines_up() == 2, 10)
            before = near.good
            wait_for("the other goes on", lambda: near.good >= before + 6, 20)
            assert re.search(r"rank 2 \(node '[^']*'\) and rank [01] \(node '[^']*'\) cannot hear each other: rank 2 is left out for 10 s",
                             front.log_text())  # fmt: skip
            heal()
            wait_for("all are back", lambda: front.engines_up() == RANKS, 40)
            before = far.good
            wait_for("they serve", lambda: far.good >= before + 3, 20)
            near.stop()
            far.stop()
            assert near.others == [] and near.longest < 8
            assert far.others and {got[0] for got in far.others} == {503}
            assert sorted(p.pid for p in back.family()) == pids, "nothing had to be started anew"
            for rank in range(RANKS):
                for prompt in PROMPTS:
                    assert answer(front, prompt, rank) == expected[prompt], (rank, prompt)
