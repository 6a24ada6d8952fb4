"""What a client can send that is wrong: each gets its status and one clear message, and the next one is served.

While every bad request is in flight a good stream runs on the same server; it must come whole.
"""

import json
import socket
import threading
import time

import pytest
from cluster import demo_cluster, wait_for

GOOD = {"model": "demo", "prompt": "The capital of France is", "max_tokens": 8, "temperature": 0}
WHOLE = (200, ["data: [DONE]"])


@pytest.fixture(scope="module")
def cluster():
    with demo_cluster("--data-parallel-size", "1") as running:
        running.wait_ready()
        running.wait_engines(1)
        yield running


@pytest.fixture(scope="module")
def streams(cluster):
    """Long streams, one after the other, as long as the tests run; each must come whole."""
    body = {**GOOD, "max_tokens": 200, "ignore_eos": True, "stream": True}
    ends, done = [], threading.Event()

    def run():
        while not done.is_set():
            try:
                reply = cluster.post("/v1/completions", body)
            except OSError as failure:
                ends.append(repr(failure))
                return
            events = [line for line in reply.body.decode().split("\n") if line.startswith("data: ")]
            ends.append((reply.status, events[-1:]))

    thread = threading.Thread(target=run)
    thread.start()
    yield ends
    done.set()
    thread.join(timeout=120)
    assert not thread.is_alive()
    assert ends and all(end == WHOLE for end in ends)


@pytest.fixture(autouse=True)
def others_are_not_disturbed(cluster, streams):
    """Around every test a stream runs; those that ended were whole, and nobody was restarted."""
    family = {p.pid for p in cluster.family()}
    yield
    assert all(end == WHOLE for end in streams), streams
    assert cluster.complete("The capital of France is").json()["choices"][0]["text"].startswith(" Paris")
    assert {p.pid for p in cluster.family()} == family


def message_of(reply, status) -> str:
    assert reply.status == status, (reply.status, reply.body[:500])
    error = reply.json()["error"]
    assert set(error) >= {"message", "type", "code"}
    return error["message"]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("prompt", None, ["prompt"]),
        ("prompt", 7, ["prompt"]),
        ("prompt", {}, ["prompt"]),
        ("prompt", ["a", 1], ["prompt"]),
        ("prompt", [1.5], ["prompt"]),
        ("prompt", [10**9], ["prompt", "1000000000"]),
        ("prompt", [-1], ["prompt"]),
        ("max_tokens", "many", ["max_tokens"]),
        ("max_tokens", -1, ["max_tokens"]),
        ("max_tokens", 1.5, ["max_tokens"]),
        ("temperature", "hot", ["temperature"]),
        ("temperature", -1, ["temperature"]),
        ("temperature", 1e300, ["temperature"]),
        ("top_p", 2, ["top_p"]),
        ("top_k", -7, ["top_k"]),
        ("n", 0, ["n"]),
        ("n", 10**6, ["n"]),
        ("stream", "yes", ["stream"]),
        ("stop", 5, ["stop"]),
        ("stop", [""], ["stop"]),
        ("stop", ["x"] * 1000, ["stop"]),
        ("best_of", 2, ["best_of", "n = 1"]),
        ("logprobs", -1, ["logprobs", "got -1"]),
        ("logprobs", 1000, ["logprobs"]),
        ("logit_bias", {"a": 1}, ["logit_bias"]),
        ("logit_bias", {"1": "x"}, ["logit_bias"]),
        ("seed", "x", ["seed"]),
        ("presence_penalty", 99, ["presence_penalty"]),
        ("stop_token_ids", ["x"], ["stop_token_ids"]),
        ("stream_options", {"include_usage": True}, ["stream_options"]),
        ("model", 3, ["model"]),
    ],
    ids=lambda value: str(value)[:20],
)
def test_wrong_field_is_named(cluster, field, value, words):
    message = message_of(cluster.post("/v1/completions", {**GOOD, field: value}), 400)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (None, ["messages"]),
        ([], ["messages"]),
        ("hello", ["messages"]),
        ([{"content": "x"}], ["messages", "role"]),
        ([{"role": "user", "content": 5}], ["messages", "content"]),
        ([{"role": "user", "content": [{"type": "image_url"}]}], ["image_url"]),
    ],
)
def test_wrong_chat_is_named(cluster, messages, words):
    message = message_of(cluster.post("/v1/chat/completions", {"model": "demo", "messages": messages}), 400)
    assert all(word in message for word in words), message


def test_prompt_too_long_names_both_numbers(cluster):
    prompt = [5] * 3000
    message = message_of(cluster.post("/v1/completions", {**GOOD, "prompt": prompt}), 400)
    assert "3000" in message and "2048" in message
    message = message_of(cluster.post("/v1/completions", {**GOOD, "prompt": [5] * 2000, "max_tokens": 100}), 400)
    assert "2000" in message and "2048" in message
    text = {"model": "demo", "messages": [{"role": "user", "content": "word " * 20000}]}
    message = message_of(cluster.post("/v1/chat/completions", text), 400)
    assert "2048" in message and any(int(n) > 2048 for n in message.replace(".", " ").replace(",", " ").split() if n.isdigit())


