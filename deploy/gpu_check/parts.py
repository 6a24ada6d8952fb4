"""What gpu-check checks, one function each: they give an Outcome, or raise what went wrong (AssertionError, Refused, OSError)."""

import contextlib
import json
import os
import random
import shutil
import statistics
import subprocess
import threading
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple

from gpu_check import limits, processes
from gpu_check.results import FAILED, PASSED, REFUSED, SKIPPED, Outcome
from gpu_check.server import Answer, Refused, Server

MEBI = 1 << 20
KERNEL_TESTS = ["cuda_kernels_test", "cuda_device_test", "cuda_models_test", "cuda_quantized_test", "cuda_quantized_models_test"]
DRY_MODELS = "*/llama:*/fp8"  # Of the emulated GPU's; all take it half a minute.
PROMPTS = [f"The capital of {place} is" for place in (
    "France", "Spain", "Italy", "Germany", "Poland", "Portugal", "Greece", "Norway", "Sweden", "Finland", "Austria", "Hungary",
    "Ireland", "Japan", "Egypt", "Kenya",
)]  # fmt: skip
ENDS = "The capital of France is", " Paris"  # What the demo model knows.


class Scale(NamedTuple):
    """How much work the parts do."""

    shapes: Dict[str, limits.Shape]  # Of the parts that measure.
    decode_tokens: int
    prefill_tokens: int
    streams: int
    stream_tokens: int
    rounds: int
    server_flags: tuple = ()


FULL = Scale({"model-1b": limits.TL11, "model-8b": limits.LLAMA8, "model-fp8": limits.TL11}, 64, 2048, 200, 256, 3,
             ("--max-num-batched-tokens", 8192))  # fmt: skip
DRY = Scale({name: limits.TOY for name in FULL.shapes}, 128, 64, 200, 16, 2)


class Check(NamedTuple):
    """What the parts need to know."""

    root: Path  # Of the bundle.
    folder: Path  # For files; gone at the end.
    device: object
    facts: dict
    limits: limits.Limits
    scale: Scale
    is_dry: bool
    used_at_start: int
    alone: Dict[str, str]  # Of each prompt the answer that it gets alone, once somebody asked.

    def server(self, model: Path, *flags) -> Server:
        words = [model, "--tokenizer", self.root / "models/demo", "--served-model-name", "checked", "--device", self.device.flag]
        return Server(self.root, self.folder, [*words, "--no-enable-prefix-caching", *self.scale.server_flags, *flags])

    def demo(self, *flags) -> Server:
        return self.server(self.root / "models/demo", *flags)

    def answers(self) -> Dict[str, str]:
        """Of a server with one engine that has nothing else to do."""
        if not self.alone:
            with self.demo() as server:
                for prompt in PROMPTS:
                    self.alone[prompt] = whole(server.stream(prompt, self.scale.stream_tokens, 60))
            if not self.alone[ENDS[0]].startswith(ENDS[1]):
                raise AssertionError(f"'{ENDS[0]}' goes on with '{self.alone[ENDS[0]]}', not with '{ENDS[1]}'")
        return self.alone


def whole(answer: Answer) -> str:
    if answer.end != "whole":
        raise AssertionError(f"an answer came to a {answer.end} end: {answer.text}")
    return answer.text


def facts(check: Check) -> Outcome:
    told = check.facts
    lines = [f"{told['name']}, {told['memory_bytes'] / (1 << 30):.1f} GiB, {told['visible_gpus']} GPUs visible"]
    if "capability" in told:
        version = told["driver_cuda"]
        lines[0] += f", capability {told['capability']}, driver for CUDA {version // 1000}.{version % 1000 // 10}"
        smi = told["nvidia_smi"]
        lines.append(", ".join(f"{name} {value}" for name, value in smi.items()) if smi else "no nvidia-smi")
    memory, tensor, source = check.limits
    rate = "{:,.0f} GB/s".format(memory / 1e9) if memory else "memory not known"
    products = "{:,.1f} bf16 TFLOP/s".format(tensor / 1e12) if tensor else "products not known"
    lines.append(f"limits: {rate}, {products} ({source})")
    return Outcome(PASSED, "\n".join(lines), {**told, "limits": check.limits._asdict()})


