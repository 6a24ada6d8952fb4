"""Flags whose effect only whole processes show: who becomes what, what children can be seen to know, what is said while
serving, and what two starts have in common.
"""

import json
import subprocess

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
