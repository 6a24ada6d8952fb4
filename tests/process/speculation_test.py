"""Speculative decoding by prompt lookup and with a draft model, whole system: the same answers as without it, in fewer steps."""

import functools
import json
import random
import struct
from concurrent.futures import ThreadPoolExecutor

import pytest
from bad_model_test import Outcome
from cluster import DEMO, demo_cluster

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


@functools.cache
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
    assert steps[1] < 0.9 * steps[0], steps  # 0.77 if it always guessed four.


def write_draft_model(directory, vocabulary=2048):
    """A Llama of one narrow layer with random weights: nearly all it guesses is wrong."""
    hidden, heads, kv_heads, head_dim, inner = 32, 4, 2, 8, 64
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocabulary, "hidden_size": hidden,
              "intermediate_size": inner, "num_hidden_layers": 1, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
              "head_dim": head_dim, "max_position_embeddings": 100, "rms_norm_eps": 1e-5, "tie_word_embeddings": True}  # fmt: skip
    layer = "model.layers.0."
    shapes = {"model.embed_tokens.weight": [vocabulary, hidden], "model.norm.weight": [hidden],
              layer + "input_layernorm.weight": [hidden], layer + "post_attention_layernorm.weight": [hidden],
              layer + "self_attn.q_proj.weight": [heads * head_dim, hidden], layer + "self_attn.k_proj.weight": [kv_heads * head_dim, hidden],
              layer + "self_attn.v_proj.weight": [kv_heads * head_dim, hidden], layer + "self_attn.o_proj.weight": [hidden, heads * head_dim],
              layer + "mlp.gate_proj.weight": [inner, hidden], layer + "mlp.up_proj.weight": [inner, hidden],
              layer + "mlp.down_proj.weight": [hidden, inner]}  # fmt: skip
    numbers = random.Random(7)
    header, data = {}, b""
    for name, shape in shapes.items():
        count = functools.reduce(lambda a, b: a * b, shape)
        piece = struct.pack(f"<{count}f", *(numbers.uniform(-0.5, 0.5) for _ in range(count)))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(piece)]}
        data += piece
    head = json.dumps(header).encode()
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + data)
    return directory


def draft_flags(model, **more) -> list:
    return ["--speculative-config", json.dumps({"model": str(model), "num_speculative_tokens": 3, **more})]


@pytest.mark.parametrize("flags", [[], ["--tensor-parallel-size", "2"]])
def test_answers_with_a_random_draft_model_are_those_of_plain_decoding(tmp_path, flags):
    draft = write_draft_model(tmp_path / "draft")
    with demo_cluster(*draft_flags(draft), *flags) as cluster:
        cluster.wait_ready()
        assert answers(cluster) == plain_answers(*flags)
        drafted = cluster.metric("vllm:spec_decode_num_draft_tokens_total")
        accepted = cluster.metric("vllm:spec_decode_num_accepted_tokens_total")
        assert drafted > 20
        assert accepted < 0.2 * drafted
        assert drafted < 0.5 * cluster.metric("vllm:generation_tokens_total"), "few are guessed where few are right"


@pytest.mark.parametrize(("flags", "fields"), [(["--tensor-parallel-size", "2"], {"draft_tensor_parallel_size": 1}),
                                               (["--pipeline-parallel-size", "2"], {}),
                                               ([], {"quantization": "int8"})])  # fmt: skip
def test_the_model_itself_as_its_draft_model_is_nearly_always_right(flags, fields):
    with demo_cluster(*draft_flags(DEMO, **fields), *flags) as cluster:
        cluster.wait_ready()
        assert answers(cluster) == plain_answers(*flags)
        drafted = cluster.metric("vllm:spec_decode_num_draft_tokens_total")
        accepted = cluster.metric("vllm:spec_decode_num_accepted_tokens_total")
        assert accepted > 0.85 * drafted > 100
        assert cluster.metric("vllm:spec_decode_num_accepted_tokens_per_pos_total") == accepted
        assert "draft_model_loaded" in cluster.log_text()


def test_what_cannot_be_a_draft_model_is_refused_at_the_start(tmp_path):
    def refusal(model, **more):
        return Outcome(("api-server",), [DEMO, *draft_flags(model, **more)])

    other = write_draft_model(tmp_path / "other", vocabulary=2000)
    refusal(other).check("--speculative-config", str(other), "2000", str(DEMO), "2048")
    refusal(tmp_path / "nowhere").check("--speculative-config", str(tmp_path / "nowhere"), "no such directory")
    refusal(other, num_speculative_tokens=0).check("--speculative-config", "num_speculative_tokens 0 is not in 1 to 16")
    fitting = write_draft_model(tmp_path / "fitting")
    refusal(fitting, max_model_len=1000).check("--speculative-config", "max_model_len 1000", "100")
    empty = tmp_path / "empty"
    empty.mkdir()
    refusal(empty).check("--speculative-config", str(empty / "config.json"))
