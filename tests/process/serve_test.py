"""The demo cluster as a user meets it: two engines, the README's curl, streams, errors, a clean end."""

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cluster import demo_cluster, descendants, listening, ports_of, wait_for


@pytest.fixture(scope="module")
def cluster():
    with demo_cluster("--data-parallel-size", "2") as running:
        running.wait_ready()
        running.wait_engines(2)
        yield running


def events_of(reply) -> list:
    lines = reply.body.decode().split("\n")
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ") and line != "data: [DONE]"]


def test_the_readme_question_is_answered(cluster):
    reply = cluster.complete("The capital of France is")
    answer = reply.json()
    assert reply.status == 200
    assert answer["choices"][0]["text"].startswith(" Paris")
    assert answer["choices"][0]["finish_reason"] in ("stop", "length")
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@pytest.mark.parametrize("flags", [["--data-parallel-size", "4"], ["--data-parallel-size", "2", "--api-server-count", "2"]],
                         ids=["four engines", "two front ends"])  # fmt: skip
def test_whoever_asks_when_the_launcher_says_ready_finds_every_engine(flags):
    with demo_cluster(*flags) as starting:
        wait_for("the launcher says so", lambda: "ready after" in starting.log_text(), interval=0.001)
        assert starting.metric("trireme:engines_ready") == int(flags[1])
        assert starting.complete("The capital of France is").status == 200


def test_joined_stream_is_the_whole_answer(cluster):
    whole = cluster.complete("The capital of Japan is", tokens=16).json()
    stream = cluster.complete("The capital of Japan is", tokens=16, stream=True)
    events = events_of(stream)
    assert stream.body.decode().rstrip().endswith("data: [DONE]")
    assert "".join(e["choices"][0]["text"] for e in events if e["choices"]) == whole["choices"][0]["text"]
    reasons = [e["choices"][0]["finish_reason"] for e in events if e["choices"] and e["choices"][0]["finish_reason"]]
    assert reasons == [whole["choices"][0]["finish_reason"]]


def test_chat_answers_and_ends_by_itself(cluster):
    body = {"model": "demo", "messages": [{"role": "user", "content": "What is the capital of Italy?"}], "temperature": 0, "max_tokens": 64}
    answer = cluster.post("/v1/chat/completions", body).json()
    assert "Rome" in answer["choices"][0]["message"]["content"]
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_both_engines_get_work(cluster):
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda i: cluster.complete(f"Number {i} is", tokens=32, ignore_eos=True), range(64)))
    assert all(r.status == 200 for r in replies)
    counts = {}
    for line in cluster.get("/metrics").body.decode().split("\n"):
        if line.startswith("trireme:requests_routed_total{"):
            counts[line.split('engine="')[1].split('"')[0]] = float(line.rsplit(" ", 1)[1])
    assert set(counts) == {"0", "1"}
    # No share is promised: an engine that is slower for a while gets less. That it gets any is.
    assert min(counts.values()) >= 4, counts


def test_same_request_gives_the_same_tokens_on_every_rank(cluster):
    def ask(rank):
        body = {"model": "demo", "prompt": "Once upon a time", "max_tokens": 24, "temperature": 0.9, "seed": 7}
        return cluster.post("/v1/completions", body, headers={"X-data-parallel-rank": str(rank)}).json()["choices"][0]["text"]

    assert ask(0) == ask(1) == ask(0)


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/completions", {"model": "other", "prompt": "x"}, 404, ["other"]),
        ("/v1/completions", {"model": "demo", "prompt": "x", "max_tokens": "many"}, 400, ["max_tokens"]),
        ("/v1/completions", {"model": "demo", "prompt": "x", "temperature": 3}, 400, ["temperature"]),
        ("/v1/completions", {"model": "demo", "prompt": "word " * 20000}, 400, ["2048"]),
        ("/v1/completions", b"{" * 100000, 400, []),
        ("/v1/completions", b'{"model": "demo", "prompt": "\xff\xfe"}', 400, ["UTF-8"]),
        ("/v1/nothing", {}, 404, []),
    ],
)
def test_bad_input_is_one_clear_message(cluster, path, body, status, words):
    reply = cluster.post(path, body)
    assert reply.status == status, reply.body
    message = reply.json()["error"]["message"]
    assert all(word in message for word in words), message
    assert cluster.complete("The capital of France is").status == 200


def test_idle_cluster_uses_no_processor(cluster):
    def ticks():
        total = 0
        for process in cluster.family():
            fields = open(f"/proc/{process.pid}/stat").read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total

    time.sleep(1.0)
    before = ticks()
    time.sleep(4.0)
    # 100 ticks a second: 5 % of one core here, a bound that a spinning thread breaks by far.
    assert ticks() - before <= 20


def test_terminated_cluster_drains_and_leaves_nothing(cluster):
    family = {p.pid for p in cluster.family()} | {cluster.process.pid}
    ports = ports_of(family)
    assert len(family) >= 7 and ports
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(cluster.complete, "Count:", 256, ignore_eos=True) for _ in range(4)]
        wait_for("requests run", lambda: 'num_requests_running{' in cluster.get("/metrics").body.decode())
        cluster.process.send_signal(signal.SIGTERM)
        assert all(r.result().status in (200, 503) for r in running)
    assert cluster.process.wait(timeout=40) == 0
    wait_for("ports are free", lambda: not (ports & listening()), 5)
    assert descendants(cluster.process.pid) == []