def kernels(check: Check) -> Outcome:
    """The kernel tests, against the reference and the logits of transformers."""
    counts, failures = {}, []
    for test in KERNEL_TESTS:
        name = test if check.is_dry else f"gpu_{test}"
        report = check.folder / f"{name}.json"
        program = check.root / "test" / name
        if check.is_dry and not program.exists():
            return Outcome(SKIPPED, "the kernel tests of this bundle are for a GPU")
        words = [str(program), f"--gtest_output=json:{report}"]
        if check.is_dry and test.endswith("models_test"):
            words.append(f"--gtest_filter={DRY_MODELS}")
        # Where the tests name their data from.
        environment = {**os.environ, "TMPDIR": str(check.folder)}
        with subprocess.Popen(words, cwd=check.root, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
                              preexec_fn=processes.end_with_parent) as running:  # fmt: skip
            try:
                said = running.communicate()[0]
            except BaseException:
                processes.kill_all(processes.family_of(running.pid))
                raise
        if not report.exists():
            failures.append(f"{name} died ({running.returncode}): {said.strip()[-300:]}")
            continue
        told = json.loads(report.read_text())
        cases = [case for suite in told["testsuites"] for case in suite["testsuite"] if case["status"] == "RUN"]
        broken = [case for case in cases if "failures" in case]
        counts[name] = {"tests": len(cases), "failed": len(broken)}
        failures += [f"{case['classname']}.{case['name']}: {case['failures'][0]['failure'][:300]}" for case in broken]
        if not cases or (running.returncode != 0 and not counts[name]["failed"]):
            failures.append(f"{name}: exit code {running.returncode} after {len(cases)} tests: {said.strip()[-300:]}")
    summary = ", ".join(f"{name} {count['tests'] - count['failed']} of {count['tests']}" for name, count in counts.items())
    return Outcome(FAILED if failures else PASSED, "\n".join([summary, *failures[:10]]), {"tests": counts, "failures": failures})


@contextlib.contextmanager
def random_model(check: Check, shape: limits.Shape, weights: str):
    """Its folder, for as long as it is needed; None and why where there is no room for it."""
    needed = shape.file_bytes(weights) + 64 * MEBI
    free = shutil.disk_usage(check.folder).free
    if free < needed:
        room = f"{check.folder.parent}, {free / 1e9:.1f} are free"
        yield None, f"{shape.name} needs {needed / 1e9:.1f} GB in {room}; --work-dir names another"
        return
    folder = check.folder / f"{shape.name}-{weights}"
    folder.mkdir()
    try:
        made = subprocess.run([check.root / "test/random_model", shape.name, weights, folder], capture_output=True, text=True, check=False)
        if made.returncode:
            raise AssertionError(made.stderr.strip())
        size = (folder / "model.safetensors").stat().st_size
        if not 0 < size - shape.file_bytes(weights) < 2 * MEBI:
            raise AssertionError(f"{shape.name} has {size} bytes: not the shape that limits.py has")
        yield folder, ""
    finally:
        shutil.rmtree(folder)


def prompts(shape: limits.Shape, count: int, tokens: int) -> List[List[int]]:
    draw = random.Random(count * tokens)
    return [[draw.randrange(shape.vocabulary) for _ in range(tokens)] for _ in range(count)]


def decode(check: Check, server: Server, shape: limits.Shape, weights: str, sequences: int) -> dict:
    """Of answers of many tokens less those of one: what is left is so many steps."""
    context, steps = 32, check.scale.decode_tokens
    asked = prompts(shape, sequences, context)
    server.batch(asked, 2)
    # The best of each: what disturbs only ever adds.
    long, short = (min(server.batch(asked, tokens) for _ in range(check.scale.rounds)) for tokens in (1 + steps, 1))
    if long <= short:
        raise AssertionError(f"answers of {1 + steps} tokens took {long:.3f} s, of one {short:.3f} s: too much else runs here")
    step = (long - short) / steps
    work = shape.decode_bytes(weights, sequences, context + steps / 2)
    return {"step_seconds": step, "tokens_per_second": sequences / step, "share": limits.share(work, check.limits.bytes_per_second, step)}


def prefill(check: Check, server: Server, shape: limits.Shape) -> dict:
    sequences, tokens = 8, check.scale.prefill_tokens
    asked = prompts(shape, sequences, tokens)
    server.batch(asked[:1], 1)
    seconds = min(server.batch(asked, 1) for _ in range(check.scale.rounds))
    work = shape.prefill_operations(sequences, tokens)
    return {
        "seconds": seconds,
        "tokens_per_second": sequences * tokens / seconds,
        "share": limits.share(work, check.limits.operations_per_second, seconds),
    }


def shown_share(figures: dict, of: str) -> str:
    return f", {100 * figures['share']:.1f} % of {of}" if figures["share"] is not None else ""


