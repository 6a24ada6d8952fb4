"""Pause, resume and reset of the prefix cache by HTTP: what becomes of streams and of new requests, and that all engines
do the same, also one that is killed meanwhile, whichever api-server is asked.

The sim executor: its steps take as long as they are told to, and its text follows from the seed alone. Engines that step
on their own, and engines that step together.
"""

import json
import os
import signal
import threading
import time
import urllib.request

import pytest
from api_servers_test import one_client_each
from balancing_test import headless, node
from cluster import demo_cluster, free_port, wait_for

DEV = {"VLLM_SERVER_DEV_MODE": "1"}
SLOW = ["--distributed-executor-backend", "sim", "--sim-profile", "base_us=5000,prefill_us=5,decode_us=20"]
PROMPT = list(range(100, 164))  # Four blocks.
LONG = {"model": "demo", "prompt": PROMPT, "max_tokens": 200, "ignore_eos": True, "seed": 7, "temperature": 1}


ALONE_OR_TOGETHER = pytest.mark.parametrize("steps", [(), ("--enable-expert-parallel",)], ids=["alone", "together"])


def cluster_of(*flags, **more):
    return demo_cluster("--data-parallel-size", "2", *SLOW, *flags, environment=DEV, **more)


@pytest.fixture(scope="module", params=[(), ("--enable-expert-parallel",)], ids=["alone", "together"])
def shared_cluster(request):
    with cluster_of(*request.param) as running:
        running.wait_ready()
        running.wait_engines(2)
        yield running


@pytest.fixture
def cluster(shared_cluster):
    """Serving before and after each test, with nobody lost on the way."""
    assert not is_paused(shared_cluster)
    yield shared_cluster
    assert shared_cluster.post("/resume", None, method="POST").json() == {"status": "resumed"}
    assert not is_paused(shared_cluster)
    assert shared_cluster.complete("x", tokens=2).status == 200
    assert shared_cluster.engines_up() == 2 and shared_cluster.metric("trireme:engine_losses_total") == 0


def pause(cluster, query: str = ""):
    return cluster.post("/pause" + query, None, method="POST")


def resume(cluster):
    reply = cluster.post("/resume", None, method="POST")
    assert reply.status == 200, reply.body
    return reply


def is_paused(cluster) -> bool:
    reply = cluster.get("/is_paused")
    assert reply.status == 200, reply.body
    return reply.json()["is_paused"]


def reset(cluster) -> dict:
    reply = cluster.post("/reset_prefix_cache", None, method="POST")
    assert reply.status == 200, reply.body
    return reply.json()


def assert_refused(reply):
    assert reply.status == 503, reply.body
    assert int(reply.headers["Retry-After"]) >= 1
    assert reply.json()["error"]["message"] == "The engine is paused."
    assert reply.json()["error"]["type"] == "service_unavailable_error"


class Stream:
    """A client that reads one long stream."""

    def __init__(self, cluster, rank: int, **fields):
        self.events, self.text, self.reason, self.ended = 0, "", None, None
        body = {**LONG, "stream": True, **fields}
        headers = {"Content-Type": "application/json", "X-data-parallel-rank": str(rank)}
        self.request = urllib.request.Request(cluster.url + "/v1/completions", json.dumps(body).encode(), headers)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        wait_for("the stream runs", lambda: self.events > 2)

    def run(self):
        with urllib.request.urlopen(self.request, timeout=60) as answer:
            for line in answer:
                event = line.decode().strip().removeprefix("data: ")
                if event == "[DONE]":
                    self.ended = time.monotonic()
                elif event:
                    choice = json.loads(event)["choices"][0]
                    self.text += choice["text"]
                    self.reason = choice["finish_reason"]
                    self.events += 1

    def join(self):
        self.thread.join(timeout=60)
        assert not self.thread.is_alive() and self.ended
        return self


def both(cluster, **fields) -> list[Stream]:
    return [Stream(cluster, rank, **fields) for rank in (0, 1)]


def in_background(call):
    replies = []
    thread = threading.Thread(target=lambda: replies.append(call()))
    thread.start()
    return thread, replies


