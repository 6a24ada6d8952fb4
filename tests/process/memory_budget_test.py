"""A worker under a heavy load takes no more memory than it said it would: weights, steps, KV.

A random model that is wide where memory goes (batched tokens, vocabulary) is loaded with prompts that fill whole steps, with
logprobs of every prompt token and with many sequences at once; then the most that the kernel saw of each worker is compared
with the lines of its log.
"""

import json
import random
import shutil
import struct
import threading
from pathlib import Path

import pytest
from cluster import DEMO, Cluster, kind_of

MIB = 1 << 20
VOCABULARY, HIDDEN, INNER, HEADS, KV_HEADS, HEAD_DIM, LAYERS = 16384, 256, 1024, 4, 2, 64, 2
PROMPT_TOKENS, SEQUENCES = 4000, 64
KV_BYTES = 48 * MIB
FLAGS = ["--served-model-name", "demo", "--max-model-len", 4096, "--max-num-batched-tokens", 8192, "--max-num-seqs", SEQUENCES,
         "--no-enable-prefix-caching"]  # fmt: skip
# Beside weights, steps and KV: the program, its stacks and queues, the sampler's rows, what malloc keeps.
REST_BYTES = 48 * MIB


def random_bf16(count: int, numbers: random.Random) -> bytes:
    """Of about 0.01 to 0.03, with either sign."""
    values = bytearray(2 * count)
    values[0::2] = numbers.randbytes(count)
    values[1::2] = numbers.randbytes(count).translate(bytes(0xBC if byte & 1 else 0x3C for byte in range(256)))
    return bytes(values)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    directory = shutil.copytree(DEMO, tmp_path_factory.mktemp("model") / "wide")
    config = json.loads((DEMO / "config.json").read_text())
    config |= {"vocab_size": VOCABULARY, "hidden_size": HIDDEN, "intermediate_size": INNER, "num_attention_heads": HEADS,
               "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM, "num_hidden_layers": LAYERS,
               "max_position_embeddings": 8192, "tie_word_embeddings": False}  # fmt: skip
    shapes = {"model.embed_tokens": [VOCABULARY, HIDDEN], "lm_head": [VOCABULARY, HIDDEN], "model.norm": [HIDDEN]}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        shapes |= {at + "input_layernorm": [HIDDEN], at + "post_attention_layernorm": [HIDDEN],
                   at + "self_attn.q_proj": [HEADS * HEAD_DIM, HIDDEN], at + "self_attn.o_proj": [HIDDEN, HEADS * HEAD_DIM],
                   at + "self_attn.k_proj": [KV_HEADS * HEAD_DIM, HIDDEN], at + "self_attn.v_proj": [KV_HEADS * HEAD_DIM, HIDDEN],
                   at + "mlp.gate_proj": [INNER, HIDDEN], at + "mlp.up_proj": [INNER, HIDDEN], at + "mlp.down_proj": [HIDDEN, INNER]}  # fmt: skip
    numbers = random.Random(7)
    header, data = {}, b""
    for name, shape in shapes.items():
        piece = random_bf16(shape[0] * (shape[1] if len(shape) > 1 else 1), numbers)
        header[name + ".weight"] = {"dtype": "BF16", "shape": shape, "data_offsets": [len(data), len(data) + len(piece)]}
        data += piece
    head = json.dumps(header).encode()
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + data)
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def most_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().split("\n")
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def told(cluster: Cluster, event: str) -> list[dict]:
    lines = [line for line in cluster.log_text().split("\n") if f'"event":"{event}"' in line]
    return [json.loads(line) for line in lines]


def prompt(tokens: int, numbers: random.Random) -> list[int]:
    return [numbers.randrange(5, 2000) for _ in range(tokens)]


def ask_at_once(cluster: Cluster, bodies: list[dict]):
    statuses = []

    def ask(body):
        statuses.append(cluster.post("/v1/completions", {"model": "demo", **body}, timeout=240).status)

    threads = [threading.Thread(target=ask, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * len(bodies)


def load(cluster: Cluster):
    """Prompts that fill steps; then some with logprobs of all their tokens, of which a step takes few, among as many sequences as may run."""
    numbers = random.Random(5)
    ask_at_once(cluster, [{"prompt": prompt(PROMPT_TOKENS, numbers), "max_tokens": 4} for _ in range(8)])
    described = [{"prompt": prompt(PROMPT_TOKENS, numbers), "max_tokens": 4, "prompt_logprobs": 5, "logprobs": 5} for _ in range(2)]
    sampled = {"max_tokens": 40, "ignore_eos": True, "logprobs": 5, "temperature": 1, "top_p": 0.9, "top_k": 50, "presence_penalty": 0.5}
    ask_at_once(cluster, described + [{"prompt": prompt(100, numbers), **sampled} for _ in range(SEQUENCES)])


@pytest.mark.parametrize("flags", [
    ["--kv-cache-memory-bytes", KV_BYTES],
    ["--kv-cache-memory-bytes", KV_BYTES, "--dtype", "float32"],
    ["--kv-cache-memory-bytes", KV_BYTES, "--quantization", "int8", "--kv-cache-dtype", "int8"],
    ["--kv-cache-memory-bytes", KV_BYTES, "--tensor-parallel-size", 2],
    ["--gpu-memory-utilization", 0.004],
])  # fmt: skip
def test_the_most_that_a_worker_takes_is_within_what_it_said(model, flags):
    with Cluster([str(model), *FLAGS, *flags]) as cluster:
        cluster.wait_ready()
        cluster.wait_engines(1)
        load(cluster)
        workers = [process.pid for process in cluster.family() if kind_of(process) == "worker"]
        budgets, weights = told(cluster, "memory_budget"), told(cluster, "weights_ready")
        assert len(workers) == len(budgets) == len(weights) > 0
        for pid, budget, loaded in zip(workers, budgets, weights):
            promised = loaded["bytes"] + budget["scratch_bytes"] + budget["kv_bytes_max"]
            most = most_bytes(pid)
            assert most <= promised + REST_BYTES, (most, budget, loaded)
            assert most > loaded["bytes"] + KV_BYTES, "the load was none"
