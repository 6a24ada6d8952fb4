"""Speculative decoding by prompt lookup, whole system: the same answers as without it, in fewer steps."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from cluster import demo_cluster

SPECULATION = ["--speculative-config",
               json.dumps({"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_min": 1, "prompt_lookup_max": 3})]  # fmt: skip
REPETITIVE = "one two three four one two three four one two three four one two"
REQUESTS = [
    {"prompt": REPETITIVE, "max_tokens": 60, "temperature": 0, "ignore_eos": True},
    {"prompt": REPETITIVE, "max_tokens": 60, "temperature": 0.7, "seed": 5, "ignore_eos": True, "logprobs": 3},
    {"prompt": REPETITIVE, "max_tokens": 40, "temperature": 1, "seed": 6, "top_p": 0.9, "min_tokens": 20},
    {"prompt": "The river ran and ran and ran and", "max_tokens": 50, "temperature": 0, "frequency_penalty": 0.4, "logprobs": 1},
    {"prompt": REPETITIVE, "max_tokens": 50, "temperature": 0, "stop": ["ee f", " and the", "."]},
    {"prompt": REPETITIVE, "max_tokens": 50, "temperature": 0.5, "seed": 7, "stop": ["e"], "include_stop_str_in_output": True},
    {"prompt": REPETITIVE, "max_tokens": 30, "temperature": 0, "bad_words": [" three"], "repetition_penalty": 1.2},
    {"prompt": "Once upon a time", "max_tokens": 80, "temperature": 0.9, "seed": 8, "n": 2},
    {"prompt": "Once upon a time", "max_tokens": 1, "temperature": 0},
]  # fmt: skip


def answers(cluster) -> list:
    """All at once, so that they share steps; what depends on the time left out."""

    def ask(body):
        reply = cluster.post("/v1/completions", {"model": "demo", **body})
        assert reply.status == 200, reply.body
        got = reply.json()
        return got["choices"], got["usage"]["completion_tokens"]

    with ThreadPoolExecutor(len(REQUESTS)) as pool:
        return list(pool.map(ask, REQUESTS))


def plain_answers(*more) -> list:
    with demo_cluster(*more) as cluster:
        cluster.wait_ready()
        found = answers(cluster)
        assert cluster.metric("vllm:spec_decode_num_drafts_total") == 0
        return found


@pytest.mark.parametrize("more", [[], ["--tensor-parallel-size", "2"], ["--pipeline-parallel-size", "2"],
                                  ["--max-num-batched-tokens", "16", "--max-num-seqs", "8"]])  # fmt: skip
def test_answers_are_those_of_plain_decoding(more):
    wanted_answers = plain_answers(*more)
    with demo_cluster(*SPECULATION, *more) as cluster:
        cluster.wait_ready()
        for _ in range(5):  # How many guesses fit beside the prompts is a matter of timing: once may be too few.
            for got, wanted in zip(answers(cluster), wanted_answers, strict=True):
                assert got == wanted
            if cluster.metric("vllm:spec_decode_num_accepted_tokens_total") > 20:
                break
        drafted = cluster.metric("vllm:spec_decode_num_draft_tokens_total")
        accepted = cluster.metric("vllm:spec_decode_num_accepted_tokens_total")
        assert 20 < accepted <= drafted
        assert cluster.metric("vllm:spec_decode_num_accepted_tokens_per_pos_total") == accepted
        assert cluster.metric("vllm:spec_decode_num_drafts_total") * 4 >= drafted


def test_a_stream_says_what_the_whole_answer_says():
    with demo_cluster(*SPECULATION) as cluster:
        cluster.wait_ready()
        for body, (choices, _) in zip(REQUESTS[:6], plain_answers(), strict=False):
            reply = cluster.post("/v1/completions", {"model": "demo", "stream": True, **body})
            events = [line[6:] for line in reply.body.decode().split("\n") if line.startswith("data: {")]
            assert "".join(json.loads(event)["choices"][0]["text"] for event in events) == choices[0]["text"]


def test_fewer_steps_are_made_for_as_many_tokens():
    steps = []
    for flags in ([], SPECULATION):
        with demo_cluster(*flags) as cluster:
            cluster.wait_ready()
            cluster.complete(REPETITIVE, tokens=100, ignore_eos=True)
            steps.append(cluster.metric("trireme:engine_steps_total"))
    assert steps[1] < 0.8 * steps[0], steps
