"""Deaths under load: others serve on, the dead are restarted, clients get whole answers or clean errors."""

import os
import signal
import subprocess
import threading

import pytest
from cluster import BIN, demo_cluster, wait_for


class Load:
    """Clients that ask again and again until stopped; every answer is kept."""

    def __init__(self, cluster, clients: int = 8):
        self.cluster, self.replies, self.failures = cluster, [], []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(clients)]

    def run(self):
        while not self.stopping.is_set():
            try:
                reply = self.cluster.complete("The capital of Spain is", tokens=32, ignore_eos=True)
                self.replies.append(reply)
            except OSError as failure:
                self.failures.append(failure)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        wait_for("load runs", lambda: len(self.replies) > 16)
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(timeout=60)

    def more(self, count: int):
        goal = len(self.replies) + count
        wait_for(f"{count} more answers", lambda: len(self.replies) >= goal, 60)


@pytest.fixture
def cluster():
    with demo_cluster("--data-parallel-size", "2") as running:
        running.wait_ready()
        running.wait_engines(2)
        yield running


def new_key() -> str:
    return subprocess.run([BIN / "trireme", "key", "new"], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("had_key", [False, True], ids=["a key appears", "the key changes"])
def test_key_file_that_changes_is_for_the_next_start(tmp_path, had_key):
    file = tmp_path / ".config/trireme/cluster.key"
    file.parent.mkdir(parents=True)

    def write_key():
        file.touch(mode=0o600)
        file.write_text(new_key())

    if had_key:
        write_key()
    with demo_cluster("--data-parallel-size", "2", environment={"HOME": str(tmp_path)}) as cluster:
        cluster.wait_ready()
        cluster.wait_engines(2)
        write_key()
        for kind in ("coordinator", "rank 1"):
            victim = cluster.find(kind).pid
            os.kill(victim, signal.SIGKILL)
            wait_for(f"another {kind}", lambda k=kind, v=victim: (p := cluster.find(k)) and p.pid != v)
        wait_for("rank 1 is taken back", lambda: cluster.metric("trireme:engine_losses_total") == 1)
        cluster.wait_engines(2)
        assert cluster.complete("The capital of Spain is").status == 200


def test_killed_coordinator_fails_no_request(cluster):
    with Load(cluster) as load:
        victim = cluster.find("coordinator").pid
        os.kill(victim, signal.SIGKILL)
        wait_for("another coordinator", lambda: (p := cluster.find("coordinator")) and p.pid != victim)
        load.more(100)
    assert not load.failures
    assert {r.status for r in load.replies} == {200}
    assert cluster.engines_up() == 2


def test_killed_rank_costs_its_own_requests_a_clean_503_and_comes_back(cluster):
    with Load(cluster) as load:
        os.kill(cluster.find("rank 1").pid, signal.SIGKILL)
        load.more(100)
        cluster.wait_engines(2)
        load.more(50)
    assert not load.failures
    refused = [r for r in load.replies if r.status != 200]
    assert {r.status for r in refused} <= {503}
    assert all("Retry-After" in r.headers and "error" in r.json() for r in refused)
    assert len(refused) < len(load.replies) / 2


def test_killed_worker_takes_its_engine_along_and_both_come_back(cluster):
    with Load(cluster, clients=4) as load:
        os.kill(cluster.find("worker").pid, signal.SIGKILL)
        # A counter, not the gauge: the engine may be back before anybody looks.
        wait_for("an engine is missed", lambda: cluster.metric("trireme:engine_losses_total") >= 1)
        cluster.wait_engines(2)
        load.more(20)
    assert not load.failures
    assert {r.status for r in load.replies} <= {200, 503}


def test_killed_api_server_is_back_on_the_same_port(cluster):
    os.kill(cluster.find("api-server 0").pid, signal.SIGKILL)
    cluster.wait_ready()
    cluster.wait_engines(2)
    assert cluster.complete("The capital of France is").status == 200


def test_aborted_clients_free_the_engines(cluster):
    def running() -> float:
        return cluster.metric("vllm:num_requests_running")

    import socket

    body = b'{"model":"demo","prompt":"Count:","max_tokens":1500,"ignore_eos":true,"stream":true}'
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    clients = [socket.create_connection((cluster.host, cluster.port)) for _ in range(8)]
    for client in clients:
        client.sendall(head.encode() + body)
        client.recv(64)
    wait_for("all run", lambda: running() == 8)
    for client in clients:
        client.close()
    wait_for("none runs", lambda: running() == 0, 5)


def test_ready_turns_503_when_nobody_is_left_to_tell_of_dead_engines(cluster):
    for victim in [cluster.find(kind).pid for kind in ("coordinator", "node agent", "rank 0", "rank 1")]:
        os.kill(victim, signal.SIGKILL)
    # No request is sent: the ends of the connections must do.
    wait_for("503", lambda: cluster.get("/ready").status == 503, 5, interval=0.005)
    cluster.wait_ready()
    cluster.wait_engines(2)
