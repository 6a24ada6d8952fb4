"""A server under measurement: started, watched until it is up, loaded by `trireme bench serve`, and gone again."""

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from machine import signal_tree

POLL_SECONDS = 0.005


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def is_up(port: int) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
        return answer.status == 200
    return False


class Server:
    """Up when constructed; `start_s` is how long that took. stop() takes everything with it that it started."""

    def __init__(self, name: str, command: list[str], port: int, seconds: float, environment: dict | None = None):
        self.name, self.port = name, port
        self._log = tempfile.NamedTemporaryFile("w+", prefix=f"peers-{name}-", suffix=".log")  # noqa: SIM115
        self.begin = time.monotonic()
        try:
            self.process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True, env=environment)
        except OSError as failure:
            raise SystemExit(f"cannot start {name}: {command[0]}: {failure.strerror}") from failure
        try:
            while not is_up(port):
                if self.process.poll() is not None or time.monotonic() - self.begin > seconds:
                    tail = Path(self._log.name).read_text(errors="replace")[-2000:]
                    raise SystemExit(f"{name} did not come up: {shlex.join(command)}\n{tail}")
                time.sleep(POLL_SECONDS)
        except BaseException:
            self.stop()
            raise
        self.start_s = time.monotonic() - self.begin

    def pause(self):
        signal_tree(self.process.pid, signal.SIGSTOP)

    def resume(self):
        signal_tree(self.process.pid, signal.SIGCONT)

    def stop(self):
        self.resume()
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=30)
        signal_group(self.process.pid)
        self.process.wait()
        self._log.close()


def signal_group(group: int):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)  # The group that we made for it.


@contextlib.contextmanager
def server(name: str, command: list[str], port: int, seconds: float, environment: dict | None = None):
    running = Server(name, command, port, seconds, environment)
    try:
        yield running
    finally:
        running.stop()


def load(build: Path, model: str, port: int, case: str, seed: int) -> dict:
    """One run of the client; the same prompts on both sides of a round."""
    tokens_in, tokens_out, at_once, requests = case.split(":")
    with tempfile.TemporaryDirectory() as folder:
        words = [
            str(build / "bin" / "trireme"), "bench", "serve", "--port", str(port), "--tokenizer", model,
            "--random-input-len", tokens_in, "--random-output-len", tokens_out, "--max-concurrency", at_once,
            "--num-prompts", requests, "--temperature", "0", "--seed", str(seed), "--ready-check-timeout-sec", "60",
            "--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,90,99", "--disable-tqdm",
            "--save-result", "--result-dir", folder, "--result-filename", "result.json",
        ]  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{shlex.join(words)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return json.loads((Path(folder) / "result.json").read_text())
