"""Serving on a CPU without AVX2, which --cpu-kernels plain makes of any CPU: the log says so, and answers are right.

Which CPUs get which instructions: worker/kernels/cpu/kernel_choice_test.cc.
"""

import json
from pathlib import Path

import pytest
from cluster import demo_cluster

QUESTIONS = {"The capital of France is": " Paris", "The capital of Japan is": " Tokyo", "The capital of Italy is": " Rome"}


def told_of_kernels(cluster) -> list:
    lines = [json.loads(line) for line in cluster.log_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == "cpu_kernels"]


def check_answers(cluster):
    for prompt, answer in QUESTIONS.items():
        reply = cluster.complete(prompt)
        assert reply.status == 200 and reply.json()["choices"][0]["text"].startswith(answer), reply.body


@pytest.mark.parametrize("flags", [[], ["--quantization", "int8"], ["--quantization", "int4", "--kv-cache-dtype", "int8"]])
def test_plain_kernels_answer_right_and_the_log_warns_of_them(flags):
    with demo_cluster("--cpu-kernels", "plain", *flags) as cluster:
        cluster.wait_ready()
        check_answers(cluster)
        (told,) = told_of_kernels(cluster)
        assert told["level"] == "warning" and told["set"] == "plain"
        assert "no AVX2" in told["note"] and "many times slower" in told["note"]


@pytest.mark.skipif("avx2" not in Path("/proc/cpuinfo").read_text(), reason="this CPU has no AVX2 itself")
def test_vector_instructions_are_named_without_a_warning():
    with demo_cluster() as cluster:
        cluster.wait_ready()
        check_answers(cluster)
        (told,) = told_of_kernels(cluster)
        assert told["level"] == "info" and told["set"] != "plain" and "note" not in told
