"""`trireme top` and GET /cluster: who holds the others up is named within seconds, while it does; and all is well before and after."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from cluster import BIN, demo_cluster, free_port, wait_for
from expert_parallel_test import PROMPTS, Asker, answer, start, worker_of
from lockstep_test import FLAGS, RANKS, Stream
from pause_test import in_background

NOT_WELL, WRONG_FLAGS, NO_ANSWER = 1, 2, 3


def top(*words, seconds=30, **more) -> subprocess.CompletedProcess:
    return subprocess.run([str(BIN / "trireme"), "top", *map(str, words)], capture_output=True, text=True, timeout=seconds, **more)


def look(cluster) -> tuple[int, dict]:
    done = top("--url", cluster.url, "--once", "--json")
    assert done.returncode in (0, NOT_WELL), done.stderr
    return done.returncode, json.loads(done.stdout)


def wait_well(cluster):
    wait_for("all is well", lambda: look(cluster)[0] == 0, 30)


def stall_lines(cluster) -> list[dict]:
    lines = [line[line.index("{") :] for line in cluster.log_text().split("\n") if '"step_slow"' in line or '"lockstep_waits"' in line]
    return [json.loads(line) for line in lines]


def watch(cluster, is_enough, seconds: float) -> list[dict]:
    """Each stall that was seen, with its rank, until they are enough; at most so long after now."""
    seen, deadline = [], time.monotonic() + seconds
    while not is_enough(seen):
        assert time.monotonic() < deadline, f"not within {seconds} s: {seen}"
        status, page = look(cluster)
        stalls = [{**engine["stall"], "rank": engine["rank"]} for engine in page["engines"] if engine.get("stall")]
        assert not stalls or status == NOT_WELL
        seen += stalls
    return seen


def test_a_stopped_worker_is_named_with_who_waits_for_it_and_all_is_well_when_it_is_back():
    with start(3, 1) as cluster:
        cluster.wait_ready()
        cluster.wait_engines(3)
        wait_well(cluster)
        expected = {prompt: answer(cluster, prompt, 0) for prompt in PROMPTS}
        askers = [Asker(cluster, rank, expected) for rank in (0, 2)]
        wait_for("answers", lambda: min(asker.count for asker in askers) >= 3)
        victim = worker_of(cluster, 1)
        pids = {rank: cluster.find(f"rank {rank}").pid for rank in range(3)}
        os.kill(victim, signal.SIGSTOP)

        def is_enough(seen):
            waiters = {stall["rank"] for stall in seen if stall["awaits_ranks"] == [1]}
            return waiters == {0, 2} and any(stall["worker_pid"] == victim for stall in seen)

        for stall in watch(cluster, is_enough, 5):
            if stall["rank"] == 1:
                assert stall["worker_pid"] == victim
            else:
                assert stall["phase"] in ("exchange", "dispatch", "combine"), stall
            assert stall["step"] > 0 and stall["epoch"] > 0 and 0.9 < stall["seconds"] < 6
        wait_for("each is in the log", lambda: {line["rank"] for line in stall_lines(cluster)} == {0, 1, 2}, 1)
        for line in stall_lines(cluster):
            assert (line["pid"], line["node"]) == (pids[line["rank"]], socket.gethostname())
            assert line["epoch"] > 0 and line["wave"] > 0 and line["step"] > 0 and 0.9 < line["seconds"] < 5
            if line["rank"] == 1:
                assert (line["worker_pid"], line["awaits_ranks"]) == (victim, "")
            else:
                assert (line["awaits_ranks"], line["awaits_nodes"], line["worker_pid"]) == ("1", socket.gethostname(), 0)
                assert line["phase"] in ("exchange", "dispatch", "combine"), line
        wait_well(cluster)
        for asker in askers:
            asker.stop()
            assert asker.wrong == []
        page = top("--url", cluster.url, "--once")
        assert page.returncode == 0
        told = re.search(rf"rank 1 was restarted; last: .*\(pid {victim}\).*; its stacks: (\S+)\n", page.stdout)
        assert told and f"process {victim}" in Path(told[1]).read_text(), page.stdout
        Path(told[1]).unlink()


def test_a_worker_of_an_idle_engine_that_owes_an_answer_is_named_and_replaced():
    with start(2, 1) as cluster:
        cluster.wait_ready()
        cluster.wait_engines(2)
        wait_well(cluster)
        assert cluster.get("/experts").status == 200
        victim = worker_of(cluster, 1)
        os.kill(victim, signal.SIGSTOP)
        time.sleep(1.1)  # For so long the tables of before are told again.
        asked, replies = in_background(lambda: cluster.get("/experts"))
        stall = watch(cluster, lambda seen: seen, 5)[0]
        assert (stall["rank"], stall["worker_pid"], stall["phase"]) == (1, victim, "queue")
        asked.join(20)
        assert [reply.status for reply in replies] == [200], "told by those who are left"
        wait_well(cluster)
        assert worker_of(cluster, 1) != victim
        assert cluster.get("/experts").status == 200
        for path in re.findall(r"its stacks: (\S+)", top("--url", cluster.url, "--once").stdout):
            Path(path).unlink()


def test_a_stopped_rank_is_named_by_those_who_wait_for_it():
    with demo_cluster(*FLAGS) as cluster:
        cluster.wait_ready()
        cluster.wait_engines(RANKS)
        wait_well(cluster)
        stream = Stream(cluster, 0, 1500).wait_tokens(100)
        frozen = cluster.find("rank 1").pid
        os.kill(frozen, signal.SIGSTOP)
        stalls = watch(cluster, lambda seen: {0, 2} <= {stall["rank"] for stall in seen}, 5)
        assert {(stall["phase"], *stall["awaits_ranks"]) for stall in stalls} == {("exchange", 1)}
        os.kill(frozen, signal.SIGCONT)
        stream.check_whole()
        wait_well(cluster)


def test_a_coordinator_that_starts_no_wave_is_named_by_who_has_work():
    with demo_cluster(*FLAGS) as cluster:
        cluster.wait_ready()
        cluster.wait_engines(RANKS)
        wait_well(cluster)
        stopped = cluster.find("coordinator").pid
        os.kill(stopped, signal.SIGSTOP)
        stream = Stream(cluster, 0, 20)
        stalls = watch(cluster, lambda seen: seen, 5)
        assert {(stall["rank"], stall["phase"]) for stall in stalls} == {(0, "queue")}
        assert stalls[0]["text"].endswith("the coordinator is awaited")
        wait_for("it is silent", lambda: not look(cluster)[1]["coordinator_heard"], 10)
        os.kill(stopped, signal.SIGCONT)
        stream.check_whole()
        wait_well(cluster)


def test_waves_are_told_also_by_ranks_that_only_take_part():
    with demo_cluster(*FLAGS) as cluster:
        cluster.wait_ready()
        cluster.wait_engines(RANKS)

        def asleep():
            return [engine["wave"]["asleep"] for engine in look(cluster)[1]["engines"]]

        wait_for("all sleep", lambda: asleep() == [True] * RANKS, 5)
        stream = Stream(cluster, 0, 800).wait_tokens(10)
        wait_for("all are in the wave", lambda: asleep() == [False] * RANKS, 3)
        stream.check_whole()
        wait_for("all sleep again", lambda: asleep() == [True] * RANKS, 5)


@pytest.fixture(scope="module")
def small():
    with demo_cluster("--distributed-executor-backend", "sim", "--api-key", "secret") as running:
        running.wait_ready()
        yield running


def test_a_page_has_a_row_for_each_engine_and_its_key_may_come_by_the_environment(small):
    # A front end that is ready may hear of the engine's state a moment later.
    wait_for("all is well", lambda: top("--url", small.url, "--once", "--api-key", "secret").returncode == 0)
    done = top("--url", small.url, "--once", "--api-key", "secret")
    assert done.returncode == 0, done.stderr
    head, row = done.stdout.strip().split("\n")[-2:]
    assert head.split() == ["NODE", "RANK", "PID", "STATE", "RUN", "WAIT", "KV%", "TOK/S", "WAVE", "SINCE"]
    assert row.split()[1:4] == ["0", str(small.find("rank 0").pid), "ready"] and "\x1b" not in done.stdout
    for name in ("TRIREME_API_KEY", "VLLM_API_KEY"):
        assert top("--url", small.url, "--once", env={**os.environ, name: "secret"}).returncode == 0


def test_the_route_changes_nothing_and_is_read_only(small):
    key = {"Authorization": "Bearer secret"}
    assert small.get("/cluster").status == 401
    page = small.get("/cluster", headers=key).json()
    assert (page["coordinator_heard"], page["draining"]) == (True, False) and page["epoch"] > 0
    assert [front["pid"] for front in page["front_ends"]] == [small.find("api-server 0").pid]
    assert small.post("/cluster", {}, headers=key).status == 405


def test_what_cannot_work_is_one_line_that_says_what_to_do(small):
    nobody = f"http://127.0.0.1:{free_port()}"
    for words, status, message in (
        (("--url", nobody), NO_ANSWER, f"trireme top: no server at {nobody} (connect: Connection refused); is it running"),
        (("--url", small.url), NO_ANSWER, f"trireme top: {small.url} wants another key than the one given, or one at all"),
        (("--url", small.url + "/x", "--api-key", "secret"), NO_ANSWER, f"trireme top: {small.url}/x has no /cluster"),
        (("--url", "10.0.0.1"), WRONG_FLAGS, "trireme top: --url: '10.0.0.1' does not begin with http://; see trireme top --help"),
        (("--interval", "0"), WRONG_FLAGS, "trireme top: --interval: 0 is not from 0.1 to 3600 seconds"),
        (("--interval", "soon"), WRONG_FLAGS, "trireme top: --interval: 'soon' is not a number"),
        (("--api-key", "a\nb"), WRONG_FLAGS, "trireme top: --api-key: a key has no control characters"),
        (("--onc",), WRONG_FLAGS, "trireme top: unknown flag --onc; did you mean --once?"),
    ):
        done = top(*words, env={k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")})
        assert done.returncode == status, (words, done)
        assert done.stderr.startswith(message) and done.stderr.count("\n") == 1 and done.stdout == "", done


def test_a_key_of_the_environment_is_checked_like_one_of_the_flag(small):
    for name in ("TRIREME_API_KEY", "VLLM_API_KEY"):
        done = top("--url", small.url, "--once", env={**{k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}, name: "a\nb"})
        assert done.returncode == WRONG_FLAGS and done.stdout == "", done
        assert done.stderr == f"trireme top: {name}: a key has no control characters; see trireme top --help\n"
        given = top("--url", small.url, "--once", "--api-key", "secret", env={**os.environ, name: "a\nb"})
        assert given.returncode == 0, given.stderr


def test_a_front_end_that_stands_still_is_told_from_one_that_is_not_there(small):
    stopped = small.find("api-server 0").pid
    os.kill(stopped, signal.SIGSTOP)
    done = top("--url", small.url, "--once")
    os.kill(stopped, signal.SIGCONT)
    assert done.returncode == NO_ANSWER and "gave no answer within 5 s" in done.stderr, done.stderr


def test_a_terminal_is_redrawn_and_left_as_it_was(small):
    leader, follower = os.openpty()
    program = [str(BIN / "trireme"), "top", "--url", small.url, "--api-key", "secret", "--interval", "0.1"]
    running = subprocess.Popen(program, stdout=follower, stderr=follower, stdin=follower)
    os.close(follower)
    shown = b""
    try:
        while shown.count(b"\x1b[H") < 3:
            shown += os.read(leader, 65536)
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=10) == -signal.SIGINT
        with contextlib.suppress(OSError):  # The end of what a terminal got that nobody has open.
            while piece := os.read(leader, 65536):
                shown += piece
    finally:
        running.kill()
        os.close(leader)
    assert shown.startswith(b"\x1b[?1049h\x1b[?25l") and b"trireme " in shown
    assert shown.endswith(b"\x1b[?25h\x1b[?1049l")
