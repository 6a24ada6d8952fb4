"""The rows of the table: what is measured, by whom, in which unit, against which limit and goal."""

import json
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from machine import proportional_memory, read_into_cache
from roofline import Limits, Shape, decode_seconds, step_seconds
from sides import Sides, checked, first_token_seconds, random_prompt

MODELS = {"q": ("qwen05", "0.5B"), "t": ("tl11", "1.1B"), "tiny": ("tiny", "14M")}
PREFIX_TOKENS = 2000
# Of ours, in the rows of memory: one longest sequence, so that the load soon has written all of it.
KV_BYTES = {"tiny": 16 << 20, "q": 64 << 20}


@dataclass
class Row:
    name: str
    title: str
    unit: str
    model: str
    # Each gives {"value": …} and what else is worth keeping; `int`: the round.
    sides: dict[str, Callable[[Sides, int], dict]]
    is_more_better: bool = True
    # What the value would be at the limits of the machine.
    limit: Callable[[Shape, Limits], float] | None = None
    # ("vllm", 1.35): so many times better than that side; ("limit", 95): per cent of it; ("", 0.7): in the row's unit.
    goal: tuple[str, float] | None = None
    # Which held processes it needs, see Sides.holding().
    holds: set[tuple] = field(default_factory=set)


def decode_one(key: str) -> Row:
    """Tokens after the first, of one sequence: the times of 65 and of 1 token apart."""
    model, size = MODELS[key]
    steps, inputs = 64, 32

    def rate(latency: Callable[[int], float]) -> dict:
        short, long = latency(1), latency(1 + steps)
        return {"value": steps / (long - short), "first_token_s": short, "all_tokens_s": long}

    return Row(
        name=f"decode1-{key}", title=f"decode, batch 1, {size} bf16", unit="tok/s", model=model,
        sides={
            "ours": lambda s, _: rate(lambda outputs: s.our_latency(model, inputs, outputs, 1)),
            "vllm": lambda s, _: rate(lambda outputs: s.vllm_latency(model, inputs, outputs, 1)),
            "llama": lambda s, _: {"value": s.llama_bench(f"{model}-bf16", 0, steps)},
        },
        limit=lambda shape, limits: steps / decode_seconds(shape, limits, 1, inputs, steps), goal=("limit", 95),
        holds={("vllm offline", model)},
    )  # fmt: skip


def decode_one_quantized(key: str, kind: str, gguf: str, bits: int) -> Row:
    model, size = MODELS[key]
    steps, inputs = 64, 32

    def ours(s: Sides, _: int) -> dict:
        short, long = (s.our_latency(model, inputs, outputs, 1, "--quantization", kind) for outputs in (1, 1 + steps))
        return {"value": steps / (long - short), "first_token_s": short, "all_tokens_s": long}

    return Row(
        name=f"decode1-{key}-{kind}", title=f"decode, batch 1, {size} {kind} / {gguf}", unit="tok/s", model=model,
        sides={"ours": ours, "llama": lambda s, _: {"value": s.llama_bench(f"{model}-{gguf}", 0, steps)}},
        limit=lambda shape, limits: steps / decode_seconds(shape, limits, 1, inputs, steps, bits),
        goal=("limit", 90 if bits == 8 else 85),
    )  # fmt: skip


def decode_eight(key: str, kind: str = "", gguf: str = "bf16", bits: int = 16) -> Row:
    """Output tokens per second of eight requests of 32 in, 128 out, from the first to the last."""
    model, size = MODELS[key]
    inputs, outputs, batch = 32, 128, 8
    flags = ("--quantization", kind) if kind else ()

    def rate(seconds: float) -> dict:
        return {"value": batch * outputs / seconds, "seconds": seconds}

    def limit(shape: Shape, limits: Limits) -> float:
        prompts = step_seconds(shape, limits, batch, 0, inputs, bits)
        return batch * outputs / (prompts + decode_seconds(shape, limits, batch, inputs, outputs - 1, bits))

    sides = {
        "ours": lambda s, _: rate(s.our_latency(model, inputs, outputs, batch, *flags)),
        "vllm": lambda s, _: rate(s.vllm_latency(model, inputs, outputs, batch)),
        "llama": lambda s, _: {"value": s.llama_batch(f"{model}-{gguf}", inputs, outputs, batch)},
    }
    if kind:
        del sides["vllm"]
    return Row(
        name=f"decode8-{key}" + (f"-{kind}" if kind else ""),
        title=f"8 at once, 32 in, 128 out, {size} " + (f"{kind} / {gguf}" if kind else "bf16"),
        unit="tok/s", model=model, sides=sides, limit=limit, goal=("limit", 70 if kind else 90), holds=set() if kind else {("vllm offline", model)},
    )  # fmt: skip


