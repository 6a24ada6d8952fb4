"""One engine's workers on two network namespaces: pipeline and tensor parallelism across nodes, deaths and returns."""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time

import pytest
from cluster import BIN, DEMO, ROOT, Cluster, Reply, all_processes, demo_cluster, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

FRONT, NODE = "trireme-span-front", "trireme-span-node"
FRONT_IP, NODE_IP = "10.213.9.1", "10.213.9.2"
LINK = "tn-front"
MIXTURE = ROOT / "models/demo-moe"
PROMPTS = ["The capital of France is", "Once upon a time", "12 + 7 ="]


def sh(*words, check=True):
    return subprocess.run(words, check=check, capture_output=True, text=True)


@pytest.fixture(scope="module")
def network():
    for name in (FRONT, NODE):
        sh("ip", "netns", "del", name, check=False)
        sh("ip", "netns", "add", name)
        sh("ip", "-n", name, "link", "set", "lo", "up")
    sh("ip", "link", "add", LINK, "netns", FRONT, "type", "veth", "peer", "name", "tn-node", "netns", NODE)
    for name, device, address in ((FRONT, LINK, FRONT_IP), (NODE, "tn-node", NODE_IP)):
        sh("ip", "-n", name, "addr", "add", f"{address}/24", "dev", device)
        sh("ip", "-n", name, "link", "set", device, "up")
    yield
    for name in (FRONT, NODE):
        sh("ip", "netns", "del", name, check=False)


@pytest.fixture(scope="module")
def key():
    return sh(str(BIN / "trireme"), "key", "new").stdout.strip()


class Front(Cluster):
    """HTTP to a front that listens inside its namespace goes through curl there."""

    def get(self, path, **more):
        return self.curl(path, None)

    def post(self, path, body, **more):
        return self.curl(path, body)

    def curl(self, path, body):
        words = ["ip", "netns", "exec", FRONT, "curl", "-s", "-i", "-m", "60", self.url + path]
        if body is not None:
            words += ["-H", "Content-Type: application/json", "-H", "Expect:", "-d", json.dumps(body)]
        head, _, text = sh(*words, check=False).stdout.partition("\n\n")
        if not head:
            raise OSError("no connection")
        first, *lines = head.split("\n")
        headers = dict(line.split(": ", 1) for line in lines if ": " in line)
        return Reply(int(first.split()[1]), headers, text.encode())


def flags(tp, pp, node_rank, *more):
    return ["-tp", tp, "-pp", pp, "--nnodes", 2, "--node-rank", node_rank, "--master-addr", FRONT_IP, "--served-model-name", "demo", *more]


def front(key, tp, pp, *more):
    return Front([DEMO, *flags(tp, pp, 0, *more)], prefix=("ip", "netns", "exec", FRONT), environment={"TRIREME_CLUSTER_KEY": key})


def node(key, tp, pp, *more, model=DEMO):
    return Cluster([model, "--headless", *flags(tp, pp, 1, *more)], program="engine-core",
                   prefix=("ip", "netns", "exec", NODE), environment={"TRIREME_CLUSTER_KEY": key})  # fmt: skip


def is_serving(cluster) -> bool:
    """Ready, and an engine behind it."""
    try:
        return cluster.is_ready() and cluster.engines_up() >= 1
    except OSError:
        return False


def answers(cluster):
    """Tokens and logprobs of some prompts under greedy decoding."""
    found = []
    for prompt in PROMPTS:
        reply = cluster.complete(prompt, tokens=12, ignore_eos=True, logprobs=2)
        assert reply.status == 200, reply.body
        choice = reply.json()["choices"][0]
        found.append((choice["text"], choice["logprobs"]["tokens"], choice["logprobs"]["token_logprobs"]))
    return found


@pytest.fixture(scope="module")
def alone():
    """The same in one node: {(tp, pp): answers}."""
    found = {}
    for tp, pp in ((1, 2), (2, 1)):
        with demo_cluster("-tp", tp, "-pp", pp) as cluster:
            found[tp, pp] = answers(cluster.wait_ready())
    return found


def workers_of(*clusters) -> set:
    return {p.pid for c in clusters for p in c.family() if p.name == "worker"}


