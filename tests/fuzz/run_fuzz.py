#!/usr/bin/env python3
"""Runs one fuzzer for some seconds over its corpus: run_fuzz.py PROGRAM NAME SECONDS.

The corpus lies beside the program and grows; it starts from the project's own examples.
"""

import struct
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def examples(name: str) -> list[bytes]:
    """Inputs that get the fuzzer past the first checks."""
    if name == "message":
        return [bytes.fromhex(p.read_text().strip()) for p in (ROOT / "tests/golden/wire").iterdir()]
    if name == "safetensors":
        header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
        return [len(header).to_bytes(8, "little") + header + bytes(8)]
    if name == "http_request":
        body = b'{"prompt":"x"}'
        head = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
        chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        return [b"\x03" + head + body, b"\x01" + chunked, b"\x05GET /ready HTTP/1.1\r\nHost: a\r\n\r\n" * 2]
    if name == "cluster_key":
        key = "trireme-key-1:o6LBPn/yS3lxeK(D>rDjb2W7azKmaBOe/ld&P.T=4zbydU[DK$9i5T7VWEV?8%FHQXaQiFx4Q>kTfabM"
        return [key.encode(), b" " + key.encode() + b"\n", b"trireme-key-2:"]
    if name == "shm_queue":
        # Header | 2 doorbells | ring of two 100-byte slots with one whole record in it.
        header = struct.pack("<Q4IQ", 0x5452495155455501, 1, 1, 2, 100, 1 << 20).ljust(128, b"\0")
        ring = struct.pack("<Q3I", 0x54524952494E4702, 2, 100, 1).ljust(128, b"\0")
        cursors = struct.pack("<Q", 1).ljust(128, b"\0") + bytes(128)
        slots = struct.pack("<2IQ", 3, 3, 3).ljust(256, b"x")
        return [header + bytes(256) + ring + cursors + slots]
    if name == "model_config":
        return [path.read_bytes() for path in (ROOT / "tests/numerics/golden").glob("*/config.json")]
    if name == "worker_arguments":
        words = ["--internal-worker-fds", "steps=5,results=6,collective=7", "--internal-worker-rank", "1", "models/demo", "-tp", "2"]
        return ["\n".join(words).encode()]
    if name == "serve_flags":
        words = ["models/demo", "--data-parallel-size=2", "-tp", "2", "--served-model-name", "a", "b", "--port", "80"]
        return [b"w" + "\n".join(words).encode(), b"fmodel: models/demo\nserved-model-name: [a, b]\nheadless: true\n"]
    if name == "request_json":
        completion = b'{"model": "m", "prompt": ["a", "b"], "max_tokens": 3, "stop": ["x"], "logit_bias": {"5": -1}, "stream": true}'
        chat = b'{"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}], "logprobs": true}'
        return [b"p" + completion, b"c" + chat, b't{"model": "m", "prompt": "x"}', b'd{"model": "m", "tokens": [1, 2]}']
    if name == "membership":
        messages = {int(p.name.split("_")[1]): bytes.fromhex(p.read_text().strip()) for p in (ROOT / "tests/golden/wire").iterdir()}
        to_coordinator = b"".join(b"c%c%c" % (1, len(messages[k])) + messages[k] for k in range(32, 40)) + b"t\x10"
        to_member = b"".join(b"m%c" % len(messages[k]) + messages[k] for k in (48, 50, 54, 51, 52, 36, 49)) + b"t\xff"
        return [to_coordinator, to_member, to_coordinator + to_member]
    return []


def main() -> int:
    program, name, seconds = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    corpus = program.with_name(program.name + "_corpus")
    corpus.mkdir(exist_ok=True)
    for number, content in enumerate(examples(name)):
        (corpus / f"example_{number}").write_bytes(content)
    command = [program, f"-max_total_time={seconds}", "-max_len=4096", "-print_final_stats=1", "-verbosity=0", corpus]
    return subprocess.run(command, check=False, cwd=program.parent).returncode


if __name__ == "__main__":
    sys.exit(main())
