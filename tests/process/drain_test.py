"""How a cluster ends: running streams finish, new requests are refused, a second signal answers what is open at once; TLS and API keys."""

import fcntl
import http.client
import json
import os
import signal
import ssl
import subprocess
import termios
import threading
import time
import urllib.error
import urllib.request

import pytest
from cluster import BIN, DEMO, all_processes, demo_cluster, descendants, free_port, listening, ports_of, wait_for

LONG = {"model": "demo", "prompt": "Count:", "max_tokens": 1500, "ignore_eos": True, "stream": True, "temperature": 0}


class Streams:
    """Clients that read long streams; `done` holds the whole bodies, `told` those that end with an error event."""

    def __init__(self, cluster, count, **fields):
        self.cluster, self.body, self.started = cluster, {**LONG, **fields}, 0
        self.done, self.told, self.broken = [], [], []
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run) for _ in range(count)]
        for thread in self.threads:
            thread.start()
        wait_for("streams run", lambda: self.started == count, 60)

    def run(self):
        request = urllib.request.Request(self.cluster.url + "/v1/completions", data=json.dumps(self.body).encode(),
                                         headers={"Content-Type": "application/json"})  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                first = answer.readline()
                with self.lock:
                    self.started += 1
                body = (first + answer.read()).decode()
            if not body.rstrip().endswith("data: [DONE]"):
                self.broken.append(body)
            elif '{"error":' in body:
                self.told.append(body)
            else:
                self.done.append(body)
        except (OSError, http.client.HTTPException) as failure:
            self.broken.append(str(failure))

    def join(self):
        for thread in self.threads:
            thread.join(timeout=120)
            assert not thread.is_alive()


# The sim executor's steps take as long as they are told to, on any machine.
SLOW = ["--distributed-executor-backend", "sim", "--sim-profile"]


def cluster_of(*flags, step_us=4000):
    return demo_cluster("--data-parallel-size", "2", *SLOW, f"base_us={step_us},prefill_us=5,decode_us=20", *flags)


def test_streams_finish_while_new_requests_are_refused():
    with cluster_of() as cluster:
        cluster.wait_ready()
        cluster.wait_engines(2)
        family = {p.pid for p in cluster.family()} | {cluster.process.pid}
        ports = ports_of(family)
        streams = Streams(cluster, 8, max_tokens=800)
        cluster.process.send_signal(signal.SIGTERM)
        refused = wait_for("readiness turns", lambda: (r := cluster.get("/ready")).status == 503 and r)
        assert "shutting down" in refused.json()["error"]["message"]
        new = cluster.complete("The capital of France is")
        assert new.status == 503 and int(new.headers["Retry-After"]) >= 1
        assert "shutting down" in new.json()["error"]["message"]
        assert cluster.get("/live").status == 200
        assert not streams.done
        streams.join()
        assert len(streams.done) == 8 and not streams.broken and not streams.told
        assert all(body.count("data: ") > 100 and '"finish_reason":"length"' in body for body in streams.done)
        assert cluster.process.wait(timeout=40) == 0
        assert not (family & set(all_processes()))
        wait_for("ports are free", lambda: not (ports & listening()), 5)


STOPPED = "the server was stopped before this request was done"


def assert_all_are_told(streams, count):
    assert len(streams.told) == count and not streams.done and not streams.broken, streams.broken
    for body in streams.told:
        events = [line for line in body.splitlines() if line]
        assert STOPPED in json.loads(events[-2].removeprefix("data: "))["error"]["message"]


@pytest.mark.parametrize("servers", [1, 2])
def test_second_signal_answers_what_is_open_and_ends_within_a_second(servers):
    with cluster_of("--api-server-count", str(servers), step_us=50000) as cluster:
        cluster.wait_ready()
        wait_for("all is up", lambda: "ready after" in cluster.log_text())
        family = {p.pid for p in cluster.family()}
        streams = Streams(cluster, 4)
        replies = []
        whole = threading.Thread(target=lambda: replies.append(cluster.complete("Count:", tokens=1500, ignore_eos=True)))
        whole.start()
        wait_for("all run", lambda: cluster.metric("trireme:requests_open") == 5)
        cluster.process.send_signal(signal.SIGTERM)
        wait_for("readiness turns", lambda: cluster.get("/ready").status == 503)
        began = time.monotonic()
        cluster.process.send_signal(signal.SIGTERM)
        assert cluster.process.wait(timeout=5) == 0
        assert time.monotonic() - began < 2.0
        wait_for("all have gone", lambda: not (family & set(all_processes())), 1.0)
        streams.join()
        whole.join(timeout=10)
        assert_all_are_told(streams, 4)
        assert replies[0].status == 503 and STOPPED in replies[0].json()["error"]["message"]
        assert int(replies[0].headers["Retry-After"]) >= 1


def test_forced_end_does_not_wait_for_an_api_server_that_is_stuck():
    with cluster_of(step_us=50000) as cluster:
        cluster.wait_ready()
        cluster.wait_engines(2)
        family = {p.pid for p in cluster.family()}
        os.kill(cluster.find("api-server 0").pid, signal.SIGSTOP)
        cluster.process.send_signal(signal.SIGTERM)
        wait_for("it stops", lambda: "stopping:" in cluster.log_text())
        cluster.process.send_signal(signal.SIGTERM)
        cluster.process.wait(timeout=5)
        wait_for("all have gone", lambda: not (family & set(all_processes())), 1.0)