def model(name: str, weights: str = "bf16") -> Callable[[Check], Outcome]:
    def measure(check: Check) -> Outcome:
        shape = check.scale.shapes[name]
        with random_model(check, shape, weights) as (folder, why):
            if folder is None:
                return Outcome(SKIPPED, why)
            with check.server(folder) as server:
                figures = {
                    "shape": shape._asdict(), "weights": weights, "flags": server.words[3:], "ready_seconds": server.ready_seconds,
                    "decode_1": decode(check, server, shape, weights, 1), "decode_64": decode(check, server, shape, weights, 64),
                    "prefill": prefill(check, server, shape),
                }  # fmt: skip
        lines = [f"{shape.name} {weights}: ready after {figures['ready_seconds']:.1f} s"]
        for key in ("decode_1", "decode_64"):
            told = figures[key]
            rate = f"{told['tokens_per_second']:,.0f} tok/s, {1e3 * told['step_seconds']:.2f} ms a step"
            lines.append(f"{key.replace('_', ' at batch ')}: {rate}{shown_share(told, 'the memory limit')}")
        told = figures["prefill"]
        rate = f"{told['tokens_per_second']:,.0f} tok/s"
        lines.append(f"prefill of 8 x {check.scale.prefill_tokens}: {rate}{shown_share(told, 'the bf16 peak')}")
        return Outcome(PASSED, "\n".join(lines), figures)

    return measure


def fp8(check: Check) -> Outcome:
    """As the others, or the product's own line while the GPU's worker takes no quantised weights."""
    try:
        return model("model-fp8", "fp8")(check)
    except Refused as refusal:
        if "quantised weights" not in str(refusal):
            raise
        return Outcome(REFUSED, f"not there yet: {refusal}")


class Load:
    """Many streams at once, each prompt in turn, until all are answered or somebody says stop; as a context, until its end."""

    def __init__(self, check: Check, server: Server, clients: int, rounds: int):
        self.check, self.server, self.rounds = check, server, rounds
        self.ends: List[Answer] = []
        self.wrong: List[str] = []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True) for i in range(clients)]
        for thread in self.threads:
            thread.start()

    def run(self, client: int):
        for turn in range(self.rounds):
            if self.stopping.is_set():
                return
            prompt = PROMPTS[(client + turn) % len(PROMPTS)]
            answer = self.server.stream(prompt, self.check.scale.stream_tokens, 120)
            if answer.end == "whole" and answer.text != self.check.alone[prompt]:
                self.wrong.append(f"'{prompt}': {answer.text!r}, alone {self.check.alone[prompt]!r}")
            self.ends.append(answer)
            if answer.end != "whole":
                time.sleep(0.05)  # As it was asked to: Retry-After.

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, kind, value, trace):
        self.stopping.set()
        if kind is None:
            self.wait()

    def wait(self):
        for thread in self.threads:
            thread.join()

    def count(self, end: str) -> int:
        return sum(answer.end == end for answer in self.ends)

    def at_once(self) -> int:
        """The most answers that had begun to come and had not ended."""
        marks = [(answer.first, 1) for answer in self.ends if answer.end == "whole"]
        marks += [(answer.ended, -1) for answer in self.ends if answer.end == "whole"]
        now, most = 0, 0
        for _, change in sorted(marks):
            now += change
            most = max(most, now)
        return most

    def verify(self, allowed: tuple):
        bad = [answer.text for answer in self.ends if answer.end not in allowed]
        if bad:
            raise AssertionError(f"{len(bad)} of {len(self.ends)} requests did not end whole{' or clean' * (len(allowed) > 1)}: {bad[0]}")
        if self.wrong:
            raise AssertionError(f"{len(self.wrong)} of {len(self.ends)} answers are not what they are alone: {self.wrong[0]}")


def shared(*flags) -> Callable[[Check], Outcome]:
    """Two workers, one GPU: the same answers as of one, or the product's own line that it cannot."""

    def serve(check: Check) -> Outcome:
        check.answers()
        try:
            with check.demo(*flags) as server:
                workers = len(server.workers(check.device.worker))
                with Load(check, server, len(PROMPTS), 2) as load:
                    load.wait()
                load.verify(("whole",))
                served = server.metric("trireme:requests_routed_total")
        except Refused as refusal:
            if "this node has 2 workers" not in str(refusal):
                raise
            return Outcome(REFUSED, str(refusal))
        by = ", ".join(f"engine {engine}: {count:.0f}" for engine, count in sorted(served.items()))
        figures = {"workers": workers, "answers": len(load.ends), "by_engine": served}
        if workers != 2 or min(served.values()) == 0:
            raise AssertionError(f"{workers} workers; answers of {by}: not two that share the work")
        return Outcome(PASSED, f"{len(load.ends)} answers as one worker gives them, {workers} workers, {by}", figures)

    return serve


