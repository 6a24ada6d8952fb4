"""`trireme bench serve | latency | throughput` against sim engines and the demo model: the fields are there, the counts
are right, what cannot work is one clear line, and nothing is left.
"""

import http.client
import json
import re
import signal
import socketserver
import subprocess
import threading
import time
import urllib.request

import pytest
from cluster import BIN, DEMO, demo_cluster, descendants, free_port, ports_of, wait_for

TRIREME = str(BIN / "trireme")
SLOW_STEP = "base_us=5000,prefill_us=0,decode_us=0"
# Of the simulated model each of these is a whole character, so that each token is a piece of text.
LETTERS = json.dumps({"allowed_token_ids": list(range(33, 97))})


def bench(*words, seconds=120) -> subprocess.CompletedProcess:
    return subprocess.run([TRIREME, "bench", *map(str, words)], capture_output=True, text=True, timeout=seconds)


def last_line(done) -> str:
    return done.stderr.strip().split("\n")[-1]


@pytest.fixture(scope="module")
def cluster():
    with demo_cluster("--data-parallel-size", 2, "--distributed-executor-backend", "sim", "--sim-profile", SLOW_STEP) as running:
        running.wait_ready()
        running.wait_engines(2)
        yield running


def serve(cluster, tmp_path, *words):
    flags = ["--port", cluster.port, "--save-result", "--result-dir", tmp_path, "--result-filename", "r.json"]
    done = bench("serve", *flags, *words)
    file = tmp_path / "r.json"
    return done, json.loads(file.read_text()) if file.exists() else None


