"""Starts real clusters of the built programs for the process and fault tests, and looks at what they leave.

The programs are found by TRIREME_BIN (set by ctest). Every wait has a deadline and says what it waited for.
"""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("TRIREME_BIN", ROOT / "build/dev/bin"))
DEMO = ROOT / "models/demo"
START_SECONDS = float(os.environ.get("TRIREME_START_SECONDS", "60"))


def free_port() -> int:
    """Below the ports that the kernel gives to connections, so that none takes it before the program does."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port


def wait_for(what: str, condition, seconds: float = 30.0, interval: float = 0.02):
    """Returns the first true value of condition(); fails with `what` when it does not come in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(interval)


@dataclass
class Reply:
    status: int
    headers: dict
    body: bytes

    def json(self):
        return json.loads(self.body)


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    name: str
    command: tuple

    def argument(self, flag: str) -> str | None:
        """The value of the last `flag value` or `flag=value` in the command line."""
        found = None
        for index, word in enumerate(self.command):
            if word == flag and index + 1 < len(self.command):
                found = self.command[index + 1]
            elif word.startswith(flag + "="):
                found = word[len(flag) + 1 :]
        return found


def all_processes() -> dict[int, Process]:
    table = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError):
            stat = (entry / "stat").read_text()
            tail = stat.rsplit(")", 1)[1].split()
            if tail[0] == "Z":
                continue
            words = tuple((entry / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0"))
            table[int(entry.name)] = Process(int(entry.name), int(tail[1]), os.path.basename(words[0]), words)
    return table


def descendants(pid: int) -> list[Process]:
    table = all_processes()
    found, frontier = [], [pid]
    while frontier:
        parent = frontier.pop()
        for process in table.values():
            if process.parent == parent:
                found.append(process)
                frontier.append(process.pid)
    return found


def kind_of(process: Process) -> str:
    """engine-core is a rank when it was given one, else a node agent; api-server likewise."""
    if process.name == "engine-core":
        rank = process.argument("--internal-engine-rank")
        return f"rank {rank}" if rank is not None else "node agent"
    if process.name == "api-server":
        index = process.argument("--internal-api-server-index")
        return f"api-server {index}" if index is not None else "launcher"
    return process.name


def ports_of(pids: set[int]) -> set[str]:
    """Listening TCP addresses held by these processes."""
    inodes = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for fd in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    target = os.readlink(fd.path)
                    if target.startswith("socket:["):
                        inodes.add(target[8:-1])
    addresses = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().split("\n")[1:]:
            words = line.split()
            if len(words) > 9 and words[3] == "0A" and words[9] in inodes:
                addresses.add(words[1])
    return addresses


def listening() -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().split("\n")[1:]:
            words = line.split()
            if len(words) > 3 and words[3] == "0A":
                found.add(words[1])
    return found


def http(url: str, body=None, headers=None, method=None, timeout: float = 60) -> Reply:
    data = None
    if body is not None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return Reply(answer.status, dict(answer.headers), answer.read())
    except urllib.error.HTTPError as failure:
        return Reply(failure.code, dict(failure.headers), failure.read())


@dataclass
class Cluster:
    """One launcher and what it started. Use as a context manager: everything is killed at the end."""

    arguments: list
    program: str = "api-server"
    environment: dict = field(default_factory=dict)
    prefix: tuple = ()  # e.g. ("ip", "netns", "exec", NAME)
    host: str = "127.0.0.1"
    takes_any_rpc_port: bool = False  # The launcher's choice; rpc_port is not its.

    def __post_init__(self):
        self.port = free_port()
        self.rpc_port = free_port()
        self.log = tempfile.NamedTemporaryFile("w+", prefix="trireme-", suffix=".log")
        self.process = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def command(self) -> list:
        words = [*self.prefix, str(BIN / self.program), *map(str, self.arguments)]
        if "--data-parallel-rpc-port" not in self.arguments and not self.takes_any_rpc_port:
            words += ["--data-parallel-rpc-port", str(self.rpc_port)]
        if self.program == "api-server":
            words += ["--host", self.host, "--port", str(self.port)]
        return words

    def start(self) -> "Cluster":
        self.process = subprocess.Popen(
            self.command(), stdout=self.log, stderr=subprocess.STDOUT, env={**os.environ, **self.environment}, cwd=ROOT
        )
        return self

    def __enter__(self) -> "Cluster":
        return self.start()

    def __exit__(self, kind, value, trace):
        family = [p.pid for p in self.family()]
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=10)
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if kind is not None:
            print(f"--- log of {self.program}\n{self.log_text()[-20000:]}")
        self.log.close()

    def log_text(self) -> str:
        return Path(self.log.name).read_text(errors="replace")

    def family(self) -> list[Process]:
        return descendants(self.process.pid)

    def find(self, kind: str) -> Process | None:
        matches = [p for p in self.family() if kind_of(p) == kind]
        return matches[0] if matches else None

    def get(self, path: str, **more) -> Reply:
        return http(self.url + path, **more)

    def post(self, path: str, body, **more) -> Reply:
        return http(self.url + path, body, **more)

    def is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"{self.program} ended with {self.process.returncode}:\n{self.log_text()[-5000:]}")
        try:
            return self.get("/ready", timeout=5).status == 200
        except OSError:
            return False

    def wait_ready(self, seconds: float = START_SECONDS) -> "Cluster":
        wait_for(f"{self.url}/ready", self.is_ready, seconds)
        return self

    def metric(self, name: str) -> float:
        """The sum over all label sets of one metric."""
        lines = self.get("/metrics").body.decode().split("\n")
        return sum(float(x.rsplit(" ", 1)[1]) for x in lines if x.startswith((name + "{", name + " ")))

    def engines_up(self) -> int:
        """How many engines the front end could send a request to now."""
        return int(self.metric("trireme:engines_ready"))

    def wait_engines(self, count: int, seconds: float = START_SECONDS):
        wait_for(f"{count} engines ready", lambda: self.engines_up() == count, seconds)

    def complete(self, prompt: str, tokens: int = 8, **fields) -> Reply:
        body = {"model": "demo", "prompt": prompt, "max_tokens": tokens, "temperature": 0, **fields}
        return self.post("/v1/completions", body)


def safe_engines(cluster: Cluster) -> int:
    """engines_up(), of a front end that may not listen yet."""
    try:
        return cluster.engines_up()
    except OSError:
        return 0


def metric_by_engine(cluster: Cluster, name: str) -> dict[str, float]:
    counts = {}
    for line in cluster.get("/metrics").body.decode().split("\n"):
        if line.startswith(name + "{"):
            counts[line.split('engine="')[1].split('"')[0]] = float(line.rsplit(" ", 1)[1])
    return counts


def demo_cluster(*flags, **more) -> Cluster:
    return Cluster([str(DEMO), "--served-model-name", "demo", *flags], **more)
