"""Several api-servers behind one port: all answer, /metrics is their sum whoever is asked, one may die.

Which of them answers is the system's choice, so the test holds connections and looks whose they are.
"""

import contextlib
import http.client
import json
import os
import signal
from pathlib import Path

import pytest
from cluster import demo_cluster, kind_of, wait_for

COUNT = 3


class Client:
    """One kept connection."""

    def __init__(self, cluster):
        self.connection = http.client.HTTPConnection(cluster.host, cluster.port, timeout=30)
        self.connection.connect()
        self.local_port = self.connection.sock.getsockname()[1]

    def ask(self, method: str, path: str, body=None) -> str:
        self.connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read().decode()
        assert answer.status == 200, text
        return text

    def complete(self):
        self.ask("POST", "/v1/completions", {"model": "demo", "prompt": [5, 6, 7], "max_tokens": 4, "ignore_eos": True})

    def metric(self, name: str) -> float:
        lines = self.ask("GET", "/metrics").split("\n")
        return sum(float(x.rsplit(" ", 1)[1]) for x in lines if x.startswith((name + "{", name + " ")))

    def owner(self, cluster) -> int | None:
        """The api-server that accepted this connection."""
        for line in Path("/proc/net/tcp").read_text().split("\n")[1:]:
            words = line.split()
            if len(words) < 10 or words[1].split(":")[1] != f"{cluster.port:04X}":
                continue
            if words[2].split(":")[1] == f"{self.local_port:04X}":
                return next((p for p in servers(cluster) if holds(p, f"socket:[{words[9]}]")), None)
        return None


def holds(pid: int, link: str) -> bool:
    with contextlib.suppress(OSError):
        for fd in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(fd.path) == link:
                    return True
    return False


def servers(cluster) -> set[int]:
    return {p.pid for p in cluster.family() if kind_of(p).startswith("api-server ")}


def one_client_each(cluster, count: int = COUNT) -> dict[int, Client]:
    """Connections to all api-servers, by pid."""
    clients = {}

    def connect() -> bool:
        fresh = [Client(cluster) for _ in range(8)]
        for client in fresh:
            client.ask("GET", "/live")
            clients.setdefault(client.owner(cluster), client)
        return len(clients.keys() & servers(cluster)) == count

    wait_for("each api-server accepts a connection", connect)
    return {pid: client for pid, client in clients.items() if pid is not None}


@pytest.fixture
def cluster():
    flags = ["--data-parallel-size", "2", "--api-server-count", COUNT, "--distributed-executor-backend", "sim"]
    with demo_cluster(*flags) as running:
        running.wait_ready()
        wait_for("the launcher says that all is there", lambda: "curl " in running.log_text())
        yield running


def test_all_answer_and_each_shows_the_sum_of_all(cluster):
    clients = one_client_each(cluster)
    assert len(clients) == COUNT
    for count, client in enumerate(clients.values(), start=1):
        for _ in range(count):
            client.complete()
    total = COUNT * (COUNT + 1) / 2
    for client in clients.values():
        wait_for("its sum has all", lambda c=client: c.metric("vllm:request_success_total") == total)
        assert client.metric("vllm:generation_tokens_total") == 4 * total
        assert client.metric("vllm:request_params_n_count") == total
        assert client.metric("trireme:requests_routed_total") == total
        assert client.metric("trireme:http_connections_open") >= COUNT
        assert client.metric("trireme:requests_open") == 0
        assert client.metric("trireme:engines_ready") == 2


def test_a_killed_one_comes_back_and_no_counter_falls(cluster):
    clients = one_client_each(cluster)
    for client in clients.values():
        for _ in range(5):
            client.complete()
    names = ("vllm:request_success_total", "trireme:http_requests_total", "trireme:engine_steps_total")
    first = next(iter(clients.values()))
    wait_for("all is counted", lambda: first.metric(names[0]) == 5 * COUNT)
    seen = dict.fromkeys(names, 0.0)

    def look(client: Client):
        for name in names:
            value = client.metric(name)
            assert value >= seen[name], name
            seen[name] = value

    for client in clients.values():
        look(client)
    victim = list(clients)[-1]
    os.kill(victim, signal.SIGKILL)
    del clients[victim]
    for client in clients.values():
        client.complete()
        look(client)
    wait_for("another life of it", lambda: len(servers(cluster) - {victim}) == COUNT)
    again = one_client_each(cluster)
    assert victim not in again
    wait_for("it is ready", lambda: all(c.metric("trireme:engines_ready") == 2 for c in again.values()))
    for _ in range(3):
        for client in again.values():
            client.complete()
            look(client)
    goal = 5 * COUNT + (COUNT - 1) + 3 * COUNT
    for client in again.values():
        wait_for("nothing is lost", lambda c=client: c.metric(names[0]) == goal)


def test_all_show_the_last_figures_of_the_queues_once_the_engine_is_idle():
    with demo_cluster("--api-server-count", COUNT) as running:
        running.wait_ready()
        clients = one_client_each(running)
        asking = next(iter(clients.values()))
        for _ in range(8):  # They end by themselves, while another step is under way.
            prompt = {"model": "demo", "prompt": "The capital of France is", "temperature": 0, "max_tokens": 64}
            asking.ask("POST", "/v1/completions", prompt)
            sent = asking.metric("trireme:shm_queue_messages_total")
            for client in clients.values():
                wait_for("it has heard of all", lambda c=client, m=sent: c.metric("trireme:shm_queue_messages_total") >= m, 5)
                wait_for("all is taken", lambda c=client: c.metric("trireme:shm_queue_chunks_waiting") == 0, 5)