def test_serve_counts_every_request_and_token(cluster, tmp_path):
    done, result = serve(
        cluster, tmp_path, "--num-prompts", 40, "--random-input-len", 8, "--random-output-len", 12, "--max-concurrency", 10,
        "--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,99.9", "--goodput", "ttft:60000", "e2el:60000",
        "--extra-body", LETTERS, "--save-detailed", "--label", "mine", "--metadata", "build=7",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (result["completed"], result["failed"]) == (40, 0)
    assert (result["total_input_tokens"], result["total_output_tokens"]) == (40 * 8, 40 * 12)
    assert result["max_concurrent_requests"] <= result["max_concurrency"] == 10
    assert result["request_goodput"] == pytest.approx(result["request_throughput"]) == pytest.approx(40 / result["duration"])
    assert result["total_token_throughput"] == pytest.approx(40 * 20 / result["duration"])
    for metric in ("ttft", "tpot", "itl", "e2el"):
        assert {f"{kind}_{metric}_ms" for kind in ("mean", "median", "std", "p50", "p99.9")} <= result.keys()
        assert result[f"median_{metric}_ms"] == result[f"p50_{metric}_ms"] <= result[f"p99.9_{metric}_ms"]
    # A step takes 5 ms at least; two pieces may come together, their mean cannot be below.
    assert result["median_tpot_ms"] > 4
    assert result["mean_e2el_ms"] > result["mean_ttft_ms"] + 11 * 4
    assert (result["label"], result["build"], result["request_rate"], result["model_id"]) == ("mine", "7", "inf", "demo")
    assert result["rtfx"] == 0 and not any(name.startswith("spec_decode") for name in result)  # Nothing was guessed.
    assert result["output_lens"] == [12] * 40 and all(len(itls) == 11 for itls in result["itls"])
    assert re.search(r"^Successful requests: +40 *$", done.stdout, re.M)
    assert "Serving Benchmark Result" in done.stdout and "P99.9 TTFT (ms):" in done.stdout
    assert str(DEMO / "config.json") in done.stderr


def test_serve_speaks_chat_and_keeps_the_rate(cluster, tmp_path):
    done, result = serve(
        cluster, tmp_path, "--backend", "openai-chat", "--num-prompts", 30, "--random-input-len", 8, "--random-output-len", 4,
        "--request-rate", 30, "--burstiness", 4, "--num-warmups", 2, "--ready-check-timeout-sec", 10,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (result["completed"], result["total_output_tokens"], result["burstiness"]) == (30, 120, 4)
    assert result["total_input_tokens"] > 30 * 8  # The template's tokens too: the server's count.
    assert 1.0 <= result["duration"] < 10


def test_serve_takes_answers_that_are_not_streamed(cluster, tmp_path):
    done, result = serve(
        cluster, tmp_path, "--num-prompts", 5, "--random-output-len", 3, "--extra-body", '{"stream": false, "stream_options": null, "prompt": "Hi"}'
    )
    assert done.returncode == 0, done.stderr
    assert (result["completed"], result["total_output_tokens"]) == (5, 15)
    assert result["mean_ttft_ms"] > 3 * 4


def test_serve_shows_what_was_measured_when_it_is_interrupted(cluster, tmp_path):
    words = [TRIREME, "bench", "serve", "--port", str(cluster.port), "--num-prompts", "100000", "--random-input-len", "8",
             "--random-output-len", "4", "--max-concurrency", "4"]  # fmt: skip
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        before = cluster.metric("vllm:request_success_total")
        wait_for("requests are answered", lambda: cluster.metric("vllm:request_success_total") > before + 20)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=20)
    assert running.returncode == 130, err
    counts = {name: int(re.search(rf"^{name} requests: +(\d+)", out, re.M)[1]) for name in ("Successful", "Failed", "Unfinished")}
    assert counts["Successful"] >= 20 and counts["Failed"] == 0 and sum(counts.values()) == 100000
    wait_for("its open requests were aborted", lambda: cluster.metric("vllm:num_requests_running") == 0)


def test_serve_has_vllms_fields_of_speculation(tmp_path):
    repetitive = json.dumps({"prompt": "one two three four one two three four one two three four one two"})
    speculation = json.dumps({"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_min": 1, "prompt_lookup_max": 3})
    with demo_cluster("--speculative-config", speculation) as guessing:
        guessing.wait_ready()
        guessing.wait_engines(1)
        flags = ["--num-prompts", 4, "--random-output-len", 60, "--temperature", 0, "--extra-body", repetitive]
        serve(guessing, tmp_path, *flags)
        before = guessing.metric("vllm:spec_decode_num_draft_tokens_total")
        done, result = serve(guessing, tmp_path, *flags)
        assert done.returncode == 0, done.stderr
        assert result["spec_decode_draft_tokens"] == guessing.metric("vllm:spec_decode_num_draft_tokens_total") - before > 0
    drafts, accepted = result["spec_decode_num_drafts"], result["spec_decode_accepted_tokens"]
    assert result["spec_decode_acceptance_rate"] == pytest.approx(100 * accepted / result["spec_decode_draft_tokens"])
    assert result["spec_decode_acceptance_length"] == pytest.approx(1 + accepted / drafts)
    assert sum(result["spec_decode_per_position_acceptance_rates"]) == pytest.approx(accepted / drafts)
    assert "Speculative Decoding" in done.stdout and re.search(r"^Accepted tokens: +\d+ *$", done.stdout, re.M)


def test_serve_says_why_requests_failed(cluster, tmp_path):
    done, result = serve(cluster, tmp_path, "--num-prompts", 3, "--random-input-len", 5000)
    assert done.returncode == 1 and (result["completed"], result["failed"]) == (0, 3)
    assert "3 x HTTP 400" in done.stderr and "2048" in done.stderr
    done = bench("serve", "--port", cluster.port, "--model", "other", "--ready-check-timeout-sec", 5)
    assert done.returncode == 1 and "`other` does not exist" in last_line(done)


def test_server_that_is_not_there_is_one_clear_line():
    port = free_port()
    done = bench("serve", "--port", port)
    assert done.returncode == 1 and len(done.stderr.strip().split("\n")) == 1
    assert f"no server at http://127.0.0.1:{port}" in done.stderr and "--base-url" in done.stderr


class CutStream(socketserver.StreamRequestHandler):
    """Answers every request on a connection of its own: a stream that ends before [DONE]."""

    def handle(self):
        length = 0
        while (line := self.rfile.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        self.rfile.read(length)
        self.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {"choices": [{"text": "a"}]}\n\n')


def test_stream_that_is_cut_is_a_failed_request():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), CutStream) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = bench("serve", "--port", server.server_address[1], "--model", "m", "--num-prompts", 2, "--random-input-len", 4)
        server.shutdown()
    assert done.returncode == 1 and "2 x the stream ended without [DONE]" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serve", "--num-promts", "3"], "unknown flag --num-promts; did you mean --num-prompts?"),
        (["serve", "--num-prompts", "x"], "--num-prompts: 'x' is not a number in range"),
        (["serve", "--request-rate", "0"], "--request-rate: 0 is not above 0"),
        (["serve", "--dataset-name", "sharegpt"], "--dataset-name: 'sharegpt' is not there"),
        (["serve", "--percentile-metrics", "ttft,foo"], "--percentile-metrics: 'foo' is not"),
        (["serve", "--metric-percentiles", "101"], "--metric-percentiles: '101'"),
        (["serve", "--goodput", "itl:3"], "--goodput: 'itl' is not ttft, tpot or e2el"),
        (["serve", "--extra-body", "{"], "--extra-body: '{' is not a JSON object"),
        (["serve", "--base-url", "localhost"], "--base-url: 'localhost' does not begin with http://"),
        (["latency"], "no model is given"),
        (["latency", "m", "--num-itrs", "3"], "unknown flag --num-itrs; did you mean --num-iters?"),
        (["latency", "m", "--max-num-sqs", "3"], "unknown flag --max-num-sqs; did you mean --max-num-seqs?"),
        (["latency", "m", "--use-beam-search"], "--use-beam-search: not supported"),
        (["latency", "m", "--batch-size", "0"], "--batch-size: 0 is not from 1"),
        (["throughput", "m", "--headless"], "--headless"),
        (["throughput", "m", "--num-prompts", "0"], "--num-prompts: 0"),
        (["throughput", "m", "--backend", "hf"], "--backend: 'hf' is not there; vllm and vllm-chat"),
        (["throughput", "m", "--dataset-path", "f"], "--dataset-path: not supported: there are no data sets"),
        (["throughput", "m", "--hf-max-batch-size", "3"], "--hf-max-batch-size: not supported: there is no backend hf; --max-num-seqs"),
        (["throughput", "m", "--lora-path", "d"], "--lora-path: not supported: there are no adapters"),
        (["throughput", "m", "--num-warmups", "99999999"], "--num-warmups: 99999999 is above"),
        (["throughput", "m", "--output-json", "/nowhere/at/all.json"], "--output-json: there is no directory '/nowhere/at'"),
        (["latency", "m", "--output-json", "/nowhere/at/all.json"], "--output-json: there is no directory '/nowhere/at'"),
        (["latency", "m", "--output-json", "/tmp"], "--output-json: cannot write '/tmp'"),
        (["sreve"], "did you mean 'serve'?"),
    ],
)
def test_wrong_command_line_is_refused_by_flag_and_value(words, message):
    done = bench(*words, seconds=20)
    assert done.returncode == 2 and message in last_line(done), done.stderr


