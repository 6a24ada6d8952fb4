"""Who serves which ranks: hybrid and external balancing, the uni executor, a front without engines.

A node is a launcher with its own ranks; all of them are on this machine, as the nodes of a cluster whose
--data-parallel-address is loopback.
"""

import contextlib
import os
import re
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from cluster import DEMO, Cluster, free_port, kind_of, metric_by_engine, safe_engines, wait_for


def node(rpc_port, *flags, **more) -> Cluster:
    shared = ["--data-parallel-address", "127.0.0.1", "--data-parallel-rpc-port", str(rpc_port), "--served-model-name", "demo"]
    return Cluster([str(DEMO), *shared, *map(str, flags)], **more)


def headless(rpc_port, *flags) -> Cluster:
    return node(rpc_port, "--headless", *flags, program="engine-core")


def serve_many(cluster, count=24):
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda i: cluster.complete(f"Number {i} is", tokens=8, ignore_eos=True), range(count)))
    assert {r.status for r in replies} == {200}, [r.body for r in replies if r.status != 200]
    assert cluster.complete("The capital of France is").json()["choices"][0]["text"].startswith(" Paris")


def assert_routes_only_to(cluster, ranks):
    """What was asked of this front end went to these ranks, to each of them, and to no other."""
    before = metric_by_engine(cluster, "trireme:requests_routed_total")
    serve_many(cluster)
    after = metric_by_engine(cluster, "trireme:requests_routed_total")
    assert set(after) == set(ranks), "ranks of other nodes are not told"
    assert all(after[r] > before.get(r, 0) for r in ranks), (before, after)
    for name in ("vllm:num_requests_running", "vllm:cache_config_info", "trireme:engine_up", "trireme:engine_score"):
        assert set(metric_by_engine(cluster, name)) == set(ranks), name


def pids_of(cluster) -> dict[str, int]:
    return {kind_of(p): p.pid for p in cluster.family() if kind_of(p).startswith("rank")}


def assert_survives_the_death_of(cluster, rank, ready_after, others=()):
    """kill -9 of one rank: this front end goes on as soon as it can, the others do not notice."""
    untouched = [pids_of(other) for other in others]
    victim = cluster.find(f"rank {rank}").pid
    lost = cluster.metric("trireme:engine_losses_total")
    os.kill(victim, signal.SIGKILL)
    wait_for("it is missed", lambda: cluster.metric("trireme:engine_losses_total") > lost)
    for other in others:
        assert other.complete("The capital of France is").status == 200
    wait_for("it is back", lambda: (p := cluster.find(f"rank {rank}")) and p.pid != victim)
    cluster.wait_engines(ready_after)
    assert cluster.complete("The capital of France is").status == 200
    assert [pids_of(other) for other in others] == untouched


def test_hybrid_each_node_serves_its_own_ranks():
    rpc_port = free_port()
    flags = ["--data-parallel-hybrid-lb", "--data-parallel-size", 4, "--data-parallel-size-local", 2]
    with node(rpc_port, *flags, "--data-parallel-start-rank", 2) as second, node(rpc_port, *flags) as first:
        for cluster in (first, second):
            cluster.wait_ready()
            cluster.wait_engines(2)
        assert first.find("coordinator") and not second.find("coordinator")
        assert set(pids_of(first)) == {"rank 0", "rank 1"} and set(pids_of(second)) == {"rank 2", "rank 3"}
        assert_routes_only_to(first, ["0", "1"])
        assert_routes_only_to(second, ["2", "3"])
        assert_survives_the_death_of(second, 3, 2, others=[first])
        pinned = second.post("/v1/completions", {"model": "demo", "prompt": "x", "max_tokens": 1}, headers={"X-data-parallel-rank": "0"})
        assert pinned.status == 400 and "rank" in pinned.json()["error"]["message"]
        # The second node goes; the first one does not notice.
        second.process.send_signal(signal.SIGTERM)
        serve_many(first)
        assert second.process.wait(timeout=40) == 0
        assert_routes_only_to(first, ["0", "1"])


@pytest.mark.parametrize("start_rank", [1, 2], ids=["one rank too many", "the same node twice"])
def test_a_node_with_a_rank_of_another_ends_and_disturbs_nobody(start_rank):
    rpc_port = free_port()
    flags = ["--data-parallel-hybrid-lb", "--data-parallel-size", 4, "--data-parallel-size-local", 2]
    with node(rpc_port, *flags) as first, node(rpc_port, *flags, "--data-parallel-start-rank", 2) as second:
        for one in (first, second):
            one.wait_ready()
            one.wait_engines(2)
        before = pids_of(first), pids_of(second)
        with node(rpc_port, *flags, "--data-parallel-start-rank", start_rank) as wrong:
            assert wrong.process.wait(timeout=60) == 1
            assert "is held by" in wrong.log_text().splitlines()[-1]
        assert (pids_of(first), pids_of(second)) == before
        for one in (first, second):
            assert one.metric("trireme:engine_losses_total") == 0
        assert_routes_only_to(first, ["0", "1"])
        assert_routes_only_to(second, ["2", "3"])