@pytest.mark.parametrize(("tp", "pp", "order"), [(1, 2, "front first"), (2, 1, "node first")])
def test_same_tokens_and_logprobs_as_in_one_node(network, key, alone, tp, pp, order):
    with contextlib.ExitStack() as stack:
        makers = (front, node) if order == "front first" else (node, front)
        first = stack.enter_context(makers[0](key, tp, pp))
        if order == "front first":
            wait_for("the front waits for workers", lambda: "waiting_for_workers" in first.log_text(), 20)
        else:
            wait_for("the node waits for its engine", lambda: "waiting for the engine" in first.log_text(), 20)
        second = stack.enter_context(makers[1](key, tp, pp))
        cluster, far = (first, second) if order == "front first" else (second, first)
        wait_for("an engine", lambda: is_serving(cluster), 60)
        assert answers(cluster) == alone[tp, pp]
        assert answers(cluster)[0][0].startswith(" Paris")
        pids = workers_of(far)
        assert len(pids) == 1
        wait_for("the node says what it serves", lambda: f"serving (pids {next(iter(pids))})" in far.log_text(), 10)
        everything = workers_of(cluster, far)
        cluster.process.send_signal(signal.SIGTERM)
        assert cluster.process.wait(timeout=40) == 0
        wait_for("no worker is left", lambda: not everything & set(all_processes()), 5)
        far.process.send_signal(signal.SIGTERM)
        assert far.process.wait(timeout=10) == 0


@pytest.fixture(scope="module")
def spanning(network, key):
    with front(key, 2, 2) as cluster, node(key, 2, 2) as far:
        wait_for("an engine", lambda: is_serving(cluster), 60)
        yield cluster, far


def lose_while_answering(cluster, lose):
    """A long request is running when lose() is called; its reply."""
    replies = []
    ask = threading.Thread(target=lambda: replies.append(cluster.complete("Count:", tokens=1900, ignore_eos=True)))
    ask.start()
    wait_for("it runs", lambda: cluster.metric("vllm:num_requests_running") == 1)
    losses = cluster.metric("trireme:engine_losses_total")
    lose()
    ask.join(timeout=60)
    wait_for("the engine is missed", lambda: cluster.metric("trireme:engine_losses_total") > losses, 20)
    return replies[0]


def test_killed_worker_on_the_far_node_is_a_503_and_then_back(spanning):
    cluster, far = spanning
    victim = min(workers_of(far))
    started = time.monotonic()
    reply = lose_while_answering(cluster, lambda: os.kill(victim, signal.SIGKILL))
    assert time.monotonic() - started < 20
    assert reply.status == 503
    assert "Retry-After" in reply.headers
    assert f"pid {victim}" in cluster.log_text()
    wait_for("back", lambda: is_serving(cluster), 60)
    assert cluster.complete("The capital of France is").json()["choices"][0]["text"].startswith(" Paris")


def test_killed_engine_takes_its_far_workers_along_and_all_come_back(spanning):
    cluster, far = spanning
    before = workers_of(cluster, far)
    reply = lose_while_answering(cluster, lambda: os.kill(cluster.find("rank 0").pid, signal.SIGKILL))
    assert reply.status == 503
    wait_for("every old worker has ended", lambda: not before & set(all_processes()), 10)
    wait_for("back", lambda: is_serving(cluster), 60)
    assert cluster.complete("The capital of France is").status == 200


def test_lost_link_is_a_503_and_then_back(spanning):
    cluster, far = spanning
    before = workers_of(cluster, far)
    reply = lose_while_answering(cluster, lambda: sh("ip", "-n", FRONT, "link", "set", LINK, "down"))
    assert reply.status == 503
    wait_for("every old worker has ended", lambda: not before & set(all_processes()), 20)
    sh("ip", "-n", FRONT, "link", "set", LINK, "up")
    wait_for("back", lambda: is_serving(cluster), 60)
    assert cluster.complete("The capital of France is").status == 200


def test_dead_node_leaves_no_orphan_and_comes_back(spanning, key):
    cluster, far = spanning
    family = {p.pid for p in far.family()}
    reply = lose_while_answering(cluster, lambda: far.process.kill())
    assert reply.status == 503
    wait_for("nothing is left of the node", lambda: not family & set(all_processes()), 5)
    with node(key, 2, 2):
        wait_for("back", lambda: is_serving(cluster), 60)
        assert cluster.complete("The capital of France is").status == 200


def test_stopped_worker_on_the_far_node_is_named_there_and_killed_and_the_group_comes_back(network, key):
    more = ["--distributed-timeout-seconds", 8, "--master-port", 29801]
    with front(key, 2, 2, *more) as cluster, node(key, 2, 2, *more) as far:
        wait_for("an engine", lambda: is_serving(cluster), 60)
        before = workers_of(cluster, far)
        victim = max(workers_of(far))
        name = f"rank 0 worker pp1 tp1 (pid {victim}) is stopped (process state T) and has been "
        reply = lose_while_answering(cluster, lambda: os.kill(victim, signal.SIGSTOP))
        assert reply.status == 503
        slow = [line for line in far.log_text().split("\n") if '"step_slow"' in line]
        assert slow and name in slow[0], far.log_text()
        killed = f"worker killed, as it made no progress: {name}"
        wait_for("the far node says so", lambda: killed in far.log_text(), 10)
        wait_for("the engine says why", lambda: killed in cluster.log_text(), 10)
        wait_for("every old worker has ended", lambda: not before & set(all_processes()), 10)
        wait_for("back", lambda: is_serving(cluster), 60)
        assert cluster.complete("The capital of France is").status == 200


