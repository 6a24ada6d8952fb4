#!/usr/bin/env python3
"""docs/metrics.md from api_server/openai/metrics.cc: every metric with type, labels and meaning.

Run by ctest as `metrics_page` (the page must equal the source); --rewrite writes it anew.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "api_server/openai/metrics.cc"
PAGE = ROOT / "docs/metrics.md"
INTRODUCTION = """# Metrics

`GET /metrics`, Prometheus text. Made from `api_server/openai/metrics.cc`; a test keeps the two equal. `vllm:` names mean what they
mean there; `trireme:` is what only we have. Every metric has the label `model_name`; a histogram is its `_bucket`, `_sum` and
`_count`. With `--api-server-count` above 1 the requests' figures are those of all front ends of the node.

What a peer did that was dropped and harmed nobody: `*_handshakes_failed_total` (another protocol, another key, silence, a port
scan), `*_messages_undecodable_total`, `*_messages_not_in_view_total`, `*_messages_stale_total`. The coordinator's figures come with
its load board and begin anew when it is restarted.

`trireme:shm_queue_*` are the shared-memory queues between an engine and its workers on its node: `steps` to them, `results` from them
(all zeros with the executor `sim`, which has none). They are told ten times a second at most, when the engine goes idle, after that
until its workers have taken everything, and while a step is late; they begin anew with each life of the engine. A worker that hangs
shows as `chunks_waiting` that stay.

| metric | type | labels | meaning |
| --- | --- | --- | --- |
"""
TEXT = r'"((?:[^"\\]|\\.)*)"'
NAME = r'"((?:vllm|trireme):\w+)"'


def labels_of(name: str, source: str, is_engine_row: bool) -> str:
    labels = ["engine"] if is_engine_row else []
    if name.startswith("trireme:shm_queue_"):
        labels = ["engine", "queue"]
    for call in re.findall(rf'line\("{name}",\s*([^;]*?);', source, re.S):
        if "engine_label(" in call:
            labels.append("engine")
        labels += re.findall(r',(\w+)=\\"', call)
    return ", ".join(f"`{label}`" for label in dict.fromkeys(labels))


def page() -> str:
    source = re.sub(r'"\s*\n\s*"', "", SOURCE.read_text())  # A text over two lines is one.
    row_table = source[source.index("kEngineRows[]") : source.index("};", source.index("kEngineRows[]"))]
    rows = []
    for match in re.finditer(rf'(?:\{{|(?:head|single|(?P<histogram>histogram))\(){NAME},\s*(?:"(gauge|counter|histogram)",\s*)?{TEXT}', source):
        name, kind, meaning = match.group(2), match.group(3) or "histogram", match.group(4)
        rows.append((name, kind, labels_of(name, source, f'"{name}"' in row_table), meaning))
    named = set(re.findall(NAME, source))
    if missing := named - {row[0] for row in rows}:
        raise SystemExit(f"{SOURCE}: no type and meaning found for {sorted(missing)}")
    return INTRODUCTION + "".join(f"| `{n}` | {k} | {labels} | {m} |\n" for n, k, labels, m in sorted(rows))


def main() -> int:
    wanted = page()
    if "--rewrite" in sys.argv:
        PAGE.write_text(wanted)
    elif not PAGE.exists() or PAGE.read_text() != wanted:
        print("docs/metrics.md differs from api_server/openai/metrics.cc; run  tests/tidy/metrics_page.py --rewrite")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
