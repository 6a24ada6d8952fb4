"""The request field `priority` from the client to the engine's queue: the smaller number goes first, if the policy says so."""

import threading

import pytest
from cluster import demo_cluster, wait_for

# One request at a time, whose steps take as long as they are told to.
ONE_AT_A_TIME = ["--max-num-seqs", "1", "--distributed-executor-backend", "sim",
                 "--sim-profile", "base_us=4000,prefill_us=5,decode_us=20"]  # fmt: skip


def order_of_answers(cluster, priorities) -> list:
    """One request runs while these are queued, in this order; the order in which they are answered."""
    answered, threads, lock = [], [], threading.Lock()

    def ask(priority, tokens):
        reply = cluster.complete(f"Number {priority} is", tokens=tokens, ignore_eos=True, priority=priority)
        assert reply.status == 200, reply.body
        with lock:
            answered.append(priority)

    def start(priority, tokens):
        threads.append(threading.Thread(target=ask, args=(priority, tokens)))
        threads[-1].start()

    start(0, 500)
    wait_for("the first one runs", lambda: cluster.metric("vllm:num_requests_running") == 1)
    for count, priority in enumerate(priorities, 1):
        start(priority, 20)
        wait_for(f"{count} wait", lambda: cluster.metric("vllm:num_requests_waiting") == count)
    assert not answered
    for thread in threads:
        thread.join(timeout=60)
    assert answered.pop(0) == 0
    return answered


@pytest.mark.parametrize(("policy", "expected"), [("priority", [-3, 1, 5]), ("fcfs", [5, -3, 1])])
def test_smaller_priority_is_served_first_under_the_policy_of_that_name(policy, expected):
    with demo_cluster("--scheduling-policy", policy, *ONE_AT_A_TIME) as cluster:
        cluster.wait_ready()
        assert order_of_answers(cluster, [5, -3, 1]) == expected


def test_priority_that_is_no_integer_is_refused_by_name():
    with demo_cluster("--scheduling-policy", "priority", *ONE_AT_A_TIME) as cluster:
        cluster.wait_ready()
        for wrong in ("high", 1.5, 2**40):
            reply = cluster.complete("x", priority=wrong)
            assert reply.status == 400 and reply.json()["error"]["param"] == "priority", reply.body