def prefill(key: str, tokens: int) -> Row:
    model, size = MODELS[key]

    def rate(seconds: float) -> dict:
        return {"value": tokens / seconds, "seconds": seconds}

    return Row(
        name=f"prefill{tokens}-{key}", title=f"prompt of {tokens}, {size} bf16", unit="tok/s", model=model,
        sides={
            "ours": lambda s, _: rate(s.our_latency(model, tokens, 1, 1)),
            "vllm": lambda s, _: rate(s.vllm_latency(model, tokens, 1, 1)),
            "llama": lambda s, _: {"value": s.llama_bench(f"{model}-bf16", tokens, 0)},
        },
        limit=lambda shape, limits: tokens / step_seconds(shape, limits, 1, 0, tokens), goal=("limit", 85),
        holds={("vllm offline", model)},
    )  # fmt: skip


def clients(name: str, key: str, case: str, warm: str, bind: str | None, goal: tuple[str, float]) -> Row:
    """Many clients over HTTP; the load generator has the same cores as the server."""
    model, size = MODELS[key]
    inputs, outputs, at_once, _ = case.split(":")
    kept = ("output_throughput", "request_throughput", "median_ttft_ms", "p99_ttft_ms", "median_tpot_ms", "p99_itl_ms", "failed",
            "client_cpu_seconds")  # fmt: skip

    def run(s: Sides, port: int, number: int) -> dict:
        s.load(model, port, warm, seed=1000 + number)
        result = s.load(model, port, case, seed=number)
        return {"value": result["output_throughput"], **{name: result.get(name) for name in kept}}

    def ours(s: Sides, number: int) -> dict:
        with s.our_server(model) as running:
            return run(s, running.port, number)

    def vllm(s: Sides, number: int) -> dict:
        with s.holding((name, "vllm"), lambda: s.start_vllm(model, bind or s.all_cores(), 2)) as running:
            return run(s, running.port, number)

    def vllm_rs(s: Sides, number: int) -> dict:
        program = str(s.places.need(s.places.vllm_rs, "--vllm-rs"))
        more = {"VLLM_USE_RUST_FRONTEND": "1", "VLLM_RUST_FRONTEND_PATH": program}
        with s.holding((name, "vllm-rs"), lambda: s.start_vllm(model, bind or s.all_cores(), 2, **more)) as running:
            return run(s, running.port, number)

    sides = {"ours": ours, "vllm": vllm} | ({"vllm-rs": vllm_rs} if goal[0] == "vllm-rs" else {})
    return Row(
        name=name, title=f"{at_once} clients, {inputs} in, {outputs} out, streamed over HTTP, {size}", unit="tok/s",
        model=model, sides=sides, goal=goal, holds={(name, "vllm"), (name, "vllm-rs")},
    )  # fmt: skip


def prefix_hit() -> Row:
    model, size = MODELS["q"]

    def ours(s: Sides, number: int) -> dict:
        chance = random.Random(number)
        name = s.places.model(model)
        with s.our_server(model) as running:
            for _ in range(2):
                first_token_seconds(running.port, name, random_prompt(chance, 64))
            cold, hit = [], []
            for _ in range(s.amount.iterations):
                shared = random_prompt(chance, PREFIX_TOKENS)
                for found in (cold, hit, hit):
                    found.append(first_token_seconds(running.port, name, shared + random_prompt(chance, 16)))
        value = 100 * statistics.median(hit) / statistics.median(cold)
        return {"value": value, "cold_ms": 1000 * statistics.median(cold), "hit_ms": 1000 * statistics.median(hit)}

    return Row(
        name="prefix", title=f"first token, prefix of {PREFIX_TOKENS} tokens in the cache, {size}", unit="% of the cold one",
        model=model, sides={"ours": ours}, is_more_better=False, goal=("", 5),
    )  # fmt: skip


