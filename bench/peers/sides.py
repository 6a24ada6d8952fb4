"""How each side is started and asked: ours, vLLM and llama.cpp, each with its best settings for this machine."""

import contextlib
import http.client
import json
import os
import random
import select
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from machine import signal_tree
from server import Server, free_port, load, server, signal_group

OFFLINE = Path(__file__).with_name("vllm_offline.py")
MAX_MODEL_LEN = 4096


class Missing(Exception):
    """A peer or a file of it is not here; the message says how to name it."""


@dataclass
class Places:
    """Where everything is. See table's flags."""

    build: Path
    models: Path
    gguf: Path
    vllm: Path
    vllm_rs: Path
    llama: Path
    threads: int
    start_seconds: float

    def need(self, path: Path, flag: str) -> Path:
        if not path.exists():
            raise Missing(f"{path} is missing; install it (bench/peers/README.md) or name it with {flag}")
        return path

    def trireme(self) -> str:
        return str(self.need(self.build / "bin" / "trireme", "--build"))

    def model(self, name: str) -> str:
        self.need(self.models / name / "config.json", "--models")
        return str(self.models / name)

    def gguf_file(self, name: str) -> str:
        return str(self.need(self.gguf / f"{name}.gguf", "--gguf"))

    def llama_program(self, name: str) -> str:
        return str(self.need(self.llama / name, "--llama"))


@dataclass
class Amount:
    """How much is measured in a round."""

    warmups: int = 1
    iterations: int = 5
    requests_share: float = 1.0

    def requests(self, count: int) -> int:
        return max(int(count * self.requests_share), 1)


@dataclass
class Sides:
    places: Places
    amount: Amount
    held: dict = field(default_factory=dict)

    # Peers that take a minute to start are started once and stopped (SIGSTOP) while others run.

    @contextlib.contextmanager
    def holding(self, key: tuple, start):
        if key not in self.held:
            self.held[key] = start()
        self.held[key].resume()
        try:
            yield self.held[key]
        except BaseException:
            self.held.pop(key).stop()
            raise
        self.held[key].pause()

    def release(self, keys_still_needed: set[tuple]):
        for key in [key for key in self.held if key not in keys_still_needed]:
            self.held.pop(key).stop()

    # Ours.

    def our_command(self, model: str, port: int, *flags: str) -> list[str]:
        return [self.places.trireme(), "serve", self.places.model(model), "--host", "127.0.0.1", "--port", str(port),
                "--max-model-len", str(MAX_MODEL_LEN), *flags]  # fmt: skip

    def our_server(self, model: str, *flags: str):
        port = free_port()
        return server("trireme", self.our_command(model, port, *flags), port, self.places.start_seconds)

    def our_latency(self, model: str, inputs: int, outputs: int, batch: int, *flags: str) -> float:
        """Seconds of a batch, the median of some."""
        with tempfile.NamedTemporaryFile("r", suffix=".json") as file:
            command = [
                self.places.trireme(), "bench", "latency", self.places.model(model), "--input-len", str(inputs),
                "--output-len", str(outputs), "--batch-size", str(batch), "--num-iters", str(self.amount.iterations),
                "--num-iters-warmup", str(self.amount.warmups), "--max-model-len", str(MAX_MODEL_LEN),
                "--output-json", file.name, *flags,
            ]  # fmt: skip
            checked(command)
            return statistics.median(json.loads(file.read())["latencies"])

    # vLLM.

    def vllm_environment(self, bind: str, kv_gib: int, **more: str) -> dict[str, str]:
        folder = self.places.need(self.places.vllm, "--vllm").parent
        preload = [tcmalloc(), str(folder.parent / "lib/libiomp5.so")]
        return {
            **os.environ,
            "PATH": f"{folder}:{os.environ.get('PATH', '')}",
            "LD_PRELOAD": os.environ.get("VLLM_PRELOAD") or ":".join(path for path in preload if path and Path(path).exists()),
            "VLLM_CPU_OMP_THREADS_BIND": bind,
            "VLLM_CPU_KVCACHE_SPACE": str(kv_gib),
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "TOKENIZERS_PARALLELISM": "false",
            **more,
        }

    def all_cores(self) -> str:
        return f"0-{self.places.threads - 1}"

    def start_vllm(self, model: str, bind: str, kv_gib: int, *flags: str, **more: str) -> Server:
        port = free_port()
        command = [str(self.places.vllm), "serve", self.places.model(model), "--host", "127.0.0.1", "--port", str(port),
                   "--max-model-len", str(MAX_MODEL_LEN), "--disable-uvicorn-access-log", *flags]  # fmt: skip
        environment = self.vllm_environment(bind, kv_gib, **more)
        return Server("vllm", command, port, self.places.start_seconds, environment)

    def vllm_latency(self, model: str, inputs: int, outputs: int, batch: int) -> float:
        def start():
            environment = self.vllm_environment(self.all_cores(), 2)
            command = [str(self.places.vllm.parent / "python"), str(OFFLINE), self.places.model(model), str(MAX_MODEL_LEN)]
            return Offline(command, environment, self.places.start_seconds)

        case = {"input_len": inputs, "output_len": outputs, "batch_size": batch,
                "warmups": self.amount.warmups, "iterations": self.amount.iterations}  # fmt: skip
        with self.holding(("vllm offline", model), start) as offline:
            return statistics.median(offline.ask(case))

    # llama.cpp.

    def start_llama(self, gguf: str, places: int) -> Server:
        port = free_port()
        command = [self.places.llama_program("llama-server"), "--host", "127.0.0.1", "--port", str(port),
                   "-m", self.places.gguf_file(gguf), "-t", str(self.places.threads), "-np", str(places),
                   "-c", str(places * MAX_MODEL_LEN)]  # fmt: skip
        return Server("llama", command, port, self.places.start_seconds)

    def llama_bench(self, gguf: str, prompt: int, generate: int) -> float:
        """Tokens per second of a prompt (generate 0) or of decoding one sequence (prompt 0)."""
        command = [self.places.llama_program("llama-bench"), "-m", self.places.gguf_file(gguf), "-p", str(prompt),
                   "-n", str(generate), "-t", str(self.places.threads), "-r", str(self.amount.iterations), "-o", "json"]  # fmt: skip
        return statistics.median(json.loads(checked(command))[0]["samples_ts"])

    def llama_batch(self, gguf: str, inputs: int, outputs: int, batch: int) -> float:
        """Output tokens per second of so many sequences, their prompts included."""
        command = [self.places.llama_program("llama-batched-bench"), "-m", self.places.gguf_file(gguf), "-c", "4096", "-b", "2048",
                   "-ub", "512", "-npp", str(inputs), "-ntg", str(outputs),
                   "-npl", ",".join([str(batch)] * self.amount.iterations), "-t", str(self.places.threads),
                   "--output-format", "jsonl"]  # fmt: skip
        runs = [json.loads(line) for line in checked(command).split("\n") if line.startswith("{")]
        return statistics.median(batch * outputs / (run["t_pp"] + run["t_tg"]) for run in runs)

    # Any server.

    def load(self, model: str, port: int, case: str, seed: int, is_whole: bool = False) -> dict:
        inputs, outputs, at_once, requests = case.split(":")
        if not is_whole:
            case = f"{inputs}:{outputs}:{at_once}:{self.amount.requests(int(requests))}"
        return load(self.places.build, self.places.model(model), port, case, seed)