def test_abort_ends_every_request_and_refuses_new_ones_until_it_is_resumed(cluster):
    streams = both(cluster)
    thread, whole = in_background(lambda: cluster.post("/v1/completions", LONG))
    wait_for("all run", lambda: cluster.metric("vllm:num_requests_running") == 3)
    reply = pause(cluster)
    assert (reply.status, reply.json()) == (200, {"status": "paused"})
    for stream in streams:
        assert stream.join().reason == "abort" and stream.events < LONG["max_tokens"]
    thread.join(timeout=30)
    assert whole[0].status == 200 and whole[0].json()["choices"][0]["finish_reason"] == "abort"
    assert is_paused(cluster)
    for rank in ("0", "1"):
        assert_refused(cluster.post("/v1/completions", LONG, headers={"X-data-parallel-rank": rank}))
        assert_refused(cluster.post("/v1/completions", {**LONG, "stream": True}, headers={"X-data-parallel-rank": rank}))
    # A paused engine is not a dead one.
    assert cluster.get("/ready").status == 200 and cluster.engines_up() == 2
    assert pause(cluster).status == 200
    resume(cluster)
    assert not is_paused(cluster)
    for rank in ("0", "1"):
        assert cluster.post("/v1/completions", {**LONG, "max_tokens": 2}, headers={"X-data-parallel-rank": rank}).status == 200


def test_wait_lets_them_end_and_refuses_new_ones(cluster):
    whole = cluster.post("/v1/completions", LONG).json()["choices"][0]["text"]
    streams = both(cluster)
    thread, replies = in_background(lambda: (pause(cluster, "?mode=wait"), time.monotonic()))
    wait_for("it is paused", lambda: is_paused(cluster))
    assert_refused(cluster.post("/v1/completions", LONG))
    assert not replies and not any(stream.ended for stream in streams)
    thread.join(timeout=30)
    reply, paused_at = replies[0]
    assert reply.status == 200
    for stream in streams:
        assert stream.join().reason == "length" and stream.text == whole
        assert stream.ended < paused_at + 1


def test_a_pause_that_waits_is_ended_by_a_resume(cluster):
    streams = both(cluster)
    thread, replies = in_background(lambda: pause(cluster, "?mode=wait"))
    wait_for("it is paused", lambda: is_paused(cluster))
    resume(cluster)
    thread.join(timeout=30)
    assert replies[0].status == 503 and "the engines now serve" in replies[0].json()["error"]["message"]
    assert all(stream.join().reason == "length" for stream in streams)


def test_keep_freezes_in_the_middle_and_the_text_is_the_same(cluster):
    whole = cluster.post("/v1/completions", LONG).json()["choices"][0]["text"]
    streams = both(cluster)
    assert pause(cluster, "?mode=keep").status == 200
    assert is_paused(cluster)
    time.sleep(0.2)  # What was on its way has come.
    frozen = [stream.events for stream in streams]
    assert all(2 < events < LONG["max_tokens"] for events in frozen)
    thread, late = in_background(lambda: cluster.post("/v1/completions", {**LONG, "max_tokens": 4}))
    wait_for("the new one is with an engine", lambda: cluster.metric("trireme:requests_open") == 3)
    time.sleep(0.5)
    assert [stream.events for stream in streams] == frozen and not late
    held = reset(cluster)
    assert held["success"] is False and "rank 0: " in held["reason"] and "rank 1: " in held["reason"]
    resume(cluster)
    for stream in streams:
        assert stream.join().reason == "length" and stream.text == whole
    thread.join(timeout=30)
    assert late[0].status == 200 and whole.startswith(late[0].json()["choices"][0]["text"])
    wait_for("blocks are given back", lambda: reset(cluster) == {"success": True}, 5)


def test_a_client_that_leaves_changes_nothing(cluster):
    stream = Stream(cluster, 0)
    with pytest.raises(OSError):
        cluster.post("/pause?mode=wait", None, method="POST", timeout=0.2)
    assert is_paused(cluster)
    assert stream.join().reason == "length"


def cached_tokens(cluster, rank: int) -> int:
    body = {**LONG, "max_tokens": 1}
    reply = cluster.post("/v1/completions", body, headers={"X-data-parallel-rank": str(rank)})
    return (reply.json()["usage"]["prompt_tokens_details"] or {}).get("cached_tokens", 0)


def test_the_prefix_cache_is_emptied_by_reset_and_by_a_pause_unless_told_not_to(cluster):
    def warm():
        return [cached_tokens(cluster, rank) > 0 for rank in (0, 1)]

    warm()
    assert warm() == [True, True]
    assert reset(cluster) == {"success": True}
    assert warm() == [False, False]
    for query, is_kept in (("?clear_cache=false", True), ("?mode=keep", True), ("?mode=wait", False), ("", False)):
        assert warm() == [True, True]
        assert pause(cluster, query).status == 200
        resume(cluster)
        assert warm() == [is_kept, is_kept], query


