"""KV offload, whole system: what others drove out of a small KV cache comes back from memory or disk, to the same answers;
a disk that fails costs time and nothing else; a killed worker leaves no file."""

import os
import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bad_model_test import fails
from cluster import DEMO, Cluster, demo_cluster, wait_for

SMALL_CACHE = ["--num-gpu-blocks-override", "40", "--max-model-len", "512", "--max-num-seqs", "8"]
SIZE = ["--kv-offloading-size", "0.05"]
TOKENS = 400  # 25 blocks of 16 tokens: two prompts do not fit.


def prompt(number: int) -> list[int]:
    return [10 + (number * 7919 + i * (number + 3)) % 1900 for i in range(TOKENS)]


def ask(cluster: Cluster, number: int):
    body = {"model": "demo", "prompt": prompt(number), "max_tokens": 8, "temperature": 0, "logprobs": 2, "ignore_eos": True}
    reply = cluster.post("/v1/completions", body)
    assert reply.status == 200, reply.body
    return [choice["logprobs"] for choice in reply.json()["choices"]]


def hits(cluster: Cluster) -> float:
    return cluster.metric("vllm:external_prefix_cache_hits_total")


def wait_for_hits(cluster: Cluster, more_than: float):
    wait_for("hits in the metric", lambda: hits(cluster) > more_than)


@pytest.fixture(scope="module")
def plain() -> dict:
    """What each prompt gives without offload."""
    with demo_cluster(*SMALL_CACHE) as cluster:
        cluster.wait_ready()
        answers = {number: ask(cluster, number) for number in range(5)}
        assert hits(cluster) == 0
        return answers


def store_file(cluster: Cluster, directory: Path) -> tuple[int, str]:
    """The worker's pid and the way to its file, which has no name."""
    pid = cluster.find("worker").pid
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(entry)
        if target.startswith(str(directory)):
            assert target.endswith("(deleted)")
            return pid, str(entry)
    raise AssertionError(f"worker {pid} has no file in {directory}")


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("more", [[], ["--tensor-parallel-size", "2"], ["--pipeline-parallel-size", "2"], ["--kv-cache-dtype", "int8"]])
def test_what_was_driven_out_comes_back_to_the_same_answer(plain, tmp_path, on_disk, more):
    where = ["--kv-offloading-path", str(tmp_path)] if on_disk else ["--kv-offloading-backend", "native"]
    with demo_cluster(*SMALL_CACHE, *SIZE, *where, *more) as cluster:
        cluster.wait_ready()
        first = [ask(cluster, number) for number in range(3)]
        assert hits(cluster) == 0
        assert [ask(cluster, number) for number in range(3)] == first
        wait_for_hits(cluster, 2 * TOKENS)
        if not more or "--pipeline-parallel-size" in more:  # Sums over two ranks, and int8, are other bits.
            assert first == [plain[number] for number in range(3)]
        assert cluster.metric("vllm:external_prefix_cache_queries_total") >= hits(cluster)
        assert 0 < cluster.metric("trireme:kv_offload_bytes") <= 0.05 * 2**30
        assert cluster.metric("trireme:kv_offload_lost_blocks_total") == 0
        assert list(tmp_path.iterdir()) == []


def test_requests_that_crowd_one_another_out_get_the_same_answers(plain):
    with demo_cluster(*SMALL_CACHE, *SIZE) as cluster:
        cluster.wait_ready()
        for _ in range(3):
            with ThreadPoolExecutor(5) as pool:
                assert list(pool.map(lambda number: ask(cluster, number), range(5))) == [plain[n] for n in range(5)]
        wait_for_hits(cluster, 0)


@pytest.mark.parametrize("more", [[], ["--tensor-parallel-size", "2"], ["--pipeline-parallel-size", "2"]])
def test_a_disk_that_fails_one_worker_costs_the_blocks_and_no_answer(tmp_path, more):
    with demo_cluster(*SMALL_CACHE, *SIZE, "--kv-offloading-path", str(tmp_path), *more) as cluster:
        cluster.wait_ready()
        right = [ask(cluster, number) for number in range(5)]
        pid, file = store_file(cluster, tmp_path)
        os.truncate(file, 0)  # Nothing can be read back.
        assert ask(cluster, 0) == right[0]
        wait_for("lost blocks", lambda: cluster.metric("trireme:kv_offload_lost_blocks_total") > 0)
        lost = cluster.metric("trireme:kv_offload_lost_blocks_total")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, 0))  # And now it is full.
        for number in (1, 2, 3, 4, 0):
            assert ask(cluster, number) == right[number]
        wait_for("more lost blocks", lambda: cluster.metric("trireme:kv_offload_lost_blocks_total") > lost)
        assert pid in {p.pid for p in cluster.family()}


def test_a_killed_worker_leaves_no_file(plain, tmp_path):
    with demo_cluster(*SMALL_CACHE, *SIZE, "--kv-offloading-path", str(tmp_path)) as cluster:
        cluster.wait_ready()
        for number in range(3):
            ask(cluster, number)
        pid, file = store_file(cluster, tmp_path)
        assert os.stat(file).st_size > 0
        os.kill(pid, signal.SIGKILL)
        wait_for("the worker is gone", lambda: not Path(f"/proc/{pid}/fd").exists() or not os.path.exists(file))
        assert list(tmp_path.iterdir()) == []
        wait_for("another worker", lambda: (cluster.find("worker") or cluster.process).pid not in (pid, cluster.process.pid))
        cluster.wait_engines(1)
        assert ask(cluster, 1) == plain[1]


@pytest.mark.parametrize("where", [[], ["--kv-offloading-path", "/tmp"]])
def test_more_than_memory_or_disk_is_refused_with_both_numbers(where):
    fails(DEMO, *SMALL_CACHE, "--kv-offloading-size", "1000", *where).check("--kv-offloading-size", "1000.00 GiB", "ask for less")


@pytest.mark.parametrize("flags, words", [
    (["--kv-offloading-size", "0.00001"], ["1e-05", "32768 bytes"]),
    (["--kv-offloading-size", "-1"], ["-1"]),
    (["--kv-offloading-size", "1", "--no-enable-prefix-caching"], ["--no-enable-prefix-caching"]),
    (["--kv-offloading-path", "/tmp"], ["--kv-offloading-path", "--kv-offloading-size"]),
    (["--kv-offloading-size", "0.05", "--kv-offloading-path", "/nowhere"], ["/nowhere"]),
    (["--kv-offloading-size", "1", "--kv-offloading-backend", "lmcache"], ["--kv-offloading-backend", "--kv-offloading-path"]),
])  # fmt: skip
def test_flags_that_make_no_sense_are_named(flags, words):
    fails(DEMO, *flags).check(*words)
