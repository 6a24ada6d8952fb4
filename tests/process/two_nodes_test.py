"""The two-node commands of DESIGN over two network namespaces joined by veth: DP=4, ranks 0-1 headless."""

import contextlib
import os
import subprocess
import time

import pytest
from cluster import BIN, DEMO, Cluster, safe_engines, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

HEAD, NODE = "trireme-front", "trireme-node"
HEAD_IP, NODE_IP = "10.213.7.1", "10.213.7.2"
RPC_PORT = 13345


def sh(*words, check=True):
    return subprocess.run(words, check=check, capture_output=True, text=True)


@pytest.fixture(scope="module")
def network():
    """Two hosts: HEAD_IP in one namespace, NODE_IP in the other."""
    for name in (HEAD, NODE):
        sh("ip", "netns", "del", name, check=False)
        sh("ip", "netns", "add", name)
        sh("ip", "-n", name, "link", "set", "lo", "up")
    sh("ip", "link", "add", "tt-front", "netns", HEAD, "type", "veth", "peer", "name", "tt-node", "netns", NODE)
    for name, device, address in ((HEAD, "tt-front", HEAD_IP), (NODE, "tt-node", NODE_IP)):
        sh("ip", "-n", name, "addr", "add", f"{address}/24", "dev", device)
        sh("ip", "-n", name, "link", "set", device, "up")
    yield
    for name in (HEAD, NODE):
        sh("ip", "netns", "del", name, check=False)


@pytest.fixture(scope="module")
def key():
    return sh(str(BIN / "trireme"), "key", "new").stdout.strip()


class InNamespace(Cluster):
    """HTTP to a cluster that listens inside the front namespace goes through curl there."""

    def get(self, path, **more):
        return self.curl(path, None)

    def post(self, path, body, **more):
        return self.curl(path, body)

    def curl(self, path, body):
        import json

        from cluster import Reply

        words = ["ip", "netns", "exec", HEAD, "curl", "-s", "-m", "60", "-w", "\n%{http_code}", self.url + path]
        if body is not None:
            words += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        out = sh(*words, check=False).stdout
        text, _, status = out.rpartition("\n")
        if status == "000":
            raise OSError("no connection")
        return Reply(int(status), {}, text.encode())


def common_flags(tp: int):
    return ["--tensor-parallel-size", tp, "--data-parallel-size", 4, "--data-parallel-size-local", 2,
            "--data-parallel-address", HEAD_IP, "--data-parallel-rpc-port", RPC_PORT, "--served-model-name", "demo"]  # fmt: skip


def front(key, tp, *flags):
    return InNamespace([DEMO, *common_flags(tp), "--data-parallel-start-rank", 2, *flags],
                       prefix=("ip", "netns", "exec", HEAD), environment={"TRIREME_CLUSTER_KEY": key})  # fmt: skip


def headless(key, tp):
    return Cluster([DEMO, "--headless", *common_flags(tp), "--data-parallel-start-rank", 0], program="engine-core",
                   prefix=("ip", "netns", "exec", NODE), environment={"TRIREME_CLUSTER_KEY": key})  # fmt: skip


@pytest.mark.parametrize("order", ["front first", "node first"])
def test_two_node_commands_work_in_either_order(network, key, order):
    with contextlib.ExitStack() as stack:
        first, second = (front, headless) if order == "front first" else (headless, front)
        clusters = [stack.enter_context(first(key, 2))]
        time.sleep(3)  # The point of the test: the other one comes late.
        clusters.append(stack.enter_context(second(key, 2)))
        cluster = next(c for c in clusters if isinstance(c, InNamespace))
        wait_for("four engines", lambda: safe_engines(cluster) == 4, 90)
        answer = cluster.complete("The capital of France is").json()
        assert answer["choices"][0]["text"].startswith(" Paris")


def test_lost_node_shrinks_the_cluster_and_comes_back(network, key):
    with front(key, 1) as cluster:
        with headless(key, 1):
            wait_for("four engines", lambda: safe_engines(cluster) == 4, 90)
        wait_for("two engines", lambda: safe_engines(cluster) == 2, 20)
        assert cluster.complete("The capital of France is").status == 200
        with headless(key, 1):
            wait_for("four engines again", lambda: safe_engines(cluster) == 4, 60)


def test_cut_link_loses_the_far_ranks_and_a_whole_one_brings_them_back(network, key):
    with front(key, 1) as cluster, headless(key, 1) as node:
        wait_for("four engines", lambda: safe_engines(cluster) == 4, 90)
        pids = sorted(p.pid for p in node.family())
        sh("ip", "-n", NODE, "link", "set", "tt-node", "down")
        wait_for("two engines", lambda: safe_engines(cluster) == 2, 20)
        assert cluster.complete("The capital of France is").status == 200
        time.sleep(3)  # The connections break as well: heartbeats end after 5 s.
        sh("ip", "-n", NODE, "link", "set", "tt-node", "up")
        wait_for("four engines again", lambda: safe_engines(cluster) == 4, 60)
        assert {cluster.complete("The capital of France is").status for _ in range(8)} == {200}
        assert sorted(p.pid for p in node.family()) == pids, "nothing had to be started anew"


def test_wrong_key_gets_nothing(network, key):
    other = sh(str(BIN / "trireme"), "key", "new").stdout.strip()
    with front(key, 1) as cluster, headless(other, 1):
        wait_for("two engines", lambda: safe_engines(cluster) == 2, 60)
        time.sleep(5)
        assert safe_engines(cluster) == 2


def test_without_a_key_the_refusal_says_what_to_type(network):
    words = [*("ip", "netns", "exec", HEAD), str(BIN / "api-server"), str(DEMO), *map(str, common_flags(1))]
    environment = {k: v for k, v in os.environ.items() if k != "TRIREME_CLUSTER_KEY"}
    result = subprocess.run(words, capture_output=True, text=True, timeout=30, env={**environment, "HOME": "/nonexistent"}, check=False)
    assert result.returncode != 0
    assert "trireme key new" in result.stdout + result.stderr
    assert "--insecure-cluster" in result.stdout + result.stderr