def test_shutdown_timeout_bounds_the_drain():
    with cluster_of("--shutdown-timeout", "1", step_us=50000) as cluster:
        cluster.wait_ready()
        cluster.wait_engines(2)
        streams = Streams(cluster, 4)
        cluster.process.send_signal(signal.SIGTERM)
        assert cluster.process.wait(timeout=20) == 0
        streams.join()
        assert_all_are_told(streams, 4)


def test_control_c_in_a_terminal_is_clean():
    """The terminal signals every process of the foreground group at once."""
    words = [str(BIN / "trireme"), "serve", str(DEMO), "--served-model-name", "demo", "--data-parallel-size", "2",
             "--port", str(port := free_port()), "--data-parallel-rpc-port", str(free_port())]  # fmt: skip
    master, terminal = os.openpty()
    process = subprocess.Popen(words, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
                               preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))  # fmt: skip
    os.close(terminal)
    shown = bytearray()

    def read():
        while True:
            try:
                shown.extend(os.read(master, 65536))
            except OSError:
                return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        wait_for("the tree is shown", lambda: f"127.0.0.1:{port}".encode() in shown and b"ready after" in shown, 60)
        family = {p.pid for p in descendants(process.pid)}
        assert len(family) >= 7
        os.write(master, b"\x03")
        assert process.wait(timeout=40) == 0
    finally:
        process.kill()
        process.wait(timeout=10)
        reader.join(timeout=10)
        os.close(master)
    assert not (family & set(all_processes()))
    text = shown.decode()
    after = text[text.index("stopping:") :]
    assert "stopped" in after and " ! " not in after and "failed" not in after, after


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
                    "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)  # fmt: skip
    return cert, key


def test_tls_with_api_keys_serves_streams_and_drains(certificate):
    cert, key = certificate
    flags = ["--ssl-certfile", str(cert), "--ssl-keyfile", str(key), "--api-key", "first", "--api-key", "second"]
    with cluster_of(*flags) as cluster:
        context = ssl.create_default_context(cafile=str(cert))

        def ask(path, body=None, token=None):
            headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
            data = json.dumps(body).encode() if body is not None else None
            request = urllib.request.Request(f"https://{cluster.host}:{cluster.port}{path}", data=data, headers=headers)
            try:
                with urllib.request.urlopen(request, timeout=60, context=context) as answer:
                    return answer.status, answer.read()
            except urllib.error.HTTPError as failure:
                return failure.code, failure.read()

        def is_ready():
            assert cluster.process.poll() is None, cluster.log_text()
            try:
                return ask("/ready")[0] == 200
            except OSError:
                return False

        wait_for("https ready", is_ready, 60)
        short = {**LONG, "max_tokens": 20}
        for path in ("/health", "/live", "/ready", "/ping"):
            assert ask(path)[0] == 200, path
        for token in (None, "wrong", "firs", "firsts"):
            status, body = ask("/v1/completions", short, token)
            assert status == 401 and b"API key" in body and b"Bearer" in body, (token, status, body)
        for path in ("/v1/models", "/v1/nothing"):
            assert ask(path)[0] == 401, path
        for token in ("first", "second"):
            status, body = ask("/v1/completions", short, token)
            assert status == 200 and body.decode().rstrip().endswith("data: [DONE]")
        with pytest.raises(OSError):  # Plain HTTP to the TLS port: closed, nothing served.
            cluster.get("/health", timeout=10)
        results = []
        thread = threading.Thread(target=lambda: results.append(ask("/v1/completions", {**LONG, "max_tokens": 500}, "first")))
        thread.start()
        wait_for("it runs", lambda: ask("/load", token="first")[1] == b'{"server_load":1}')
        cluster.process.send_signal(signal.SIGTERM)
        thread.join(timeout=60)
        assert results[0][0] == 200 and results[0][1].decode().rstrip().endswith("data: [DONE]")
        assert cluster.process.wait(timeout=40) == 0


def test_second_signal_answers_a_stream_over_tls(certificate):
    cert, key = certificate
    with cluster_of("--ssl-certfile", str(cert), "--ssl-keyfile", str(key), step_us=50000) as cluster:
        wait_for("all is up", lambda: "ready after" in cluster.log_text(), 60)
        context = ssl.create_default_context(cafile=str(cert))
        connection = http.client.HTTPSConnection(cluster.host, cluster.port, timeout=30, context=context)
        connection.request("POST", "/v1/completions", json.dumps(LONG), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.readline()
        cluster.process.send_signal(signal.SIGTERM)
        wait_for("it stops", lambda: "stopping:" in cluster.log_text())
        cluster.process.send_signal(signal.SIGTERM)
        rest = answer.read().decode()
        assert STOPPED in rest and rest.rstrip().endswith("data: [DONE]")
        assert cluster.process.wait(timeout=5) == 0