def test_a_node_with_other_weights_is_refused_by_both_fingerprints_and_disturbs_nobody(tmp_path):
    other = tmp_path / "demo"  # Of the same shape: only its last weights differ.
    shutil.copytree(DEMO, other)
    weights = bytearray((other / "model.safetensors").read_bytes())
    weights[-64:] = bytes(64)
    (other / "model.safetensors").write_bytes(weights)
    rpc_port = free_port()
    flags = ["--data-parallel-size", 2, "--data-parallel-size-local", 1]
    with node(rpc_port, *flags, "--data-parallel-start-rank", 1) as first:
        wait_for("the first rank", lambda: safe_engines(first) == 1, 60)
        words = [*map(str, flags), "--headless", "--data-parallel-address", "127.0.0.1", "--data-parallel-rpc-port", str(rpc_port)]
        with Cluster([str(other), *words], program="engine-core") as wrong:
            assert wrong.process.wait(timeout=60) == 1
            assert re.search(r"differs in --model: rank 0 .* has 'LlamaForCausalLM \w{16}', the coordinator has 'LlamaForCausalLM \w{16}'", wrong.log_text())
        assert first.complete("The capital of France is").json()["choices"][0]["text"].startswith(" Paris")
        with headless(rpc_port, *flags):
            first.wait_engines(2)


@pytest.mark.parametrize("flag", [["--data-parallel-external-lb"], []], ids=["external-lb", "rank alone"])
def test_external_each_rank_has_its_own_server(flag):
    rpc_port = free_port()
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(node(rpc_port, *flag, "--data-parallel-size", 2, "--data-parallel-rank", rank)) for rank in (1, 0)]
        one, zero = servers
        for cluster in servers:
            cluster.wait_ready()
            cluster.wait_engines(1)
        assert zero.find("coordinator") and not one.find("coordinator")
        assert_routes_only_to(zero, ["0"])
        assert_routes_only_to(one, ["1"])
        assert_survives_the_death_of(one, 1, 1, others=[zero])
        zero.process.send_signal(signal.SIGKILL)  # With it the coordinator: rank 1 serves on, and joins the next one.
        zero.process.wait(timeout=10)
        serve_many(one)
        again = stack.enter_context(node(rpc_port, *flag, "--data-parallel-size", 2, "--data-parallel-rank", 0))
        again.wait_ready()
        again.wait_engines(1)
        assert_routes_only_to(again, ["0"])
        assert_routes_only_to(one, ["1"])


def test_start_rank_in_front_serves_all_ranks():
    rpc_port = free_port()
    flags = ["--data-parallel-size", 4, "--data-parallel-size-local", 2]
    with node(rpc_port, *flags, "--data-parallel-start-rank", 2) as front, headless(rpc_port, *flags) as far:
        front.wait_ready()
        front.wait_engines(4)
        assert set(pids_of(front)) == {"rank 2", "rank 3"} and set(pids_of(far)) == {"rank 0", "rank 1"}
        assert_routes_only_to(front, ["0", "1", "2", "3"])
        os.kill(far.find("rank 1").pid, signal.SIGKILL)
        wait_for("it is missed", lambda: front.metric("trireme:engine_losses_total") >= 1)
        front.wait_engines(4)
        assert_routes_only_to(front, ["0", "1", "2", "3"])


def test_front_without_engines_serves_headless_ones_with_two_api_servers():
    rpc_port = free_port()
    with node(rpc_port, "--data-parallel-size", 2, "--data-parallel-size-local", 0, "--api-server-count", 2) as front:
        wait_for("it says that nobody is there", lambda: refused(front) == 503)
        assert not pids_of(front) and not front.find("node agent")
        with headless(rpc_port, "--data-parallel-size", 2, "--data-parallel-size-local", 2) as far:
            front.wait_ready()
            wait_for("both", lambda: "ready after" in front.log_text())
            serve_many(front)
            os.kill(far.find("rank 0").pid, signal.SIGKILL)
            wait_for("rank 0 is back", lambda: front.log_text().count("rank 0: ready") == 2)
            wait_for("both serve", lambda: front.engines_up() >= 2)
            serve_many(front)
            far.process.send_signal(signal.SIGTERM)
            assert far.process.wait(timeout=40) == 0
        wait_for("nobody is there again", lambda: refused(front) == 503)
        # The front goes; another one takes its place and waits for the engines.
        front.process.send_signal(signal.SIGTERM)
        assert front.process.wait(timeout=40) == 0


def refused(cluster) -> int:
    try:
        return cluster.get("/ready").status
    except OSError:
        return 0


def test_uni_executor_serves_without_workers():
    with Cluster([str(DEMO), "--served-model-name", "demo", "--data-parallel-size", "2", "--distributed-executor-backend", "uni"]) as cluster:
        cluster.wait_ready()
        cluster.wait_engines(2)
        assert not cluster.find("worker")
        assert_routes_only_to(cluster, ["0", "1"])
        assert_survives_the_death_of(cluster, 1, 2)


def test_headless_node_waits_for_the_next_front():
    """SIGTERM to the front leaves a headless node running: it says that it waits, and serves the next front."""
    rpc_port = free_port()
    flags = ["--data-parallel-size", 2, "--data-parallel-size-local", 1]
    with headless(rpc_port, *flags) as far:
        with node(rpc_port, *flags, "--data-parallel-start-rank", 1) as front:
            front.wait_ready()
            front.wait_engines(2)
            ranks = pids_of(far)
            front.process.send_signal(signal.SIGTERM)
            assert front.process.wait(timeout=40) == 0
        word = f"waiting for the front node at tcp://127.0.0.1:{rpc_port}"
        before = far.log_text().count(word)
        wait_for("it says so", lambda: far.log_text().count(word) > before)
        assert far.log_text().count(word) == before + 1
        with node(rpc_port, *flags, "--data-parallel-start-rank", 1) as front:
            front.wait_ready()
            front.wait_engines(2)
            serve_many(front)
        assert pids_of(far) == ranks