class Offline:
    """vllm_offline.py with its pipes."""

    def __init__(self, command: list[str], environment: dict[str, str], seconds: float):
        self._log = tempfile.NamedTemporaryFile("w+", prefix="peers-vllm-offline-", suffix=".log")  # noqa: SIM115
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            start_new_session=True, env=environment,
        )  # fmt: skip
        try:
            self._answer(seconds)
        except BaseException:
            self.stop()
            raise

    def ask(self, case: dict, seconds: float = 1800) -> list[float]:
        self.process.stdin.write(json.dumps(case) + "\n")
        self.process.stdin.flush()
        return self._answer(seconds)

    def _answer(self, seconds: float):
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            tail = Path(self._log.name).read_text(errors="replace")[-2000:]
            raise RuntimeError(f"vLLM {'ended' if ready else 'said nothing'} within {seconds:.0f} s:\n{tail}")
        return json.loads(line)

    def pause(self):
        signal_tree(self.process.pid, signal.SIGSTOP)

    def resume(self):
        signal_tree(self.process.pid, signal.SIGCONT)

    def stop(self):
        self.resume()
        self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=30)
        signal_group(self.process.pid)
        self.process.wait()
        self._log.close()


def checked(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def tcmalloc() -> str | None:
    listing = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    found = [line.split()[-1] for line in listing.split("\n") if "libtcmalloc_minimal.so.4" in line]
    if not found:
        print("libtcmalloc_minimal.so.4 is not here (apt-get install libtcmalloc-minimal4): vLLM runs without", file=sys.stderr)
    return found[0] if found else None


def first_token_seconds(port: int, model: str, prompt: list[int]) -> float:
    """An answer of one token, not streamed: a token need not have text."""
    body = json.dumps({"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0, "ignore_eos": True})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    try:
        begin = time.perf_counter()
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"/v1/completions: {answer.status} {text[:300]!r}")
        return time.perf_counter() - begin
    finally:
        connection.close()


def random_prompt(chance: random.Random, tokens: int) -> list[int]:
    return [chance.randrange(100, 10000) for _ in range(tokens)]
