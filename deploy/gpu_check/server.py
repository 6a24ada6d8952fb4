"""`trireme serve` as a child of ours, and requests to it whose ends are told apart: whole, a clean error, or broken."""

import http.client
import json
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Dict, List, NamedTuple

from gpu_check import processes

STOP_SECONDS = 20
READY = re.compile(r"^ready after \d+ ms: http://127\.0\.0\.1:(\d+)", re.M)


class Refused(Exception):
    """The server ended before it was ready; what it said, in a line."""


class Answer(NamedTuple):
    end: str  # "whole", "error": of the API, or "broken".
    text: str  # Of the answer, or why it is not whole.
    began: float
    first: float  # Its first piece; infinite: none came.
    ended: float


class Server:
    """As a context: at its end the server and all that it started are gone."""

    def __init__(self, root: Path, folder: Path, words: list):
        self.words = [str(root / "bin/trireme"), "serve", *map(str, words), "--host", "127.0.0.1", "--port", "0", "--disable-log-stats"]
        self.output, self.log = folder / "server.out", folder / "server.log"
        self.process, self.port, self.ready_seconds = None, 0, 0.0

    def __enter__(self) -> "Server":
        began = time.monotonic()
        with open(self.output, "w") as output, open(self.log, "w") as log:
            self.process = subprocess.Popen(
                self.words, stdin=subprocess.DEVNULL, stdout=output, stderr=log, start_new_session=True,
                preexec_fn=processes.end_with_parent,
            )  # fmt: skip
        try:
            while True:
                has_ended = self.process.poll() is not None
                found = READY.search(self.output.read_text())
                if found:
                    break
                if has_ended:
                    raise Refused(self.last_words())
                time.sleep(0.01)
        except BaseException:
            self.kill()
            raise
        self.port, self.ready_seconds = int(found.group(1)), time.monotonic() - began
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is None:
                self.process.send_signal(signal.SIGTERM)
                self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server did not end within {STOP_SECONDS} s of SIGTERM") from None
        finally:
            self.kill()

    def kill(self):
        processes.kill_all(processes.family_of(self.process.pid))
        self.process.wait()

    def last_words(self) -> str:
        """The reason of the last error in its log, or the log's last line."""
        lines = self.log.read_text(errors="replace").strip().split("\n")
        for line in reversed(lines):
            if line.startswith("{"):
                event = json.loads(line)
                if event.get("level") == "error" and event.get("reason"):
                    return event["reason"]
        return lines[-1] or f"exit code {self.process.returncode}"

    def workers(self, name: str) -> List[int]:
        return [pid for pid in processes.family_of(self.process.pid) if processes.program_of(pid).name == name]

    def metric(self, name: str) -> Dict[str, float]:
        """By engine."""
        lines = self.exchange("GET", "/metrics", None, 30)[1].decode().split("\n")
        rows = [line for line in lines if line.startswith(name + "{")]
        values: Dict[str, float] = {}
        for row in rows:
            engine = re.search(r'engine="(\d+)"', row)
            key = engine.group(1) if engine else ""
            values[key] = values.get(key, 0) + float(row.rsplit(" ", 1)[1])
        return values

    def is_ready(self) -> bool:
        try:
            return self.exchange("GET", "/ready", None, 5)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def exchange(self, method: str, path: str, body, seconds: float):
        """Status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def batch(self, prompts: List[List[int]], tokens: int, seconds: float = 300) -> float:
        """Seconds until all of one request's prompts have so many tokens each."""
        body = {"model": "checked", "prompt": prompts, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
        began = time.monotonic()
        status, reply = self.exchange("POST", "/v1/completions", body, seconds)
        ended = time.monotonic()
        if status != 200:
            raise AssertionError(f"{len(prompts)} prompts: {status} {reply[:300].decode(errors='replace')}")
        got = json.loads(reply)["usage"]["completion_tokens"]
        if got != tokens * len(prompts):
            raise AssertionError(f"{len(prompts)} prompts gave {got} tokens, not {tokens} each")
        return ended - began

    def stream(self, prompt: str, tokens: int, seconds: float) -> Answer:
        body = {"model": "checked", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True}
        began, first = time.monotonic(), float("inf")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
            reply = connection.getresponse()
            if reply.status != 200:
                error = json.loads(reply.read())["error"]["message"]
                return Answer("error", f"{reply.status}: {error}", began, first, time.monotonic())
            text, finish, is_done = "", None, False
            for line in reply:
                if not line.startswith(b"data: "):
                    continue
                first = min(first, time.monotonic())
                if line.strip() == b"data: [DONE]":
                    is_done = True
                    continue
                event = json.loads(line[6:])
                if "error" in event:
                    return Answer("error", f"in the stream: {event['error']['message']}", began, first, time.monotonic())
                for choice in event["choices"]:
                    text += choice["text"]
                    finish = choice["finish_reason"] or finish
            end = "whole" if is_done and finish == "length" else "broken"
            return Answer(end, text if end == "whole" else f"the stream ended after {text!r}", began, first, time.monotonic())
        except (OSError, ValueError, KeyError, http.client.HTTPException) as failure:
            return Answer("broken", f"{type(failure).__name__}: {failure}", began, first, time.monotonic())
        finally:
            connection.close()
