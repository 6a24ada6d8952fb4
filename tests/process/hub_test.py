"""trireme pull against a small hub of our own on loopback: layout, resume, checks, errors."""

import hashlib
import http.server
import json
import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from cluster import BIN, DEMO, Cluster

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = bytes(range(256)) * 4096
FILES = {
    "config.json": b'{"architectures": ["LlamaForCausalLM"]}',
    "model.safetensors": WEIGHTS,
    "README.md": b"not needed",
}


class Hub(http.server.BaseHTTPRequestHandler):
    """The four answers of the hub that a download needs; `server.cut_after` breaks the first transfer."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body: bool):
        self.server.requests.append((self.command, self.path, self.headers.get("Range")))
        if self.server.retry_after:
            return self.send(429, b"{}", {"Retry-After": self.server.retry_after.pop(0)}, with_body)
        if self.path == "/api/models/org/tiny/revision/main":
            listing = {"sha": self.server.commit, "siblings": [{"rfilename": name} for name in FILES]}
            return self.send(200, json.dumps(listing).encode(), {}, with_body)
        if self.path == "/api/models/org/demo/revision/main":
            listing = {"sha": COMMIT, "siblings": [{"rfilename": p.name} for p in DEMO.iterdir() if p.is_file()]}
            return self.send(200, json.dumps(listing).encode(), {}, with_body)
        demo_prefix = f"/org/demo/resolve/{COMMIT}/"
        if self.path.startswith(demo_prefix):
            content = (DEMO / self.path[len(demo_prefix) :]).read_bytes()
            return self.send(200, content, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'}, with_body)
        if self.path == "/api/models/org/gated/revision/main":
            return self.send(401, b"{}", {}, with_body)
        prefix = f"/org/tiny/resolve/{COMMIT}/"
        if self.path.startswith(prefix) and self.path[len(prefix) :] in FILES:
            return self.send_file(self.path[len(prefix) :], with_body)
        return self.send(404, b"{}", {}, with_body)

    def send_file(self, name: str, with_body: bool):
        content = FILES[name]
        is_large = name.endswith(".safetensors")
        etag = hashlib.sha256(content).hexdigest() if is_large else hashlib.sha1(content).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
        if is_large:
            headers |= {"X-Linked-ETag": f'"{etag}"', "X-Linked-Size": str(len(content))}
            content = self.server.weights
        begin = 0
        if range_text := self.headers.get("Range"):
            begin = int(range_text.removeprefix("bytes=").rstrip("-"))
        cut = self.server.cut_after if with_body and is_large else None
        self.server.cut_after = None if cut else self.server.cut_after
        self.send(206 if begin else 200, content[begin:], headers, with_body, cut)

    def send(self, status, body, headers, with_body, cut=None):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body if cut is None else body[:cut])
        if cut is not None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def hub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.requests, server.cut_after, server.weights, server.commit = [], None, WEIGHTS, COMMIT
    server.retry_after = []  # Of the next answers, all 429.
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def pull(hub, cache: Path, model: str = "org/tiny", **environment):
    address = f"http://127.0.0.1:{hub.server_address[1]}" if hub else "http://127.0.0.1:9"
    return subprocess.run(
        [BIN / "trireme", "pull", model],
        env={**os.environ, "HF_ENDPOINT": address, "HF_HUB_CACHE": str(cache), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_download_lays_out_the_cache_as_the_hub_tools_do(hub, tmp_path):
    result = pull(hub, tmp_path)
    assert result.returncode == 0, result.stderr
    snapshot = tmp_path / "models--org--tiny/snapshots" / COMMIT
    assert result.stdout.strip() == str(snapshot)
    assert (snapshot / "model.safetensors").read_bytes() == WEIGHTS
    assert (snapshot / "model.safetensors").is_symlink()
    assert not (snapshot / "README.md").exists()
    assert (tmp_path / "models--org--tiny/refs/main").read_text() == COMMIT


def test_second_pull_asks_the_hub_nothing(hub, tmp_path):
    assert pull(hub, tmp_path).returncode == 0
    hub.requests.clear()
    assert pull(hub, tmp_path).returncode == 0
    assert hub.requests == []


def test_broken_transfer_is_resumed_where_it_broke(hub, tmp_path):
    hub.cut_after = 500_000
    result = pull(hub, tmp_path)
    assert result.returncode == 0, result.stderr
    ranges = [r for method, path, r in hub.requests if method == "GET" and path.endswith(".safetensors")]
    assert ranges[0] is None and ranges[1].startswith("bytes=") and int(ranges[1][6:-1]) > 0
    snapshot = tmp_path / "models--org--tiny/snapshots" / COMMIT
    assert (snapshot / "model.safetensors").read_bytes() == WEIGHTS


def test_wrong_content_is_refused_and_never_appears_in_the_cache(hub, tmp_path):
    hub.weights = WEIGHTS[:-1] + b"\0"
    result = pull(hub, tmp_path)
    assert result.returncode == 1
    assert "SHA-256" in result.stderr
    assert not (tmp_path / "models--org--tiny/snapshots" / COMMIT).exists()


@pytest.mark.parametrize("commit", ["../../x", "", COMMIT[:-1], COMMIT[:-1] + "g", COMMIT + "/" + COMMIT[1:24], "x" * 1000])
def test_commit_that_is_none_is_refused_and_nothing_is_written(hub, tmp_path, commit):
    hub.commit = commit
    result = pull(hub, tmp_path)
    assert result.returncode == 1
    assert f'the commit "{commit}'[:60] in result.stderr and "40 or 64 hexadecimal digits" in result.stderr
    assert len(result.stderr.splitlines()) == 2 and list(tmp_path.iterdir()) == []


def test_hub_that_limits_is_given_the_pause_it_asks_for(hub, tmp_path):
    hub.retry_after = ["1", "0"]
    result = pull(hub, tmp_path)
    assert result.returncode == 0, result.stderr
    assert len([line for line in result.stderr.splitlines() if "going on in 1 s" in line]) == 2
    assert (tmp_path / "models--org--tiny/snapshots" / COMMIT / "model.safetensors").read_bytes() == WEIGHTS


def test_hub_that_asks_for_too_long_a_pause_is_told_of_at_once(hub, tmp_path):
    hub.retry_after = ["86400"]
    result = pull(hub, tmp_path)
    assert result.returncode == 1 and "429, Retry-After: 86400" in result.stderr


def test_gated_model_names_the_token(hub, tmp_path):
    result = pull(hub, tmp_path, "org/gated")
    assert result.returncode == 1
    assert "HF_TOKEN" in result.stderr


def test_unknown_model_and_unreachable_hub_are_one_clear_line(hub, tmp_path):
    assert "not found on the hub" in pull(hub, tmp_path, "org/none").stderr
    assert "127.0.0.1:9" in pull(None, tmp_path).stderr


def test_offline_never_touches_the_network(hub, tmp_path):
    result = pull(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert result.returncode == 1
    assert "HF_HUB_OFFLINE" in result.stderr
    assert hub.requests == []


def test_serve_takes_a_hub_id_and_answers_under_it(hub, tmp_path):
    environment = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}", "HF_HUB_CACHE": str(tmp_path)}
    with Cluster(["org/demo", "--data-parallel-size", "2"], environment=environment) as cluster:
        cluster.wait_ready()
        assert [m["id"] for m in cluster.get("/v1/models").json()["data"]] == ["org/demo"]
        reply = cluster.complete("The capital of France is", model="org/demo")
        assert reply.json()["choices"][0]["text"].startswith(" Paris")
