"""When something runs out or goes wrong around the cluster: disk, files, memory files, queues, peers that stall or talk garbage."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cluster import BIN, DEMO, START_SECONDS, Cluster, demo_cluster, free_port, kind_of, metric_by_engine, ports_of, wait_for
from hub_test import Hub, hub, pull  # noqa: F401  (a hub on loopback)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="root mounts a small file system")
SLOW = ["--distributed-executor-backend", "sim", "--sim-profile", "base_us=4000,prefill_us=5,decode_us=20"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path):
    with open(disk / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(65536))
    with open(disk / "rest", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x")


@needs_root
def test_full_disk_under_log_and_temporary_files_does_not_disturb(small_disk):
    log = small_disk / "serve.log"
    environment = {"TMPDIR": str(small_disk), "HOME": str(small_disk), "HF_HOME": str(small_disk), "TRIREME_LOG_LEVEL": "debug"}
    cluster = Cluster([str(DEMO), "--served-model-name", "demo", "--enable-log-requests"], environment=environment)
    with open(log, "w") as file:
        cluster.log = file
        with cluster:
            cluster.wait_ready()
            cluster.wait_engines(1)
            fill(small_disk)
            for _ in range(20):
                assert cluster.complete("The capital of France is").status == 200
            os.kill(cluster.find("rank 0").pid, signal.SIGKILL)
            wait_for("it is missed", lambda: cluster.metric("trireme:engine_losses_total") >= 1)
            cluster.wait_engines(1)
            assert cluster.complete("The capital of France is").status == 200
            cluster.process.terminate()
            assert cluster.process.wait(timeout=40) == 0


@needs_root
def test_full_disk_ends_a_download_with_one_message(small_disk, hub):  # noqa: F811
    fill(small_disk)
    result = pull(hub, small_disk)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert "No space left on device" in last and str(small_disk) in last, result.stderr


def limited(limit, value):
    return lambda: resource.setrlimit(limit, (value, value))


def start_limited(limit, value, *flags):
    words = [str(BIN / "api-server"), str(DEMO), "--served-model-name", "demo", "--host", "127.0.0.1", "--port", str(free_port()),
             "--data-parallel-rpc-port", str(free_port()), *flags]  # fmt: skip
    return subprocess.run(words, preexec_fn=limited(limit, value), capture_output=True, text=True, timeout=START_SECONDS, check=False)


def test_memory_files_over_the_limit_are_named():
    done = start_limited(resource.RLIMIT_FSIZE, 4096)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert '"failed"' in last and "File too large" in last, done.stderr


def test_too_few_open_files_are_named():
    # With one or two more none is left for the sanitizer that looks at a stream, which takes its object for broken then.
    done = start_limited(resource.RLIMIT_NOFILE, 14)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert '"failed"' in last and "Too many open files" in last, done.stderr


class LimitedCluster(Cluster):
    """Few open files in all of its processes."""

    open_files = 96

    def start(self):
        self.process = subprocess.Popen(self.command(), stdout=self.log, stderr=subprocess.STDOUT,
                                        preexec_fn=limited(resource.RLIMIT_NOFILE, self.open_files))  # fmt: skip
        return self


def test_more_connections_than_open_files_wait_and_are_served():
    with LimitedCluster([str(DEMO), "--served-model-name", "demo"]) as cluster:
        cluster.wait_ready()
        cluster.wait_engines(1)
        idle = [socket.create_connection((cluster.host, cluster.port)) for _ in range(150)]
        wait_for("it has no file left", lambda: "http_accept_failed" in cluster.log_text())
        for connection in idle:
            connection.close()
        assert cluster.complete("The capital of France is").status == 200
        assert cluster.log_text().count("http_accept_failed") < 20
        assert {kind_of(p) for p in cluster.family()} >= {"coordinator", "rank 0", "worker", "api-server 0"}
        assert "child_died" not in cluster.log_text()


def test_ten_times_the_load_is_refused_at_once_and_the_rest_is_whole():
    with demo_cluster("--data-parallel-size", "2", *SLOW, "--max-num-queued-reqs", "16") as cluster:
        cluster.wait_ready()
        cluster.wait_engines(2)
        with ThreadPoolExecutor(160) as pool:
            replies = list(pool.map(lambda i: cluster.complete(f"Number {i} is", tokens=64, ignore_eos=True), range(160)))
        whole = [r for r in replies if r.status == 200]
        refused = [r for r in replies if r.status == 429]
        assert len(whole) + len(refused) == 160 and len(whole) >= 16 and refused
        assert all(r.json()["usage"]["completion_tokens"] == 64 for r in whole)
        for reply in refused:
            assert int(reply.headers["Retry-After"]) >= 1
            assert "--max-num-queued-reqs" in reply.json()["error"]["message"] and "16" in reply.json()["error"]["message"]
        assert cluster.complete("The capital of France is").status == 200


@pytest.fixture(scope="module")
def cluster():
    with demo_cluster("--data-parallel-size", "2", "--lease-ms", "1000", *SLOW) as running:
        running.wait_ready()
        running.wait_engines(2)
        yield running


def test_garbage_on_every_port_disturbs_nobody(cluster):
    family = {p.pid for p in cluster.family()}
    ports = {int(p.split(":")[1], 16) for p in ports_of(family | {cluster.process.pid})}
    assert cluster.rpc_port in ports and len(ports) >= 3
    garbage = [os.urandom(4096), b"GET / HTTP/1.1\r\n\r\n", b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x00NULL" + bytes(64), b"\x00" * 100000, b""]
    for port in ports:
        for data in garbage:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
                peer.sendall(data)
        assert cluster.complete("The capital of France is").status == 200
    assert cluster.engines_up() == 2
    assert {p.pid for p in cluster.family()} == family


def test_killed_clients_free_their_places(cluster):
    body = '{"model":"demo","prompt":"Count:","max_tokens":1500,"ignore_eos":true,"stream":true}'
    words = ["curl", "-sN", "-H", "Content-Type: application/json", "-d", body, cluster.url + "/v1/completions"]
    clients = [subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(6)]
    for client in clients:
        assert client.stdout.read(10)
    wait_for("all run", lambda: cluster.metric("vllm:num_requests_running") == 6)
    for client in clients:
        client.kill()
        client.wait(timeout=10)
        client.stdout.close()
    wait_for("none runs", lambda: cluster.metric("vllm:num_requests_running") == 0, 10)


def test_client_that_stops_reading_costs_nobody_else(cluster):
    body = b'{"model":"demo","prompt":"Count:","max_tokens":1500,"ignore_eos":true,"stream":true}'
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        stuck.connect((cluster.host, cluster.port))
        stuck.sendall(head.encode() + body)
        wait_for("it runs", lambda: cluster.metric("vllm:num_requests_running") == 1)
        replies = []
        thread = threading.Thread(target=lambda: replies.append(cluster.complete("Number 1 is", tokens=100, ignore_eos=True)))
        thread.start()
        thread.join(timeout=60)
        assert replies and replies[0].status == 200
    wait_for("none runs", lambda: cluster.metric("vllm:num_requests_running") == 0, 60)


# The last one here: what fails in it would fail the others of this cluster.
def test_stopped_rank_is_noticed_and_comes_back(cluster):
    victim = cluster.find("rank 1").pid
    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(cluster.complete, f"Number {i} is", 400, ignore_eos=True) for i in range(8)]
        wait_for("both work", lambda: cluster.metric("vllm:num_requests_running") == 8)
        lost = int(metric_by_engine(cluster, "vllm:num_requests_running")["1"])
        assert 0 < lost < 8
        os.kill(victim, signal.SIGSTOP)
        try:
            wait_for("its lease ends", lambda: cluster.engines_up() == 1, 20)
            for _ in range(8):
                assert cluster.complete("The capital of France is").status == 200
            statuses = sorted(r.result().status for r in running)
            assert statuses == [200] * (8 - lost) + [503] * lost, statuses
            assert all("Retry-After" in r.result().headers for r in running if r.result().status == 503)
        finally:
            os.kill(victim, signal.SIGCONT)
    cluster.wait_engines(2)
    assert cluster.find("rank 1").pid == victim
    wait_for("it works off nothing old", lambda: cluster.metric("vllm:num_requests_running") == 0)
    with ThreadPoolExecutor(8) as pool:
        assert {r.status for r in pool.map(lambda i: cluster.complete(f"Number {i} is"), range(16))} == {200}