def kill_rank(cluster, rank: int):
    victim = cluster.find(f"rank {rank}").pid
    lost = cluster.metric("trireme:engine_losses_total")
    os.kill(victim, signal.SIGKILL)
    wait_for("it is missed", lambda: cluster.metric("trireme:engine_losses_total") > lost)
    wait_for("it is back", lambda: (p := cluster.find(f"rank {rank}")) and p.pid != victim)
    cluster.wait_engines(2)


@ALONE_OR_TOGETHER
def test_an_engine_that_is_killed_during_a_pause_comes_back_paused(steps):
    with cluster_of(*steps) as cluster:
        cluster.wait_ready()
        cluster.wait_engines(2)
        assert pause(cluster).status == 200
        kill_rank(cluster, 1)
        assert_refused(cluster.post("/v1/completions", LONG, headers={"X-data-parallel-rank": "1"}))
        assert is_paused(cluster)
        # So it is with the next life of the api-server, which was not there when it was asked.
        victim = cluster.find("api-server 0").pid
        os.kill(victim, signal.SIGKILL)
        wait_for("another life of it", lambda: (p := cluster.find("api-server 0")) and p.pid != victim)
        cluster.wait_ready()
        cluster.wait_engines(2)
        assert is_paused(cluster)
        kill_rank(cluster, 0)
        assert_refused(cluster.post("/v1/completions", LONG, headers={"X-data-parallel-rank": "0"}))
        # Frozen, it takes requests in and computes none.
        assert pause(cluster, "?mode=keep").status == 200
        kill_rank(cluster, 1)
        assert is_paused(cluster)
        thread, late = in_background(lambda: cluster.post("/v1/completions", {**LONG, "max_tokens": 4}, headers={"X-data-parallel-rank": "1"}))
        wait_for("it is with the engine", lambda: cluster.metric("trireme:requests_open") == 1)
        time.sleep(0.3)
        assert not late
        resume(cluster)
        thread.join(timeout=30)
        assert late[0].status == 200
        kill_rank(cluster, 1)  # And one that comes after the pause serves.
        assert not is_paused(cluster)
        assert cluster.complete("x", tokens=2).status == 200


@ALONE_OR_TOGETHER
def test_an_engine_that_is_killed_while_it_is_asked_is_left_out(steps):
    with cluster_of(*steps) as cluster:
        cluster.wait_ready()
        cluster.wait_engines(2)
        stream = Stream(cluster, 0, max_tokens=400)
        doomed = cluster.find("rank 1").pid
        thread, replies = in_background(lambda: pause(cluster, "?mode=wait"))
        wait_for("it is paused", lambda: is_paused(cluster))
        os.kill(doomed, signal.SIGKILL)
        thread.join(timeout=30)
        assert replies[0].status == 200, replies[0].body
        assert stream.join().reason == "length"
        wait_for("it is back", lambda: (p := cluster.find("rank 1")) and p.pid != doomed)
        cluster.wait_engines(2)
        assert is_paused(cluster)


@ALONE_OR_TOGETHER
def test_of_two_api_servers_either_may_be_asked(steps):
    with cluster_of(*steps, "--api-server-count", "2") as cluster:
        cluster.wait_ready()
        wait_for("all is up", lambda: "ready after" in cluster.log_text())
        first, second = one_client_each(cluster, 2).values()

        def state(client) -> bool:
            return json.loads(client.ask("GET", "/is_paused"))["is_paused"]

        assert json.loads(first.ask("POST", "/pause")) == {"status": "paused"}
        assert state(first) and state(second)
        kill_rank(cluster, 1)
        wait_for("both know it", lambda: all(c.metric("trireme:engines_ready") == 2 for c in (first, second)))
        assert state(first) and state(second)
        assert json.loads(second.ask("POST", "/resume")) == {"status": "resumed"}
        assert not state(first) and not state(second)
        # The first one, which had asked for the pause, does not bring it back.
        kill_rank(cluster, 0)
        wait_for("both know it", lambda: all(c.metric("trireme:engines_ready") == 2 for c in (first, second)))
        assert not state(first) and not state(second)
        for client in (first, second):
            client.complete()
        for _ in range(20):  # They cross: whichever is the later one, all engines do the same.
            asked = [in_background(lambda: pause(cluster, "?mode=keep")), in_background(lambda: cluster.post("/resume", None, method="POST"))]
            for thread, replies in asked:
                thread.join(timeout=30)
                assert replies[0].status in (200, 503), replies[0].body
            resume(cluster)
            assert not state(first) and not state(second)
            for client in (first, second):
                client.complete()


