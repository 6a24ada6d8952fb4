"""The machine under a measurement: how busy, how fast, and what a process tree holds of it."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path


def load_average() -> float:
    return round(os.getloadavg()[0], 2)


def busy_percent(seconds: float) -> float:
    def ticks() -> tuple[int, int]:
        user, nice, system, idle, wait, *rest = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
        return user + nice + system + sum(rest), user + nice + system + sum(rest) + idle + wait

    busy, total = ticks()
    time.sleep(seconds)
    busy_now, total_now = ticks()
    return 100 * (busy_now - busy) / max(total_now - total, 1)


def wait_quiet(seconds_max: float, percent_max: float = 10) -> dict:
    """Returns when others leave the cores alone, or after seconds_max, with what it saw."""
    begin = time.monotonic()
    while True:
        percent = busy_percent(1)
        is_quiet = percent < percent_max
        if is_quiet or time.monotonic() - begin >= seconds_max:
            return {"is_quiet": is_quiet, "busy_percent": round(percent, 1), "load_average": load_average()}


def measure_limits(build: Path) -> dict:
    """Read rate and arithmetic of this moment, as bench_limits prints them."""
    program = build / "bench" / "bench_limits"
    if not program.exists():
        raise SystemExit(f"{program} is missing; build it first:  ./trireme build")
    return json.loads(subprocess.run([program], capture_output=True, text=True, check=True).stdout)


def mean_limits(before: dict, after: dict) -> dict:
    return {key: (before[key] + after[key]) / 2 for key in ("read_gb_s", "bf16_gflop_s")}


def process_tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        try:
            parent = int(Path("/proc", entry, "stat").read_text().rsplit(")", 1)[1].split()[1]) if entry.isdigit() else -1
        except OSError:
            continue
        children.setdefault(parent, []).append(int(entry) if entry.isdigit() else -1)
    found, left = [], [root]
    while left:
        found.append(left.pop())
        left += children.get(found[-1], [])
    return found


def signal_tree(root: int, number: signal.Signals):
    for process in process_tree(root):
        try:
            os.kill(process, number)
        except ProcessLookupError:
            pass


def proportional_memory(root: int) -> list[dict]:
    """Of every process below and with root: its program and its share (PSS) in bytes."""
    found = []
    for process in process_tree(root):
        try:
            name = Path(Path(f"/proc/{process}/cmdline").read_text().split("\0")[0]).name
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().split("\n")
        except OSError:
            continue
        kilobytes = next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
        found.append({"name": name, "pss_bytes": kilobytes * 1024})
    return found


def read_into_cache(folder: Path):
    """Files of a model, so that all sides start from the page cache."""
    for path in sorted(folder.rglob("*") if folder.is_dir() else [folder]):
        if path.is_file():
            with path.open("rb") as file:
                while file.read(1 << 24):
                    pass
