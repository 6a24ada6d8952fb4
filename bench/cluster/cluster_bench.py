"""What the demo cluster costs to start and to keep: start to first token, idle CPU, resident memory.

    TRIREME_BIN=build/release/bin python3 bench/cluster/cluster_bench.py [--idle-seconds 10]

Runs `trireme serve models/demo --data-parallel-size 2` of the build, asks one question over and over from the first
moment until it is answered, then leaves the cluster alone and looks at its processes. One JSON line per figure.
"""

import argparse
import http.client
import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/process"))

import cluster  # noqa: E402

BODY = json.dumps({"model": "demo", "prompt": "The capital of France is", "max_tokens": 1, "temperature": 0})
ASK_INTERVAL = 0.002
PATIENCE = 30


def show(name: str, value: float, unit: str, digits: int = 3):
    print(json.dumps({"name": f"cluster.{name}", "value": round(value, digits), "unit": unit}), flush=True)


def answer(host: str, port: int) -> str | None:
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    try:
        connection.request("POST", "/v1/completions", BODY, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return json.loads(reply.read())["choices"][0]["text"] if reply.status == 200 else None
    except OSError:
        return None
    finally:
        connection.close()


def first_token_seconds(served) -> float:
    begin = time.monotonic()
    served.start()
    while time.monotonic() < begin + PATIENCE:
        if answer(served.host, served.port):
            return time.monotonic() - begin
        time.sleep(ASK_INTERVAL)
    raise SystemExit(f"no answer within {PATIENCE} s:\n{served.log_text()}")


def cpu_ticks(pids: list[int]) -> int:
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total


def resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().split("\n")
    return int(next(x for x in lines if x.startswith("VmRSS:")).split()[1]) / 1024


def idle_percent(pids: list[int], seconds: float) -> float:
    time.sleep(1)  # What the question left to do.
    before, begin = cpu_ticks(pids), time.monotonic()
    time.sleep(seconds)
    return 100 * (cpu_ticks(pids) - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - begin)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--idle-seconds", type=float, default=10)
    arguments = parser.parse_args()
    flags = ["serve", str(cluster.DEMO), "--served-model-name", "demo", "--data-parallel-size", "2"]
    served = cluster.Cluster(flags, program="trireme")
    served.arguments += ["--host", served.host, "--port", str(served.port)]
    try:
        show("first_token_s", first_token_seconds(served), "s")
        served.wait_engines(2)
        family = [cluster.Process(served.process.pid, 0, "trireme", ()), *served.family()]
        show("idle_percent", idle_percent([p.pid for p in family], arguments.idle_seconds), "% of one core")
        by_kind = {}
        for process in family:
            kind = process.name if process.name == "trireme" else cluster.kind_of(process)
            kind = kind.rstrip(" 0123456789").replace(" ", "_").replace("-", "_")
            by_kind.setdefault(kind, []).append(resident_mib(process.pid))
        for kind, sizes in sorted(by_kind.items()):
            show(f"resident_{kind}_mb", max(sizes), "MiB", 1)
        show("resident_all_mb", sum(map(sum, by_kind.values())), "MiB", 1)
    finally:
        served.__exit__(None, None, None)


if __name__ == "__main__":
    main()