def streams(check: Check) -> Outcome:
    check.answers()
    with check.demo() as server:
        began = time.monotonic()
        with Load(check, server, check.scale.streams, 1) as load:
            load.wait()
        seconds = time.monotonic() - began
    load.verify(("whole",))
    firsts = sorted(answer.first - answer.began for answer in load.ends)
    rate = len(load.ends) * check.scale.stream_tokens / seconds
    figures = {
        "streams": len(load.ends), "at_once": load.at_once(), "tokens_per_second": rate, "first_token_median": statistics.median(firsts),
        "first_token_worst": firsts[-1],
    }  # fmt: skip
    text = f"{len(load.ends)} streams, {figures['at_once']} answered at once, each as it is alone: {rate:,.0f} tok/s, first token after "
    return Outcome(PASSED, text + f"{figures['first_token_median']:.2f} s (median), {firsts[-1]:.2f} s (worst)", figures)


def wait_for(what: str, condition: Callable[[], object], seconds: float):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.02)


def kill(check: Check) -> Outcome:
    """kill -9 of the worker under load: every request ends whole or with an error of the API, and those that come later whole."""
    check.answers()
    with check.demo() as server:
        with Load(check, server, 32, 1 << 20) as load:
            wait_for("64 answers", lambda: len(load.ends) >= 64, 60)
            (victim,) = server.workers(check.device.worker)
            killed = time.monotonic()
            processes.kill_all([victim])
            wait_for("an answer after the worker's death", lambda: answer_after(load, killed) is not None, 120)
            back = answer_after(load, killed).ended - killed
            (heir,) = server.workers(check.device.worker)
            last = len(load.ends)
            wait_for("64 more answers", lambda: len(load.ends) >= last + 64, 60)
    load.verify(("whole", "error"))
    if heir == victim:
        raise AssertionError(f"the worker of pid {victim} was killed and is still there")
    if load.count("error") and load.ends[-1].end != "whole":
        raise AssertionError(f"the last request still ended with an error: {load.ends[-1].text}")
    figures = {"whole": load.count("whole"), "errors": load.count("error"), "recovery_seconds": back}
    text = f"{figures['whole']} requests whole and as they are alone, {figures['errors']} with a clean error, none otherwise; "
    return Outcome(PASSED, text + f"the first new answer {back:.2f} s after the kill", figures)


def answer_after(load: Load, moment: float):
    """The first whole one that was asked for after it."""
    return next((answer for answer in list(load.ends) if answer.end == "whole" and answer.began > moment), None)


def memory(check: Check) -> Outcome:
    """What a server took is given back, and all parts before left nothing."""
    with check.demo() as server:
        whole(server.stream(PROMPTS[0], 4, 60))
        during = check.device.used_bytes() - check.used_at_start
    if during < MEBI:
        raise AssertionError(f"a running server is not seen in the memory: {during} bytes")
    left = lambda: check.device.used_bytes() - check.used_at_start  # noqa: E731
    deadline = time.monotonic() + 30
    while left() > 32 * MEBI and time.monotonic() < deadline:
        time.sleep(0.2)
    after, remaining = left(), processes.running_from(check.root)
    text = f"{during / MEBI:,.0f} MiB while the demo model is served, {after / MEBI:,.1f} MiB more than at the start afterwards"
    figures = {"during_bytes": during, "after_bytes": after, "processes": remaining}
    is_clean = after <= 32 * MEBI and not remaining
    return Outcome(PASSED if is_clean else FAILED, text + f"; processes left: {remaining}" * bool(remaining), figures)


class Part(NamedTuple):
    run: Callable[[Check], Outcome]
    seconds: int  # It is not begun with less time left.
    what: str


PARTS = {
    "facts": Part(facts, 0, "what the device is"),
    "kernels": Part(kernels, 5, "kernel tests against the reference and against transformers' logits"),
    "model-1b": Part(model("model-1b"), 15, "a random 1.1B model in bf16: start, decode at batch 1 and 64, prefill of 8 x 2,048"),
    "dp2": Part(shared("--data-parallel-size", 2), 10, "two engines on the one GPU"),
    "tp2": Part(shared("--tensor-parallel-size", 2), 10, "two tensor-parallel ranks on the one GPU"),
    "streams": Part(streams, 10, "200 concurrent streams"),
    "kill": Part(kill, 15, "kill -9 of a worker under load"),
    "model-8b": Part(model("model-8b"), 60, "a random 8B model in bf16, likewise (16 GB in --work-dir)"),
    "model-fp8": Part(fp8, 10, "a random 1.1B model in FP8, likewise"),
    "memory": Part(memory, 5, "the device's memory is as it was at the start"),
}