def test_unknown_model_is_404(cluster):
    for path, body in (("/v1/completions", GOOD), ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]})):
        assert "`other`" in message_of(cluster.post(path, {**body, "model": "other"}), 404)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", ["JSON"]),
        (b"not json", ["JSON"]),
        (b"[]", ["object"]),
        (b'{"model": "demo"', ["JSON"]),
        (b'{"model": "demo", "prompt": "x"} extra', ["JSON"]),
        (b'{"model": "demo", "prompt": "\xff\xfe"}', ["UTF-8"]),
        (b'{"model": "demo", "prompt": "\\ud800"}', []),
        (b"[" * 1000000, []),
        (b'{"a":' * 100000 + b"1" + b"}" * 100000, []),
        (b'{"model": "demo", "prompt": ' + b"[" * 5000 + b"1" + b"]" * 5000 + b"}", []),
    ],
    ids=["empty", "words", "array", "cut", "more", "bytes", "surrogate", "brackets", "deep", "deep-field"],
)
def test_broken_json_is_refused(cluster, body, words):
    message = message_of(cluster.post("/v1/completions", body), 400)
    assert all(word in message for word in words), message
    assert len(message) < 500


def test_huge_json_is_answered(cluster):
    body = {**GOOD, **{f"extra_{i}": list(range(50)) for i in range(20000)}}
    reply = cluster.post("/v1/completions", body)
    assert reply.status in (200, 400), reply.body[:300]


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/v1/nothing", "GET", 404),
        ("/v1/completions", "GET", 405),
        ("/v1/completions", "PUT", 405),
        ("/health", "DELETE", 405),
        ("/%2e%2e/etc/passwd", "GET", 404),
    ],
)
def test_wrong_path_or_method(cluster, path, method, status):
    message_of(cluster.get(path, method=method), status)


class Raw:
    """A connection that sends what it likes."""

    def __init__(self, cluster, data: bytes):
        self.socket = socket.create_connection((cluster.host, cluster.port), timeout=120)
        self.socket.sendall(data)

    def answer(self) -> bytes:
        got = b""
        while chunk := self.socket.recv(65536):
            got += chunk
        self.socket.close()
        return got


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x00\xff" * 500 + b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x55" * 200 + b"\r\n\r\n", 400),  # TLS to a plain port.
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"a" * 200000 + b"\r\n\r\n", 431),
        (b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400),
        (b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n", 413),
    ],
    ids=["zeros", "tls", "version", "header", "length", "both", "chunk", "overflow", "terabyte"],
)
def test_garbage_on_the_http_port(cluster, data, status):
    connection = Raw(cluster, data)
    connection.socket.shutdown(socket.SHUT_WR)
    answer = connection.answer()
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer[:200]
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]["message"]


def test_gigabyte_body_is_refused_before_it_is_read(cluster):
    size = 10**9
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
    connection = Raw(cluster, head.encode() + b'{"prompt": "')
    begin = time.monotonic()
    answer = connection.socket.recv(65536)  # Before the other 999,999,988 bytes.
    assert answer.startswith(b"HTTP/1.1 413 "), answer[:200]
    assert b"33554432 bytes" in answer
    connection.socket.close()
    assert time.monotonic() - begin < 30


def test_chunked_body_over_the_limit_is_refused(cluster):
    connection = Raw(cluster, b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    try:
        for _ in range(40):
            connection.socket.sendall(chunk)
    except OSError:
        pass  # It was refused before all of it was sent.
    assert connection.socket.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_slow_loris_is_cut_and_others_are_served(cluster):
    slow = [Raw(cluster, b"POST /v1/completions HTTP/1.1\r\nHo") for _ in range(200)]
    assert cluster.complete("The capital of France is").status == 200

    def drip():
        while not done.wait(0.5):
            for connection in slow:
                try:
                    connection.socket.sendall(b"x")
                except OSError:
                    return

    done = threading.Event()
    thread = threading.Thread(target=drip)
    thread.start()
    try:
        slow[0].socket.settimeout(60)
        assert slow[0].socket.recv(65536).startswith(b"HTTP/1.1 408 ")
        assert cluster.complete("The capital of France is").status == 200
    finally:
        done.set()
        thread.join()
    for connection in slow:
        connection.socket.close()
    wait_for("connections are closed", lambda: cluster.metric("trireme:http_connections_open") < 20, 30)


@pytest.mark.parametrize("rank", ["x", "-1", "7", "1e3", ""])
def test_wrong_pinned_rank_is_named(cluster, rank):
    reply = cluster.post("/v1/completions", GOOD, headers={"X-data-parallel-rank": rank})
    assert "data-parallel-rank" in message_of(reply, 400).lower()


def test_wrong_tokens_to_detokenize(cluster):
    assert "tokens" in message_of(cluster.post("/detokenize", {"model": "demo", "tokens": "x"}), 400)
    assert "prompt" in message_of(cluster.post("/tokenize", {"model": "demo", "prompt": 5}), 400)
