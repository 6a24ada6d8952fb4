#!/usr/bin/env python3
"""Checks the model of the lockstep protocol, docs/protocol/lockstep.pml, with spin: exhaustively, or not at all.

Each configuration must be searched to its end without an error, each seeded mistake must be found. "ends" also looks
for a run that never comes to rest (any cycle of states). Prints states, seconds and memory of each.
By hand: python3 tests/protocol/protocol_test.py [NAME...]; a mistake's trail:
  spin -a -DSEED_STALE -DWORK=1 -DDROPS=1 lockstep.pml && gcc -O2 -DSAFETY pan.c -o pan && ./pan
  spin -t -p -g -DSEED_STALE -DWORK=1 -DDROPS=1 lockstep.pml
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

MODEL = Path(__file__).resolve().parents[2] / "docs/protocol/lockstep.pml"
DEPTH_MAX = 200_000
MEMORY_MAX_MB = 4096
SECONDS_MAX = 400  # Of one search, on a machine that is busy with other tests.
AT_ONCE = 2
SKIPPED = 77


@dataclass
class Case:
    name: str
    bounds: str
    finds: bool = False  # A seeded mistake: an error is wanted.
    is_for_ends: bool = False  # Looks for cycles, not at assertions alone.


CASES = [
    Case("two losses", "WORK=1 KILLS=1 DROPS=1 DROPPED=2 BRIEF"),
    Case("a rank is killed", "WORK=1 KILLS=1"),
    Case("a rank is cut off", "WORK=2 DROPS=1"),
    Case("a pause and a join", "WORK=1 PAUSES=1 LATE=4 ASK_ONE"),
    Case("two front ends, each asks its own rank", "WORK=1 PAUSES=1 ASK_ONE"),
    Case("a coordinator is killed", "WORK=1 CRASHES=1"),
    Case("a rank leaves", "WORK=2 LEAVES=1"),
    Case("a rank leaves, another is cut off", "WORK=1 LEAVES=1 LEAVING=2 DROPS=1 BRIEF"),
    Case("who leaves is cut off", "WORK=1 LEAVES=1 DROPS=1 BRIEF"),
    Case("aborts, slow reports", "WORK=2 ABORTS=1 IN_FLIGHT=2"),
    Case("aborts and a join", "WORK=2 ABORTS=1 LATE=4"),
    Case("a cut, steps that end late", "SLOW_END WORK=1 DROPS=1"),
    Case("ends: aborts", "WORK=2 ABORTS=1", is_for_ends=True),
    Case("ends: a cut", "WORK=1 DROPS=1", is_for_ends=True),
    Case("ends: a join", "WORK=1 LATE=4", is_for_ends=True),
    Case("ends: a leave", "WORK=1 LEAVES=1", is_for_ends=True),
    Case("the rank that asked is skipped", "SEED_SKIP_ASKER WORK=1 ABORTS=1", finds=True),
    Case("an older start is taken", "SEED_STALE WORK=1 DROPS=1", finds=True),
    Case("a rank pauses alone", "SEED_LOCAL_PAUSE WORK=1 PAUSES=1", finds=True),
    Case("taken over before all are in", "SEED_SOFT_EARLY WORK=1 LATE=4", finds=True),
    Case("a loss after the end is ignored", "SEED_LOSS_AFTER_END WORK=1 KILLS=1", finds=True),
    Case("a new coordinator counts on", "SEED_NEXT_NUMBER WORK=1 CRASHES=1", finds=True),
    Case("a new coordinator starts softly", "SEED_SOFT_SUCCESSOR WORK=1 CRASHES=1", finds=True),
    Case("a wish at a wave's end is kept back", "SEED_UNTOLD SEED_WISH_AT_END WORK=1 PAUSES=1", finds=True),
    Case("who returns to an old wave is left in it", "SEED_OLD_WAVE WORK=1 DROPS=1", finds=True),
    Case("who returns gets a wave for its reports alone", "SEED_REPORTS_ALONE WORK=1 PAUSES=1 ASK_ONE DROPS=1 BRIEF", finds=True),
    Case("who joins in a resume is not asked", "SEED_UNTOLD SEED_ASK_ONCE WORK=1 PAUSES=1 LATE=4", finds=True),
    Case("a resume in one's sleep is kept back", "SEED_UNTOLD WORK=1 PAUSES=1 ASK_ONE", finds=True),
    Case("records do not outlive their wave", "SEED_FORGET_WAVE WORK=2", finds=True),
    Case("who leaves is gone before the others are in", "SEED_LEAVER_GONE WORK=1 LEAVES=1", finds=True),
    Case("who leaves waits for records that are gone", "SEED_LEAVER_MISSES WORK=2 LEAVES=1", finds=True),
    Case("an overtaken step", "SLOW_END STRICT_ORDER WORK=2 DROPS=1", finds=True),  # README.md: harmless.
    Case("an old report starts a wave", "SEED_LATE_REPORT WORK=2", finds=True),
]


def run(command: list[str], folder: str, seconds: int) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)
    return done.stdout + done.stderr


def search(case: Case) -> tuple[str, float]:
    """What pan says, and the seconds that it took."""
    with tempfile.TemporaryDirectory(prefix="trireme-protocol-") as folder:
        shutil.copy(MODEL, folder)
        flags = [f"-D{bound}" for bound in case.bounds.split()]
        said = run(["spin", "-a", *flags, MODEL.name], folder, 60)
        kind = "-DNP" if case.is_for_ends else "-DSAFETY"
        said += run(["gcc", "-O2", "-w", kind, "-DNOFAIR", f"-DMEMLIM={MEMORY_MAX_MB}", "-o", "pan", "pan.c"], folder, 300)
        if not (Path(folder) / "pan").exists():
            return said, 0
        began = time.monotonic()
        # -b: a search that is not deep enough is an error.
        said = run(["./pan", "-b", f"-m{DEPTH_MAX}", *(["-l"] if case.is_for_ends else [])], folder, SECONDS_MAX)
        return said, time.monotonic() - began


def judge(case: Case) -> bool:
    try:
        said, seconds = search(case)
    except subprocess.TimeoutExpired as late:
        print(f"FAILED  {case.name} ({case.bounds}): {late.cmd[0]} took over {late.timeout:.0f} s", flush=True)
        return False
    errors = re.search(r"errors: (\d+)", said)
    states = re.search(r"(\d+) states, stored", said)
    memory = re.search(r"([\d.]+)\s+total actual memory", said)
    is_whole = "Search not completed" not in said and "out of memory" not in said
    good = bool(errors and states) and (int(errors[1]) > 0 if case.finds else int(errors[1]) == 0 and is_whole)
    why = next((line for line in said.split("\n") if line.startswith("pan:1:")), "")
    print(
        f"{'ok' if good else 'FAILED':6}  {case.name} ({case.bounds}): {int(states[1]) if states else 0:,} states, "
        f"{seconds:.1f} s, {memory[1] if memory else '?'} MB{'  ' + why[:90] if why else ''}",
        flush=True,
    )
    if not good:
        print("\n".join(said.split("\n")[-40:]), flush=True)
    return good


def main() -> int:
    if shutil.which("spin") is None:
        print("skipped: spin is not installed (apt-get install spin; ./trireme test does it)")
        return SKIPPED
    cases = [case for case in CASES if not sys.argv[1:] or case.name in sys.argv[1:]]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(judge, cases))
    print(f"{sum(results)} of {len(results)} as they should be")
    return 0 if results and all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
