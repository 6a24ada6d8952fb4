#!/usr/bin/env python3
"""docs/threads.md and docs/errors.md name what the sources name, no less and no more.

Threads: every name given by pthread_setname_np. Errors: every row of api_error.h, every status a reply can have.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULES = ["api_server", "common", "coordinator", "engine_core", "worker", "proto", "cli"]


def sources() -> list[str]:
    files = [f for m in MODULES for f in (ROOT / m).rglob("*.cc") if not f.stem.endswith("_test")]
    return [f.read_text() for f in files]


def thread_names() -> set[str]:
    """What is named in the lines before each call: "zap", "eng<r>/io", "compute-<n>"."""
    names = set()
    for text in sources():
        lines = text.split("\n")
        for index, line in enumerate(lines):
            if not re.search(r"pthread_setname_np\(", line):
                continue
            window = "\n".join(lines[max(0, index - 3) : index + 3])
            found = re.findall(r'"(/\w+|[a-z]+|compute-%u)"', window)
            if not found:
                raise SystemExit(f"cannot read the thread's name:\n{window}")
            name = next((x for x in found if x.startswith("/")), None)
            names.add(f"eng<r>{name}" if name else found[-1].replace("%u", "<n>"))
    return names


def check(what: str, wanted: set, page: set) -> int:
    for name in sorted(wanted - page):
        print(f"docs/{what} lacks {name}")
    for name in sorted(page - wanted):
        print(f"docs/{what} has {name}, the sources have not")
    return int(wanted != page)


def main() -> int:
    threads = (ROOT / "docs/threads.md").read_text()
    named = {n for row in re.findall(r"^\| [^|]+ \| ([^|]+) \|", threads, re.M) for n in re.findall(r"`([^`]+)`", row)}
    failures = check("threads.md", thread_names(), {n for n in named if not n.startswith("ZMQbg")})
    errors = (ROOT / "docs/errors.md").read_text()
    rows = set(re.findall(r"^\| (\d{3}) \| `(\w+)` \|", errors, re.M))
    table = set(re.findall(r'StatusCode::\w+, (\d+), "(\w+)"', (ROOT / "api_server/api_error.h").read_text()))
    failures += check("errors.md", table, table & rows)
    phrases = (ROOT / "api_server/http/http_request.cc").read_text()
    statuses = {s for s in re.findall(r"case (\d+):", phrases) if int(s) >= 400}
    failures += check("errors.md", {s for s, _ in rows}, {s for s, _ in rows} & statuses)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