@pytest.mark.parametrize("command", [[], ["serve"], ["latency"], ["throughput"]])
def test_help_teaches(command):
    done = bench(*command, "--help")
    assert done.returncode == 0 and "usage: trireme bench" in done.stdout
    assert all(len(line) <= 100 for line in done.stdout.split("\n"))


def test_latency_measures_whole_batches(tmp_path):
    file = tmp_path / "latency.json"
    done = bench("latency", DEMO, "--input-len", 8, "--output-len", 16, "--batch-size", 3, "--n", 2, "--num-iters-warmup", 1,
                 "--num-iters", 4, "--output-json", file, "-dp", 2, "--seed", 3)  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert result["model_id"] == str(DEMO)
    assert len(result["latencies"]) == 4 and result["avg_latency"] == pytest.approx(sum(result["latencies"]) / 4)
    assert list(result["percentiles"]) == ["10", "25", "50", "75", "90", "99"] and result["std_latency"] >= 0
    assert f"Avg latency: {result['avg_latency']}" in done.stdout
    assert "4 batches of 6 x 16 tokens" in done.stdout


def test_throughput_counts_every_request_and_token(tmp_path):
    file = tmp_path / "throughput.json"
    done = bench("throughput", DEMO, "--num-prompts", 20, "--input-len", 32, "--output-len", 8, "--output-json", file)
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert result["model_id"] == str(DEMO)
    assert (result["num_requests"], result["total_num_tokens"]) == (20, 20 * 40)
    assert result["requests_per_second"] == pytest.approx(20 / result["elapsed_time"])
    assert result["tokens_per_second"] == pytest.approx(800 / result["elapsed_time"])
    assert "Total num output tokens:  160" in done.stdout


def test_throughput_counts_what_comes_after_the_warm_up_alone(tmp_path):
    file = tmp_path / "throughput.json"
    done = bench("throughput", DEMO, "--num-prompts", 12, "--input-len", 32, "--output-len", 8, "--num-warmups", 5,
                 "--prequeue-requests", "--async-engine", "--output-json", file)  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert (result["num_requests"], result["total_num_tokens"]) == (12, 12 * 40)
    assert "note: --async-engine: the engine is always a process of its own" in done.stderr


def test_throughput_of_chats_counts_the_servers_tokens(tmp_path):
    file = tmp_path / "throughput.json"
    done = bench("throughput", DEMO, "--backend", "vllm-chat", "--num-prompts", 6, "--input-len", 8, "--output-len", 4,
                 "--output-json", file)  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert result["num_requests"] == 6 and result["total_num_tokens"] > 6 * 12
    assert "Total num output tokens:  24" in done.stdout


def test_model_that_cannot_be_served_is_said_with_its_reason(tmp_path):
    done = bench("latency", tmp_path)
    assert done.returncode == 1 and f"{tmp_path}" in last_line(done) and "config.json" in last_line(done), done.stderr


def test_interrupted_latency_shows_its_batches_and_leaves_no_process():
    words = [TRIREME, "bench", "latency", str(DEMO), "--num-iters", "100000", "--num-iters-warmup", "0", "--output-len", "4"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        wait_for("the worker runs", lambda: any(p.name == "worker" for p in descendants(running.pid)))
        family = {p.pid for p in descendants(running.pid)}
        try:
            wait_for("two batches are computed", lambda: answers_of(family) >= 16)
        except AssertionError:
            running.kill()
            raise
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=40)
    assert running.returncode == 130, err
    assert "Avg latency:" in out and re.search(r"\(\d+ batches of 8 x 4 tokens\)", out)
    deadline = time.monotonic() + 5
    while any(alive(pid) for pid in family):
        assert time.monotonic() < deadline


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def answers_of(pids: set[int]) -> float:
    """vllm:request_success_total of the server among these processes; 0 before it listens."""
    lines = []
    for address in ports_of(pids):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{int(address.split(':')[1], 16)}/metrics", timeout=2) as reply:
                lines += reply.read().decode().split("\n")
        except (OSError, http.client.HTTPException):
            continue  # Not its HTTP port.
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("vllm:request_success_total"))
