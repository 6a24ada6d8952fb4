"""Experts that move to where the load is (--enable-eplb): not a bit changes, /metrics shows what moved, and who is lost meanwhile costs nothing."""

import json
import os
import signal

import pytest
from cluster import metric_by_engine, wait_for
from expert_parallel_test import MODEL, PROMPTS, Asker, answer, answers_at_once, expected, start, two_nodes, worker_of  # noqa: F401

RANKS = 3
CONFIG = json.loads((MODEL / "config.json").read_text())
ROWS_PER_TOKEN = CONFIG["num_hidden_layers"] * CONFIG["num_experts_per_tok"]


def balancing(interval: int, redundant: int, window: int = 8) -> tuple:
    config = {"window_size": window, "step_interval": interval, "num_redundant_experts": redundant, "log_balancedness": True}
    return ("--enable-eplb", "--eplb-config", json.dumps(config))


def log_lines(cluster, event: str) -> list[dict]:
    lines = [line for line in cluster.log_text().splitlines() if line.startswith('{"t"')]
    return [line for line in map(json.loads, lines) if line["event"] == event]


@pytest.mark.parametrize("data,tensor,redundant", [(4, 1, 0), (3, 1, 5), (2, 2, 8), (1, 2, 4)])
def test_ranks_whose_experts_move_answer_as_one(expected, data, tensor, redundant):  # noqa: F811
    # A window that forgets nothing: ranks that were not in the same waves forget at other steps, and their sums differ then.
    with start(data, tensor, *balancing(4, redundant, window=100_000)) as cluster:
        cluster.wait_ready()
        cluster.wait_engines(data)
        for _ in range(2):
            for (rank, prompt), got in answers_at_once(cluster, data).items():
                if tensor == 1:
                    assert got == expected[prompt], (rank, prompt)
                else:
                    assert got[0] == expected[prompt][0], (rank, prompt)
        moves = metric_by_engine(cluster, "trireme:expert_moves_total")
        rows = metric_by_engine(cluster, "trireme:expert_rows_total")
        assert len(moves) == data and sum(moves.values()) > 0
        assert min(rows.values()) > 0
        requests = 2 * data * len(PROMPTS)
        computed = cluster.metric("vllm:prompt_tokens_total") - cluster.metric("vllm:prefix_cache_hits_total")
        computed += cluster.metric("vllm:generation_tokens_total") - requests
        # Of all workers of all engines; the last step of some may not be in it, nor a step made before an end was known.
        assert 0.9 * computed < sum(rows.values()) / ROWS_PER_TOKEN < computed + 2 * requests, (computed, rows)
        assert all(0 < value <= 1 for value in metric_by_engine(cluster, "trireme:expert_load_balancedness").values())
        page = cluster.get("/experts").json()
        assert len(page["layers"]) == CONFIG["num_hidden_layers"] and 0 < page["balancedness"] <= 1
        assert [worker["place"] for worker in page["workers"]] == list(range(data * tensor))
        for number, layer in enumerate(page["layers"]):
            assert len(layer["rows"]) == len(layer["places"]) == CONFIG["num_local_experts"]
            assert sum(layer["rows"]) == sum(worker["rows"][number] for worker in page["workers"]) > 0
            assert layer["max_tokens"] == max(worker["rows"][number] for worker in page["workers"])
            assert all(0 <= place < data * tensor for places in layer["places"] for place in places) and all(layer["places"])
        lines = log_lines(cluster, "experts_balanced")
        assert len(lines) > 3 and max(line["members"] for line in lines) == data * tensor


@pytest.mark.parametrize("kind", ["worker killed", "rank killed"])
def test_a_rank_that_is_lost_while_experts_move_costs_no_bit(expected, kind):  # noqa: F811
    with start(RANKS, 1, *balancing(1, 4)) as cluster:
        cluster.wait_ready()
        cluster.wait_engines(RANKS)
        askers = [Asker(cluster, rank, expected) for rank in (0, 2)]
        wait_for("answers", lambda: min(asker.count for asker in askers) >= 3)
        os.kill(worker_of(cluster, 1) if kind == "worker killed" else cluster.find("rank 1").pid, signal.SIGKILL)
        before = [asker.count for asker in askers]
        wait_for("the others go on", lambda: all(a.count >= n + 6 for a, n in zip(askers, before)), 20)
        wait_for("rank 1 serves again", lambda: answer(cluster, PROMPTS[0], 1) == expected[PROMPTS[0]], 30)
        for asker in askers:
            asker.stop()
            assert asker.wrong == []
        for (rank, prompt), got in answers_at_once(cluster, RANKS).items():
            assert got == expected[prompt], (rank, prompt)
        assert sum(metric_by_engine(cluster, "trireme:expert_moves_total").values()) > 0


def test_experts_that_move_to_another_node_are_loaded_there(expected):  # noqa: F811
    with two_nodes(2, *balancing(8, 4)) as (front, there):
        for _ in range(3):
            for (rank, prompt), got in answers_at_once(front, 4).items():
                assert got == expected[prompt], (rank, prompt)
        assert sum(metric_by_engine(front, "trireme:expert_moves_total").values()) > 0
        assert '"event":"experts_taken_over"' in front.log_text() + there.log_text()
        to_be_loaded = [line["experts_to_be_loaded"] for line in log_lines(front, "experts_balanced")]
        assert max(to_be_loaded) > 0


def test_experts_that_stay_where_they_are_are_not_counted():
    with start(2, 1) as cluster:
        cluster.wait_ready()
        cluster.wait_engines(2)
        assert answer(cluster, PROMPTS[0], 1)[0] != 503
        page = cluster.get("/experts")
        assert page.status == 200 and page.json() == {
            "window_size": 0, "balancedness": None, "avg_tokens": 0, "max_tokens": 0, "layers": [], "workers": []
        }  # fmt: skip


def test_more_redundant_experts_than_there_is_room_for_are_refused_with_the_number():
    with start(2, 1, *balancing(1, 9)) as cluster:
        wait_for("it says so", lambda: "num_redundant_experts 9 is more than 8" in cluster.log_text())