def test_stopped_parent_of_far_workers_is_named_and_killed_and_the_group_comes_back(network, key):
    more = ["--distributed-timeout-seconds", 8, "--master-port", 29803]
    with front(key, 2, 2, *more) as cluster, node(key, 2, 2, *more) as far:
        wait_for("an engine", lambda: is_serving(cluster), 60)
        before, victim = workers_of(cluster, far), far.find("rank 0").pid
        os.kill(victim, signal.SIGSTOP)
        killed = "killed, as its main loop made no turn for "
        wait_for("the far node says so", lambda: killed in far.log_text(), 20)
        line = next(line for line in far.log_text().split("\n") if killed in line)
        died = json.loads(line[line.index("{") :])
        assert (died["event"], died["who"], died["child_pid"]) == ("workers_died", "ranks 2-3, the workers of engine 0", victim)
        assert "(process state T, stopped); its stacks: " in died["reason"]
        wait_for("every old worker has ended", lambda: not before & set(all_processes()), 10)
        wait_for("back", lambda: is_serving(cluster), 60)
        assert cluster.complete("The capital of France is").status == 200


def test_far_worker_that_waits_for_a_stopped_one_here_is_not_blamed(network, key):
    more = ["--distributed-timeout-seconds", 8, "--master-port", 29802]
    with front(key, 2, 2, *more) as cluster, node(key, 2, 2, *more) as far:
        wait_for("an engine", lambda: is_serving(cluster), 60)
        victim = max(workers_of(cluster))
        reply = lose_while_answering(cluster, lambda: os.kill(victim, signal.SIGSTOP))
        assert reply.status == 503
        killed = f"worker killed, as it made no progress: rank 0 worker pp0 tp1 (pid {victim})"
        wait_for("the engine says why", lambda: killed in cluster.log_text(), 10)
        assert '"step_slow"' not in far.log_text()
        wait_for("back", lambda: is_serving(cluster), 60)


def test_every_engine_of_a_data_parallel_group_spans_the_nodes(network, key):
    more = ["--data-parallel-size", 2, "--master-port", 29701]
    with front(key, 2, 1, *more) as cluster, node(key, 2, 1, *more) as far:
        wait_for("two engines", lambda: is_serving(cluster) and cluster.engines_up() == 2, 60)
        assert len(workers_of(cluster)) == len(workers_of(far)) == 2
        assert cluster.complete("The capital of France is").json()["choices"][0]["text"].startswith(" Paris")
        os.kill(max(workers_of(far)), signal.SIGKILL)
        wait_for("one is missed", lambda: cluster.metric("trireme:engine_losses_total") >= 1, 20)
        wait_for("two engines again", lambda: is_serving(cluster) and cluster.engines_up() == 2, 60)


@pytest.mark.parametrize(
    ("model", "more", "words"),
    [(DEMO, ["--block-size", 32], ["block-size", "'32'", "'16'"]), (DEMO, ["--max-model-len", 512], ["max-model-len", "'512'", "'auto'"]),
     (MIXTURE, [], ["model", "MixtralForCausalLM", "LlamaForCausalLM"])],
)
def test_other_configuration_is_refused_with_both_values(network, key, model, more, words):
    port = ["--master-port", 29601]  # Beside the cluster that still runs.
    with front(key, 1, 2, *port), node(key, 1, 2, *more, *port, model=model) as far:
        assert far.process.wait(timeout=30) != 0
        assert all(word in far.log_text() for word in words), far.log_text()


def test_without_a_key_the_refusal_says_what_to_type(network):
    words = ["ip", "netns", "exec", NODE, BIN / "engine-core", DEMO, "--headless", *flags(1, 2, 1)]
    environment = {k: v for k, v in os.environ.items() if k != "TRIREME_CLUSTER_KEY"}
    result = subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=30, check=False,
                            env={**environment, "HOME": "/nonexistent"})  # fmt: skip
    assert result.returncode != 0
    assert "trireme key new" in result.stdout + result.stderr
    assert "--insecure-cluster" in result.stdout + result.stderr
