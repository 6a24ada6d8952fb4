"""What one api-server costs: CPU per short request and per streamed token, and its memory.

    bench/run frontend        or        TRIREME_BIN=build/release/bin bench/frontend/frontend_bench.py [--runs 5] [--only NAME]

Starts a real cluster with two `sim` engines (no model, a step takes a fixed time), loads its one api-server over
loopback with `trireme bench serve`, and takes the CPU of that process alone from /proc. Prints one JSON line per figure,
each the median of the runs. CPU time is fair on a busy machine; the load is fixed work, so that runs compare.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/process"))

import cluster  # noqa: E402

TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")
IDS = list(range(40, 48))
ONE_TOKEN = {"model": "demo", "max_tokens": 1, "ignore_eos": True}
# The simulated model draws from these: each is a whole character, so that each token is an event.
LETTERS = list(range(33, 97))
STREAM = {**ONE_TOKEN, "max_tokens": 64, "prompt": IDS, "stream": True, "allowed_token_ids": LETTERS}

# A step of real engines takes milliseconds, and gives each of their sequences a token.
SLOW_STEP = "base_us=5000,prefill_us=0,decode_us=0"
FAST_STEP = "base_us=300,prefill_us=0,decode_us=0"

# name, CPU by what, sim profile, connections, requests of each, body
CASES = [
    ("request_ids_us", "request", FAST_STEP, 64, 400, {**ONE_TOKEN, "prompt": IDS}),
    ("request_text_us", "request", FAST_STEP, 64, 400, {**ONE_TOKEN, "prompt": "The capital of France is"}),
    ("token_64_streams_us", "token", SLOW_STEP, 64, 16, STREAM),
    ("token_256_streams_us", "token", SLOW_STEP, 256, 8, STREAM),
    ("token_64_streams_of_4_us", "token", SLOW_STEP, 64, 16, {**STREAM, "stream_interval": 4}),
    ("token_64_streams_fast_steps_us", "token", FAST_STEP, 64, 40, STREAM),
]


def cpu_us(pid: int) -> tuple[float, float]:
    """User and system time so far, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) * TICK_US, int(fields[12]) * TICK_US


def resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().split("\n")
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def load(front_end: int, port: int, connections: int, requests: int, body: dict) -> dict:
    """Each connection sends `requests` times `body`; every answer must come."""
    # Without usage: only what was asked for is measured.
    fields = {"stream": False, "stream_options": None, **body}
    with tempfile.TemporaryDirectory() as folder:
        words = [str(cluster.BIN / "trireme"), "bench", "serve", "--port", port, "--num-prompts", connections * requests,
                 "--max-concurrency", connections, "--extra-body", json.dumps(fields), "--save-result",
                 "--result-dir", folder, "--result-filename", "load.json"]  # fmt: skip
        before = cpu_us(front_end)
        subprocess.run([*map(str, words)], check=True, capture_output=True)
        after = cpu_us(front_end)
        found = json.loads((Path(folder) / "load.json").read_text())
    assert found["completed"] == connections * requests, found
    return {"requests": found["completed"], "events": found["total_output_tokens"] if body.get("stream") else 0,
            "seconds": found["duration"], "user_us": after[0] - before[0], "system_us": after[1] - before[1],
            "rss_kib": resident_kib(front_end)}  # fmt: skip


def show(name: str, value: float, unit: str, **more):
    print(json.dumps({"name": f"frontend.{name}", "value": round(value, 2), "unit": unit, **more}), flush=True)


def run_profile(profile: str, cases: list, runs: int):
    flags = ["--data-parallel-size", 2, "--distributed-executor-backend", "sim", "--sim-profile", profile]
    with cluster.demo_cluster(*flags, "--max-num-seqs", 256) as served:
        served.wait_ready()
        served.wait_engines(2)
        front_end = served.find("api-server 0").pid
        for name, per, _, connections, requests, body in cases:
            load(front_end, served.port, connections, max(1, requests // 8), body)  # Warm.
            costs, user, system = [], [], []
            for _ in range(runs):
                taken = load(front_end, served.port, connections, requests, body)
                count = taken["requests"] if per == "request" else taken["requests"] * body["max_tokens"]
                user.append(taken["user_us"] / count)
                system.append(taken["system_us"] / count)
                costs.append(user[-1] + system[-1])
            show(name, statistics.median(costs), f"us of CPU per {per}",
                 user=round(statistics.median(user), 2), system=round(statistics.median(system), 2),
                 spread=[round(min(costs), 2), round(max(costs), 2)],
                 per_second=round(count / taken["seconds"]), events=taken["events"])  # fmt: skip
        if profile == SLOW_STEP:
            show("resident_mb", taken["rss_kib"] / 1024, "MiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="", help="figures whose name contains this")
    arguments = parser.parse_args()
    for profile in (FAST_STEP, SLOW_STEP):
        cases = [case for case in CASES if case[2] == profile and arguments.only in case[0]]
        if cases:
            run_profile(profile, cases, arguments.runs)


if __name__ == "__main__":
    main()
