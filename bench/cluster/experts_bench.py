"""What it costs that ranks step together and have their experts at each other: ratios of clusters run in turn.

    TRIREME_BIN=build/release/bin python3 bench/cluster/experts_bench.py [--rounds 3]

    experts.time_ratio         time of two ranks of models/demo-moe that divide its experts, over that of one rank with as many
                               threads as both together: the same requests, 32 at a time
    experts.first_token_us     what a wave's start adds to the first token of a request to an idle cluster: two ranks that divide
                               the experts, less two that step alone; medians of requests in turn
    experts.move_pause_steps   what a step is longer in which experts move to a node that has to load them (--enable-eplb, one
                               at a time): the longest of all gaps between two tokens of a stream, less the longest without
                               --enable-eplb, in steps; medians of rounds
One JSON line per figure.
"""

import argparse
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/process"))

import cluster  # noqa: E402

MODEL = ROOT / "models/demo-moe"
REQUESTS = 200
IDLE = 0.05


def cluster_of(ranks: int, *flags) -> cluster.Cluster:
    return cluster.Cluster([str(MODEL), "--served-model-name", "demo", "--data-parallel-size", ranks, "--max-model-len", 1024, *flags])


def throughput(served) -> float:
    with tempfile.NamedTemporaryFile("r", suffix=".json") as file:
        words = [str(cluster.BIN / "trireme"), "bench", "serve", "--port", str(served.port), "--model", "demo", "--dataset-name", "random",
                 "--random-input-len", "64", "--random-output-len", "64", "--num-prompts", str(REQUESTS), "--max-concurrency", "32",
                 "--save-result", "--result-dir", os.path.dirname(file.name), "--result-filename", os.path.basename(file.name)]  # fmt: skip
        subprocess.run(words, check=True, capture_output=True)
        return json.loads(Path(file.name).read_text())["output_throughput"]


def first_token_us(served) -> float:
    connection = http.client.HTTPConnection(served.host, served.port, timeout=30)
    body = json.dumps({"model": "demo", "prompt": "The capital of France is", "max_tokens": 1, "temperature": 0})
    begin = time.perf_counter()
    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    connection.getresponse().read()
    spent = time.perf_counter() - begin
    connection.close()
    return spent * 1e6


def token_gaps(served) -> list[float]:
    body = json.dumps({"model": "demo", "prompt": "The capital of France is", "max_tokens": 900, "temperature": 0, "ignore_eos": True,
                       "stream": True})  # fmt: skip
    connection = http.client.HTTPConnection(served.host, served.port, timeout=120)
    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    times = [time.perf_counter() for line in connection.getresponse() if line.startswith(b"data: {")]
    connection.close()
    return [later - earlier for earlier, later in zip(times[10:], times[11:])]


@contextlib.contextmanager
def two_nodes(*flags):
    more = ["--enable-expert-parallel", "--data-parallel-size-local", 1, "--data-parallel-address", "127.0.0.1", *flags]
    with cluster_of(2, *more) as front:
        start = ["--headless", "--data-parallel-size", 2, "--data-parallel-start-rank", 1, "--data-parallel-rpc-port", front.rpc_port]
        with cluster.Cluster([str(MODEL), "--max-model-len", 1024, *more, *start], program="engine-core"):
            front.wait_ready()
            front.wait_engines(2)
            yield front


def move_pause() -> float:
    balancing = ["--enable-eplb", "--eplb-config", json.dumps({"window_size": 64, "step_interval": 16, "num_redundant_experts": 4})]
    longest = []
    for flags in (balancing, []):
        with two_nodes(*flags) as served:
            token_gaps(served)
            gaps = token_gaps(served)
            moves = sum(cluster.metric_by_engine(served, "trireme:expert_moves_total").values())
            print(f"# {flags[:1]} longest gap {max(gaps) * 1e3:.2f} ms, median {statistics.median(gaps) * 1e3:.2f} ms, {moves:.0f} moves",
                  file=sys.stderr)  # fmt: skip
            longest.append(max(gaps) / statistics.median(gaps))
    return longest[0] - longest[1]


def show(name: str, value: float, unit: str):
    print(json.dumps({"name": f"experts.{name}", "value": round(value, 3), "unit": unit}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    ratios = []
    for _ in range(arguments.rounds):
        found = []
        for ranks, flags in ((2, ["--enable-expert-parallel"]), (1, [])):
            with cluster_of(ranks, *flags) as served:
                served.wait_ready()
                served.wait_engines(ranks)
                throughput(served)
                found.append(throughput(served))
        ratios.append(found[1] / found[0])
        print(f"# {found[0]:.0f} and {found[1]:.0f} tok/s", file=sys.stderr)
    show("time_ratio", statistics.median(ratios), "x")

    with cluster_of(2, "--enable-expert-parallel") as together, cluster_of(2) as alone:
        for served in (together, alone):
            served.wait_ready()
            served.wait_engines(2)
        times = ([], [])
        for index in range(REQUESTS + 20):
            for served, spent in zip((together, alone), times):
                time.sleep(IDLE)
                spent.append(first_token_us(served))
        medians = [statistics.median(spent[20:]) for spent in times]
    print(f"# first token {medians[0]:.0f} and {medians[1]:.0f} us", file=sys.stderr)
    show("first_token_us", medians[0] - medians[1], "us")
    show("move_pause_steps", statistics.median(move_pause() for _ in range(arguments.rounds)), "steps")


if __name__ == "__main__":
    main()
