"""Requests whose logits are no numbers, whole system: each fails alone, the log and a counter say so, and those beside it
are right to the bit, in blocks of KV memory that such requests have used too.

The model is the demo model with an embedding of one token that is NaN (and a head of its own, or every request had one).
"""

import json
import shutil
import struct
from concurrent.futures import ThreadPoolExecutor

import pytest
from bad_model_test import EMBED, read_safetensors, write_safetensors
from cluster import DEMO, Cluster

POISON = 2000  # No answer here has this token.
BAD_NAN = struct.pack("<H", 0x7FC0)
# Prompts take several steps, and all blocks are used again and again.
FLAGS = ["--served-model-name", "demo", "--max-num-batched-tokens", "24", "--max-num-seqs", "6", "--max-model-len", "128",
         "--num-gpu-blocks-override", "20"]  # fmt: skip
GOOD = [
    {"prompt": "The capital of France is", "max_tokens": 16, "temperature": 0, "logprobs": 3},
    {"prompt": "The capital of Japan is", "max_tokens": 30, "temperature": 0, "ignore_eos": True, "logprobs": 1},
    {"prompt": "Once upon a time there was a king who had three sons, and one of them went out into the wide world", "max_tokens": 40,
     "temperature": 0.9, "seed": 3, "logprobs": 2},
    {"prompt": "one two three four one two three four one two", "max_tokens": 40, "temperature": 0.7, "seed": 4},
    {"prompt": "The river ran and ran", "max_tokens": 24, "temperature": 0, "frequency_penalty": 0.4, "echo": True, "logprobs": 2},
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = shutil.copytree(DEMO, tmp_path_factory.mktemp("bad_logits") / "model")
    header, data = read_safetensors(directory / "model.safetensors")
    begin, end = header[EMBED]["data_offsets"]
    rows, columns = header[EMBED]["shape"]
    assert header[EMBED]["dtype"] == "BF16" and end - begin == 2 * rows * columns
    header["lm_head.weight"] = {**header[EMBED], "data_offsets": [len(data), len(data) + end - begin]}
    poisoned = begin + 2 * columns * POISON
    data = data[:poisoned] + BAD_NAN * columns + data[poisoned + 2 * columns :] + data[begin:end]
    write_safetensors(directory / "model.safetensors", header, data)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    return directory


@pytest.fixture(scope="module")
def cluster(model):
    with Cluster([str(model), *FLAGS]) as running:
        running.wait_ready()
        yield running


def ask(cluster, body):
    return cluster.post("/v1/completions", {"model": "demo", **body})


def choices_of(reply) -> list:
    assert reply.status == 200, reply.body
    return reply.json()["choices"]


@pytest.fixture(scope="module")
def answers(cluster):
    """What the good ones are told alone."""
    return [choices_of(ask(cluster, body)) for body in GOOD]


def tokens_of(cluster, text: str) -> list[int]:
    return cluster.post("/tokenize", {"model": "demo", "prompt": text}).json()["tokens"]


def check_failed(reply):
    assert reply.status == 500, (reply.status, reply.body)
    error = reply.json()["error"]
    assert error["type"] == "internal_error" and error["code"] == 500
    assert error["message"] == "an internal error; the log has the reason"


def corrupted(cluster) -> int:
    return int(cluster.metric("vllm:corrupted_requests_total"))


def test_answers_are_those_of_the_model_that_has_no_such_token(answers):
    with Cluster([str(DEMO), *FLAGS]) as untouched:
        untouched.wait_ready()
        assert [choices_of(ask(untouched, body)) for body in GOOD] == answers
    assert answers[0][0]["text"].startswith(" Paris")


def test_a_request_with_the_token_fails_alone_and_those_beside_it_are_right_to_the_bit(cluster, answers):
    family = {process.pid for process in cluster.family()}
    before = corrupted(cluster)
    shared = tokens_of(cluster, GOOD[2]["prompt"])
    assert 16 < len(shared) < 50, "more than a block"
    bad = [
        {"prompt": [POISON]},
        {"prompt": [*shared, POISON]},  # What goes before it is other requests' prefix too.
        {"prompt": [POISON, *shared, *shared]},  # Only the last piece samples.
        {"prompt": [*shared, POISON, *shared], "temperature": 1, "top_p": 0.5, "logprobs": 2},
        {"prompt": [5, POISON], "max_tokens": 0, "echo": True, "logprobs": 1},  # Of the prompt alone.
    ]  # fmt: skip
    rounds = 4
    bodies = [body for pair in zip(GOOD, bad, strict=True) for body in pair] * rounds
    with ThreadPoolExecutor(len(bodies)) as pool:
        replies = list(pool.map(lambda body: ask(cluster, body), bodies))
    for reply in replies[1::2]:
        check_failed(reply)
    for index, reply in enumerate(replies[::2]):
        assert choices_of(reply) == answers[index % len(GOOD)], GOOD[index % len(GOOD)]
    assert corrupted(cluster) - before == len(bad) * rounds
    assert [choices_of(ask(cluster, body)) for body in GOOD] == answers, "its blocks are used again"
    assert {process.pid for process in cluster.family()} == family, "nobody was started anew"
    assert "The model's output for this request is not a number." in cluster.log_text()


def test_an_answer_that_comes_upon_the_token_ends_there(cluster, answers):
    before = corrupted(cluster)
    body = {**GOOD[0], "logit_bias": {str(POISON): 100}}
    check_failed(ask(cluster, body))
    reply = ask(cluster, {**body, "stream": True})
    assert reply.status == 200, "it had begun"
    *events, last, done = [line[6:] for line in reply.body.decode().split("\n") if line.startswith("data: ")]
    assert done == "[DONE]"
    assert json.loads(last)["error"]["type"] == "internal_error"
    told = [json.loads(event)["choices"][0] for event in events]
    assert len(told) == 1 and told[0]["finish_reason"] is None, "the token itself, and nothing after it"
    assert corrupted(cluster) - before == 2
    assert choices_of(ask(cluster, GOOD[0])) == answers[0]
