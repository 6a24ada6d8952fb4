"""Who does not go on is named and killed, and comes back: a worker that holds up a step, with what it is at, and a rank."""

import json
import os
import re
import signal
import socket
import threading

import pytest
from cluster import demo_cluster, kind_of, wait_for


@pytest.fixture
def cluster():
    with demo_cluster("--tensor-parallel-size", "2", "--distributed-timeout-seconds", "8") as running:
        running.wait_ready()
        yield running


def workers(cluster) -> list[int]:
    return sorted(p.pid for p in cluster.family() if kind_of(p) == "worker")


def stop_while_it_answers(cluster, victim: int) -> list:
    replies = []
    asked = {"tokens": 2000, "ignore_eos": True}
    client = threading.Thread(target=lambda: replies.append(cluster.complete("Number 1 is", **asked)))
    client.start()
    wait_for("it runs", lambda: cluster.metric("vllm:num_requests_running") == 1)
    os.kill(victim, signal.SIGSTOP)
    return [client, replies]


def queue_figure(cluster, name: str, queue: str) -> float:
    wanted = f'trireme:shm_queue_{name}{{model_name="demo",engine="0",queue="{queue}"}} '
    lines = cluster.get("/metrics").body.decode().split("\n")
    return float(next(line for line in lines if line.startswith(wanted)).rsplit(" ", 1)[1])


def events(cluster, name: str) -> list[dict]:
    lines = [line for line in cluster.log_text().split("\n") if f'"{name}"' in line]
    return [json.loads(line[line.index("{") :]) for line in lines]


def slow_steps(cluster) -> list[dict]:
    return events(cluster, "step_slow")


def test_stopped_worker_is_named_and_killed_and_its_rank_comes_back(cluster):
    before = workers(cluster)
    client, replies = stop_while_it_answers(cluster, before[1])
    wait_for("it is named", lambda: slow_steps(cluster), 20)
    line = slow_steps(cluster)[0]
    assert line["seconds"] < 4, "its worker stands still"
    text = line["text"]
    assert text.startswith(f"rank 0 worker tp1 (pid {before[1]}) is stopped (process state T) and has been ")
    assert f"of step {line['step']} for " in text or "idle with step" in text
    assert text.endswith("the others wait for it in all-reduce")
    assert (line["rank"], line["pid"], line["node"]) == (0, cluster.find("rank 0").pid, socket.gethostname())
    assert (line["epoch"], line["wave"], line["awaits_ranks"], line["worker_pid"]) == (0, 0, "", before[1])
    wait_for("its queue shows", lambda: queue_figure(cluster, "chunks_waiting", "steps") >= 1)
    client.join(timeout=60)
    assert [r.status for r in replies] == [503]
    # A counter, not the gauge: the engine's end may not have been heard of yet.
    wait_for("the engine is missed", lambda: cluster.metric("trireme:engine_losses_total") >= 1)
    cluster.wait_engines(1)
    assert len(workers(cluster)) == 2 and not set(before) & set(workers(cluster))
    assert f"worker killed, as it made no progress: rank 0 worker tp1 (pid {before[1]})" in cluster.log_text()
    assert cluster.complete("The capital of France is").status == 200
    assert "made no turn" not in cluster.log_text(), "its rank waited for it in good order"


def test_stopped_rank_is_named_and_killed_and_comes_back(cluster):
    before, victim = workers(cluster), cluster.find("rank 0").pid
    client, replies = stop_while_it_answers(cluster, victim)
    wait_for("it is killed", lambda: events(cluster, "rank_died"), 30)
    died = events(cluster, "rank_died")[0]
    assert (died["rank"], died["child_pid"]) == (0, victim)
    silence = re.match(r"killed, as its main loop made no turn for (.*) s \(process state T, stopped\); its stacks: ", died["reason"])
    assert silence and 8 <= float(silence[1]) < 12, died
    client.join(timeout=60)
    assert [r.status for r in replies] == [503]
    wait_for("a new one is there", lambda: cluster.find("rank 0") and cluster.find("rank 0").pid != victim)
    cluster.wait_engines(1)
    assert len(workers(cluster)) == 2 and not set(before) & set(workers(cluster))
    assert cluster.complete("The capital of France is").status == 200


def test_worker_that_goes_on_in_time_loses_nothing(cluster):
    before = workers(cluster)
    client, replies = stop_while_it_answers(cluster, before[0])
    wait_for("it is named", lambda: slow_steps(cluster), 20)
    os.kill(before[0], signal.SIGCONT)
    client.join(timeout=60)
    assert [r.status for r in replies] == [200]
    assert workers(cluster) == before


def test_queues_show_nothing_waiting_once_the_engine_is_idle(cluster):
    for _ in range(8):
        assert cluster.complete("Number 1 is", tokens=3, ignore_eos=True).status == 200
        for queue in ("steps", "results"):
            wait_for("all is taken", lambda q=queue: queue_figure(cluster, "chunks_waiting", q) == 0, 5)


def test_queues_count_the_messages_of_each_step(cluster):
    assert cluster.complete("Number 1 is", tokens=16, ignore_eos=True).status == 200
    steps = cluster.metric("trireme:engine_steps_total")
    # The answers to KvInit and the workers' greetings are messages too.
    assert queue_figure(cluster, "messages_total", "steps") == steps + 1
    # Told with the first worker's last answer; the other's may be under way.
    assert 2 * (steps + 2) - queue_figure(cluster, "messages_total", "results") in (0, 1)
    assert queue_figure(cluster, "bytes_total", "steps") > 16 * steps
    assert queue_figure(cluster, "chunks_max", "steps") == 64