def test_engines_of_another_node_that_outlive_the_front_serve_its_successor():
    rpc_port = free_port()
    flags = [*SLOW, "--data-parallel-size", 2, "--data-parallel-size-local", 1]
    with headless(rpc_port, *flags) as far:
        for is_first in (True, False):
            with node(rpc_port, *flags, "--data-parallel-start-rank", 1, environment=DEV) as front:
                front.wait_ready()
                front.wait_engines(2)
                wait_for("both serve", lambda c=front: not is_paused(c))
                for rank in ("0", "1"):
                    reply = front.post("/v1/completions", {**LONG, "max_tokens": 2}, headers={"X-data-parallel-rank": rank})
                    assert reply.status == 200, reply.body
                if is_first:
                    survivor = far.find("rank 0").pid
                    assert pause(front, "?mode=keep").status == 200
                    assert is_paused(front)
                    front.process.send_signal(signal.SIGTERM)
                    assert front.process.wait(timeout=40) == 0
        assert far.find("rank 0").pid == survivor


def test_front_ends_of_two_nodes_whose_ranks_step_together_overrule_each_other():
    rpc_port = free_port()
    flags = [*SLOW, "--enable-expert-parallel", "--data-parallel-hybrid-lb", "--data-parallel-size", 4, "--data-parallel-size-local", 2]
    with node(rpc_port, *flags, environment=DEV) as first:
        with node(rpc_port, *flags, "--data-parallel-start-rank", 2, environment=DEV) as second:
            for cluster in (first, second):
                cluster.wait_ready()
                cluster.wait_engines(2)
            # While they step, and while all sleep: then a wave without steps tells the others.
            for stream in (Stream(second, 2), None):
                assert pause(first, "?mode=keep").status == 200
                wait_for("the other node is paused", lambda: is_paused(second))
                # It has asked for no pause, and its resume is younger than the one that it started with.
                resume(second)
                assert not is_paused(second)
                wait_for("the first node is resumed", lambda: not is_paused(first))
                if stream:
                    stream.join()
                    assert stream.reason == "length" and stream.ended
            for mode in ("keep", "abort"):
                assert pause(first, f"?mode={mode}").status == 200
                wait_for("the other node is paused", lambda: is_paused(second))
                resume(first)
                wait_for("the other node is resumed", lambda: not is_paused(second))
                for cluster in (first, second):
                    assert cluster.complete("x", tokens=2).status == 200


def test_without_dev_mode_they_are_not_there():
    with demo_cluster("--data-parallel-size", "1", *SLOW) as cluster:
        cluster.wait_ready()
        for reply in (pause(cluster), cluster.get("/is_paused"), cluster.post("/reset_prefix_cache", None, method="POST")):
            assert reply.status == 404 and "VLLM_SERVER_DEV_MODE=1" in reply.json()["error"]["message"]
        assert cluster.complete("x", tokens=2).status == 200


def test_a_key_is_needed_where_one_is_set():
    with demo_cluster("--data-parallel-size", "1", *SLOW, "--api-key", "secret", environment=DEV) as cluster:
        cluster.wait_ready()
        assert pause(cluster).status == 401 and cluster.get("/is_paused").status == 401
        key = {"Authorization": "Bearer secret"}
        assert cluster.post("/pause", None, method="POST", headers=key).status == 200
        assert cluster.get("/is_paused", headers=key).json() == {"is_paused": True}


def test_garbage_is_refused_and_nothing_is_paused(cluster):
    for query, words in (
        ("?mode=stop", "mode: must be one of abort, wait, keep, got 'stop'"),
        ("?mode=", "mode: must be one of abort, wait, keep, got ''"),
        ("?clear_cache=perhaps", "clear_cache: must be true or false, got 'perhaps'"),
    ):
        reply = pause(cluster, query)
        assert reply.status == 400 and reply.json()["error"]["message"] == words
    assert cluster.post("/reset_prefix_cache?reset_running_requests=1", None, method="POST").status == 400
    assert cluster.get("/pause").status == 405
    assert not is_paused(cluster)


def test_a_dev_mode_that_is_no_number_ends_the_start():
    with demo_cluster("--data-parallel-size", "1", *SLOW, environment={"VLLM_SERVER_DEV_MODE": "perhaps"}) as cluster:
        assert cluster.process.wait(timeout=20) == 1
        assert "VLLM_SERVER_DEV_MODE: must be 0 or 1, got 'perhaps'" in cluster.log_text()
