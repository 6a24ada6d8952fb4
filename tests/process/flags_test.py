"""Flags whose effect only whole processes show: who becomes what, what children can be seen to know, what is said while
serving, and what two starts have in common.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cluster import BIN, DEMO, Cluster, demo_cluster, free_port, ports_of, wait_for

SAMPLED = {"model": "demo", "prompt": "The", "max_tokens": 12, "temperature": 1.5}
KEYS = ["first-key", "second-key"]


def samples(cluster) -> list[str]:
    """Of requests without a seed, one after another."""
    headers = {"Authorization": f"Bearer {KEYS[0]}"}
    return [cluster.post("/v1/completions", SAMPLED, headers=headers).json()["choices"][0]["text"] for _ in range(3)]


def log_lines(cluster, event: str) -> list[dict]:
    lines = [line for line in cluster.log_text().splitlines() if line.startswith('{"t"')]
    return [event_of for event_of in map(json.loads, lines) if event_of["event"] == event]


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    """Two engines, seeded, two keys on the command line and one in a file that must not count."""
    file = tmp_path_factory.mktemp("config") / "config.yaml"
    file.write_text("api-key: [key-of-the-file]\nseed: 7\n")
    flags = ["--data-parallel-size", "2", "--seed", "42", "--api-key", *KEYS, "--config", str(file), "--enforce-eager"]
    with demo_cluster(*flags) as cluster:
        cluster.wait_ready()
        cluster.wait_engines(2)
        cluster.samples = samples(cluster)
        yield cluster


def test_keys_protect_v1_and_those_of_the_command_line_win(keyed):
    def status(path, key=None):
        return keyed.get(path, headers={"Authorization": f"Bearer {key}"} if key else None).status

    assert [status("/v1/models", key) for key in KEYS] == [200, 200]
    assert [status("/v1/models", key) for key in (None, "key-of-the-file", "third")] == [401, 401, 401]
    assert [status(path) for path in ("/metrics", "/version", "/load", "/health", "/ready")] == [200] * 5


def test_keys_are_on_no_command_line_of_a_child(keyed):
    children = keyed.family()
    assert {"coordinator", "engine-core", "api-server", "worker"} <= {p.name for p in children}
    shown = [p for p in children if any(key in word for key in KEYS for word in p.command)]
    assert not shown


def test_worker_says_its_data_parallel_rank_and_its_number_there(keyed):
    loaded = log_lines(keyed, "worker_loaded")
    assert sorted((line["rank"], line["worker"]) for line in loaded) == [(0, 0), (1, 0)]


def test_flag_without_effect_is_told_of_once(keyed):
    told = [line["text"] for line in log_lines(keyed, "flag_notice")]
    assert told == ["--enforce-eager has no effect: there is no compilation to turn off"]


def load_lines(cluster) -> list[str]:
    """While the cluster is asked."""
    samples(cluster)
    return [line["text"] for line in log_lines(cluster, "load")]


def test_seed_makes_two_starts_draw_alike_and_load_is_told_unless_turned_off(keyed):
    assert len(set(keyed.samples)) == 3
    flags = ["--data-parallel-size", "2", "--seed", "42", "--api-key", KEYS[0], "--disable-log-stats"]
    with demo_cluster(*flags) as silent:
        silent.wait_ready()
        silent.wait_engines(2)
        assert samples(silent) == keyed.samples
        told_before = len(log_lines(keyed, "load"))
        told = wait_for("load lines of two engines", lambda: len(load_lines(keyed)) >= told_before + 2 and load_lines(keyed),
                        seconds=25, interval=0.2)  # fmt: skip
        assert told[-1].startswith("Engine 00") and "Avg generation throughput: " in told[-1]
        # A whole interval of both, asked alike.
        wait_for("an interval of the other", lambda: len(load_lines(keyed)) > len(told) and load_lines(silent) == [],
                 seconds=25, interval=0.2)  # fmt: skip


@pytest.mark.parametrize("program", [("trireme", "serve"), ("api-server",)])
def test_headless_serve_is_the_node_agent(program):
    rpc_port = free_port()
    shared = ["--data-parallel-size", "2", "--data-parallel-address", "127.0.0.1", "--data-parallel-rpc-port", str(rpc_port),
              "--data-parallel-size-local", "1", "--distributed-executor-backend", "uni"]  # fmt: skip
    node_flags = [*program[1:], str(DEMO), "--headless", "--data-parallel-start-rank", "1", "--api-key", "secret", *shared]
    with demo_cluster(*shared) as front, Cluster(node_flags, program=program[0]) as node:
        front.wait_ready()
        front.wait_engines(2)
        assert {p.name for p in node.family()} == {"engine-core"}
        assert not any("secret" in p.command for p in node.family())
        assert f":{node.port:04X}" not in {address[8:] for address in ports_of({node.process.pid})}
        node.process.terminate()
        assert node.process.wait(timeout=20) == 0


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_permanent_mistake_of_a_worker_ends_the_start_at_the_first_try(log_format):
    with demo_cluster("--tensor-parallel-size", "3", environment={"TRIREME_LOG_FORMAT": log_format}) as cluster:
        assert cluster.process.wait(timeout=30) == 1
        lines = cluster.log_text().splitlines()
        assert not any("restart" in line for line in lines)
        told = [line for line in lines if "--tensor-parallel-size 3" in line]
        assert told == [lines[-1]]
        reason = json.loads(told[0])["reason"] if log_format == "json" else told[0].removeprefix("api-server: ")
        assert reason.startswith("rank 0 cannot start: ") and '"' not in reason


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--version"], 0, "trireme "),
        (["-v"], 0, "trireme "),
        (["serv"], 2, "unknown command 'serv'; did you mean 'serve'?"),
        (["xyzzy"], 2, "unknown command 'xyzzy'; see trireme --help"),
        (["--hepl"], 2, "unknown command '--hepl'; did you mean '--help'?"),
        (["serve", "--hepl"], 2, "unknown flag --hepl; did you mean --help?"),
        (["serve", "m", "--headless", "--api-server-count", "2"], 2, "--api-server-count 2: with --headless"),
    ],
)
def test_front_door_answers_at_once(words, code, said):
    done = subprocess.run([str(BIN / "trireme"), *words], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == code
    text = done.stdout if code == 0 else done.stderr
    assert said in text and len(text.splitlines()) == 1, text


@pytest.fixture
def front_door(tmp_path):
    """The source tree's ./trireme with all built and installed; `serve` tells what it would serve."""
    script = shutil.copy(Path(__file__).parents[2] / "trireme", tmp_path)
    programs = {
        "build/release/bin/trireme": f'shift; echo "folder=$PWD"; exec {BIN / "trireme"} layout "$@"',
        "tools/dpkg-query": "echo installed",
        "tools/cargo": "echo cargo 1.99.0",
        "tools/ninja": "echo no work to do",
    }
    for name, text in programs.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    (tmp_path / "build/release/build.ninja").touch()

    def serve(*flags) -> dict:
        environment = {**os.environ, "PATH": f"{tmp_path / 'tools'}:{os.environ['PATH']}"}
        done = subprocess.run([script, "serve", *flags], cwd=tmp_path / "tools", env=environment, capture_output=True, text=True,
                              timeout=20, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
        told = dict(line.split("=", 1) for line in done.stdout.splitlines())
        assert told["folder"] == str(tmp_path / "tools"), "paths on the command line begin where the caller is"
        told["model"] = told["model"].removeprefix(f"{tmp_path}/")  # Of the demo's.
        return {name: told[name] for name in ("model", "served_model_name", "data_parallel_size")}

    return serve


@pytest.mark.parametrize(
    ("flags", "model", "name", "engines"),
    [
        ([], "models/demo", "demo", "2"),
        (["--port", "9000"], "models/demo", "demo", "2"),
        (["--port", "9000", "-dp", "3", "--served-model-name", "x"], "models/demo", "x", "3"),
        (["org/name"], "org/name", "org/name", "1"),
        (["--port", "9000", "models/demo-moe"], "models/demo-moe", "models/demo-moe", "1"),
        (["--model", "models/demo-moe", "--port", "9000"], "models/demo-moe", "models/demo-moe", "1"),
        (["--config", "CONFIG"], "models/demo-moe", "a", "1"),
        (["--config", "CONFIG", "-dp", "2"], "models/demo-moe", "a", "2"),
    ],
)
def test_front_door_serves_the_demo_only_where_no_model_is_named(front_door, tmp_path, flags, model, name, engines):
    config = tmp_path / "config.yaml"
    config.write_text("model: models/demo-moe\nserved-model-name: [a, b]\ndata-parallel-size: 1\n")
    told = front_door(*(str(config) if flag == "CONFIG" else flag for flag in flags))
    assert told == {"model": model, "served_model_name": name, "data_parallel_size": engines}


@pytest.mark.parametrize("program", ["api-server", "engine-core", "coordinator", "worker"])
def test_every_program_has_help_and_a_version(program):
    def said(*flags) -> str:
        done = subprocess.run([str(BIN / program), *flags], capture_output=True, text=True, timeout=20, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    assert said("--help").startswith(f"usage: {program} ")
    assert said("--version").split()[0] == program and len(said("--version").split()) == 2


def test_coordinator_that_nobody_started_says_where_it_is():
    port = free_port()
    coordinator = subprocess.Popen([str(BIN / "coordinator"), "--data-parallel-rpc-port", str(port)],
                                   stderr=subprocess.PIPE, text=True)  # fmt: skip
    try:
        said = coordinator.stderr.readline()
        assert "coordinator_alone" in said and f":{port}" in said
    finally:
        coordinator.terminate()
        assert coordinator.wait(timeout=20) == 0
        coordinator.stderr.close()


def test_scheme_of_a_key_has_no_case(keyed):
    status = [keyed.get("/v1/models", headers={"Authorization": f"{scheme} {KEYS[0]}"}).status
              for scheme in ("bearer", "BEARER", "Basic")]  # fmt: skip
    assert status == [200, 200, 401]


def test_config_that_is_a_directory_is_one_line(tmp_path):
    done = subprocess.run([str(BIN / "trireme"), "serve", "--config", str(tmp_path)], capture_output=True, text=True,
                          timeout=20, check=False)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"trireme serve: --config {tmp_path}: is a directory; name the YAML file in it"]