def start() -> Row:
    """From the command to /health; the first answer's time is kept beside it."""
    model, size = MODELS["q"]

    def run(s: Sides, running, name: str) -> dict:
        first_token_seconds(running.port, name, random_prompt(random.Random(0), 8))
        return {"value": running.start_s, "first_answer_s": time.monotonic() - running.begin}

    def ours(s: Sides, _: int) -> dict:
        read_into_cache(s.places.models / model)
        with s.our_server(model) as running:
            return run(s, running, s.places.model(model))

    def peer(s: Sides, begin: Callable, name: str) -> dict:
        running = begin()
        try:
            return run(s, running, name)
        finally:
            running.stop()

    def vllm(s: Sides, _: int) -> dict:
        read_into_cache(s.places.models / model)
        return peer(s, lambda: s.start_vllm(model, s.all_cores(), 2), s.places.model(model))

    def llama(s: Sides, _: int) -> dict:
        read_into_cache(s.places.gguf / f"{model}-bf16.gguf")
        return peer(s, lambda: s.start_llama(f"{model}-bf16", 8), model)

    return Row(
        name="start", title=f"from the command to ready, {size} in the page cache", unit="s", model=model,
        sides={"ours": ours, "vllm": vllm, "llama": llama}, is_more_better=False, goal=("", 0.7),
    )  # fmt: skip


def memory(key: str) -> Row:
    """PSS of the whole tree of two engines after a load, less one copy of the weights and all KV memory."""
    model, size = MODELS[key]

    def run(s: Sides, running, kv_bytes: int) -> dict:
        s.load(model, running.port, "8:16:64:600", seed=0, is_whole=True)
        processes = proportional_memory(running.process.pid)
        total = sum(process["pss_bytes"] for process in processes)
        weights = (s.places.models / model / "model.safetensors").stat().st_size
        return {"value": (total - weights - 2 * kv_bytes) / 1e6, "pss_mb": total / 1e6, "weights_mb": weights / 1e6,
                "kv_mb": 2 * kv_bytes / 1e6, "processes": processes}  # fmt: skip

    def ours(s: Sides, _: int) -> dict:
        with s.our_server(model, "--data-parallel-size", "2", "--kv-cache-memory-bytes", str(KV_BYTES[key])) as running:
            return run(s, running, KV_BYTES[key])

    def vllm(s: Sides, _: int) -> dict:
        bind = "|".join(str(core) for core in range(2))
        running = s.start_vllm(model, bind, 1, "--data-parallel-size", "2")
        try:
            return run(s, running, 1 << 30)
        finally:
            running.stop()

    return Row(
        name=f"memory-{key}", title=f"memory beyond weights and KV, two engines, {size}", unit="MB", model=model,
        sides={"ours": ours, "vllm": vllm}, is_more_better=False, goal=("", 150),
    )  # fmt: skip


def own_work(sequences: int, goal: float) -> Row:
    """Engine and worker without the model: scheduling, packing, unpacking, sampling's bookkeeping, outputs."""

    def ours(s: Sides, _: int) -> dict:
        lines = checked([str(s.places.build / "bench/step_bench")]).split("\n")
        figures = [json.loads(line) for line in lines if line.startswith("{")]
        return {"value": next(x["value"] for x in figures if x["name"] == f"step.total_{sequences}_us")}

    return Row(
        name=f"step{sequences}", title=f"engine and worker outside the model, a step of {sequences}", unit="µs", model="tiny",
        sides={"ours": ours}, is_more_better=False, goal=("", goal),
    )  # fmt: skip


def all_rows() -> list[Row]:
    """In an order that lets a held peer serve row after row."""
    rows = []
    for key in ("q", "t"):
        rows += [decode_one(key), decode_eight(key), prefill(key, 128), prefill(key, 512)]
    for kind, gguf, bits in (("int8", "Q8_0", 8), ("int4", "Q4_0", 4)):
        rows += [decode_one_quantized("t", kind, gguf, bits), decode_eight("t", kind, gguf, bits)]
    rows.append(clients("clients32-q", "q", "128:64:32:96", "128:8:32:32", None, ("vllm", 1.35)))
    # One core for vLLM's worker, one for the rest: the better of its ways with a model this small.
    rows.append(clients("clients64-tiny", "tiny", "8:16:64:2000", "8:16:64:200", "auto", ("vllm-rs", 4.0)))
    rows += [own_work(64, 150), own_work(256, 400)]
    return [*rows, prefix_hit(), start(), memory("tiny"), memory("q")]
