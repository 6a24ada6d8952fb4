"""A process under the launcher that stands still (SIGSTOP here) is named and killed after a while, and comes back."""

import json
import os
import re
import signal
import threading

import pytest
from cluster import demo_cluster, kind_of, wait_for

SECONDS = 7
# The coordinator's, which others wait for: the least that is no chance.
COORDINATOR_SECONDS = 4


@pytest.fixture
def cluster():
    with demo_cluster("--distributed-timeout-seconds", SECONDS) as running:
        running.wait_ready()
        yield running


def deaths(cluster) -> list[dict]:
    lines = [line for line in cluster.log_text().split("\n") if '"child_died"' in line]
    return [json.loads(line[line.index("{") :]) for line in lines]


def stop(cluster, kind: str) -> int:
    victim = cluster.find(kind).pid
    os.kill(victim, signal.SIGSTOP)
    return victim


def wait_until_it_is_replaced(cluster, kind: str, victim: int, seconds: float = SECONDS):
    wait_for("it is killed", lambda: deaths(cluster), 30)
    died = deaths(cluster)[0]
    assert (died["child"], died["child_pid"]) == (kind, victim)
    silence = re.match(r"killed, as its main loop made no turn for (.*) s \(process state T, stopped\); its stacks: ", died["reason"])
    assert silence and seconds <= float(silence[1]) < seconds + 3, died
    wait_for("a new one is there", lambda: cluster.find(kind) and cluster.find(kind).pid != victim)


def test_stopped_front_end_is_replaced_and_who_connected_meanwhile_is_answered(cluster):
    victim = stop(cluster, "api-server 0")
    replies = []
    client = threading.Thread(target=lambda: replies.append(cluster.complete("The capital of France is")))
    client.start()
    wait_until_it_is_replaced(cluster, "api-server 0", victim)
    client.join(timeout=60)
    assert replies and replies[0].status in (200, 503), "503: it came before the engine was known"
    cluster.wait_engines(1)
    assert cluster.complete("The capital of France is").status == 200


def test_stopped_coordinator_is_replaced_and_requests_go_on_meanwhile(cluster):
    victim = stop(cluster, "coordinator")
    rank = cluster.find("rank 0").pid
    while not deaths(cluster):
        assert cluster.complete("The capital of France is").status == 200
    wait_until_it_is_replaced(cluster, "coordinator", victim, COORDINATOR_SECONDS)
    wait_for("its members are back", lambda: cluster.is_ready() and cluster.engines_up() == 1, 30)
    assert cluster.complete("The capital of France is").status == 200
    assert cluster.find("rank 0").pid == rank


def test_stopped_node_agent_is_replaced_with_its_ranks(cluster):
    ranks = {p.pid for p in cluster.family() if kind_of(p).startswith("rank ")}
    victim = stop(cluster, "node agent")
    wait_until_it_is_replaced(cluster, "node agent", victim)
    wait_for("a new rank is there", lambda: cluster.find("rank 0") and cluster.find("rank 0").pid not in ranks)
    wait_for("it serves", lambda: cluster.is_ready() and cluster.engines_up() == 1, 30)
    assert cluster.complete("The capital of France is").status == 200
