"""Embeddings by the real OpenAI client, against what transformers computed; and what is refused."""

import base64
import math
import struct
import sys
import threading
from pathlib import Path

import openai
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "process"))
from cluster import DEMO, Cluster, http, wait_for  # noqa: E402
from embedding_models import golden_of, write_model  # noqa: E402


def serve(directory, *flags):
    return Cluster([str(directory), "--served-model-name", "tiny", "--dtype", "float32", *flags])


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    directory = write_model("bert", tmp_path_factory.mktemp("bert"), "mean_tokens")
    with serve(directory, "--data-parallel-size", "2", "--max-num-batched-tokens", "48", "--max-num-seqs", "8",
               "--max-num-queued-reqs", "3000", "--max-num-queued-tokens", "100000") as running:
        running.wait_ready()
        running.wait_engines(2)
        yield running


@pytest.fixture(scope="module")
def client(bert):
    return openai.OpenAI(base_url=f"{bert.url}/v1", api_key="none", max_retries=0)


def normalised(vector):
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector]


def difference(a, b):
    assert len(a) == len(b)
    return max(abs(x - y) for x, y in zip(a, b))


def fp32(vector):
    return struct.pack(f"<{len(vector)}f", *vector)


def refused(ask, status, *words):
    with pytest.raises(openai.APIStatusError) as failure:
        ask()
    assert failure.value.status_code == status, failure.value.message
    for word in words:
        assert word in failure.value.message
    return failure.value


def test_a_vector_is_that_of_transformers_in_both_encodings(client):
    golden = golden_of("bert")
    tokens = golden["tokens"]
    as_base64 = client.embeddings.create(model="tiny", input=tokens)  # The client's default.
    as_floats = client.embeddings.create(model="tiny", input=[tokens], encoding_format="float")
    assert fp32(as_base64.data[0].embedding) == fp32(as_floats.data[0].embedding)
    assert difference(as_floats.data[0].embedding, normalised(golden["mean"])) < 1e-4
    assert as_floats.usage.prompt_tokens == as_floats.usage.total_tokens == len(tokens)
    assert as_floats.object == "list" and as_floats.model == "tiny"


def test_base64_is_little_endian_fp32(bert, client):
    body = {"model": "tiny", "input": "hello", "encoding_format": "base64"}
    text = bert.post("/v1/embeddings", body).json()["data"][0]["embedding"]
    floats = struct.unpack("<64f", base64.b64decode(text, validate=True))
    assert list(floats) == client.embeddings.create(model="tiny", input="hello").data[0].embedding


def test_a_batch_is_answered_in_order_and_each_as_if_alone(client):
    inputs = [chr(ord("a") + i % 26) * (1 + i % 7) for i in range(40)]
    together = client.embeddings.create(model="tiny", input=inputs)
    assert [x.index for x in together.data] == list(range(40))
    for text, vector in list(zip(inputs, together.data))[::9]:
        assert client.embeddings.create(model="tiny", input=text).data[0].embedding == vector.embedding
    # [CLS], a letter a token, [SEP].
    assert together.usage.prompt_tokens == sum(len(text) + 2 for text in inputs)


def test_text_gets_its_special_tokens(client):
    text = client.embeddings.create(model="tiny", input="ab")
    ids = client.embeddings.create(model="tiny", input=[2, 4, 31, 3])
    assert text.data[0].embedding == ids.data[0].embedding
    bare = client.embeddings.create(model="tiny", input="ab", extra_body={"add_special_tokens": False})
    assert bare.usage.prompt_tokens == 2


def test_a_text_that_is_cut_keeps_its_last_special_token(client):
    cut = client.embeddings.create(model="tiny", input="abcdef", extra_body={"truncate_prompt_tokens": 4})
    ids = client.embeddings.create(model="tiny", input=[2, 4, 31, 3])
    assert cut.usage.prompt_tokens == 4
    assert cut.data[0].embedding == ids.data[0].embedding


def test_the_server_normalises_unless_told(client):
    plain = client.embeddings.create(model="tiny", input="hello", extra_body={"normalize": False}).data[0].embedding
    unit = client.embeddings.create(model="tiny", input="hello").data[0].embedding
    assert abs(sum(x * x for x in unit) - 1) < 1e-5
    assert difference(normalised(plain), unit) < 1e-6


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"input": []}, ["input"]),
        ({"input": [1, 60]}, ["input", "60", "vocabulary"]),
        ({"input": "a", "dimensions": 8}, ["tiny", "matryoshka", "64"]),
        ({"input": "a", "encoding_format": "int8"}, ["encoding_format", "float, base64", "int8"]),
        ({"input": ["a"] * 2049}, ["input", "2048", "2049"]),
        ({"input": "a" * 60}, ["input", "62", "48"]),
        ({"input": ["a b " * 40]}, ["input", "64 tokens", "82"]),
        ({"input": "a", "model": "other"}, ["other"]),
    ],
    ids=["empty", "vocabulary", "dimensions", "encoding", "inputs", "one-step", "positions", "model"],
)
def test_what_cannot_be_is_refused_with_the_field_and_the_numbers(bert, fields, words):
    answer = bert.post("/v1/embeddings", {"model": "tiny", **fields})
    assert answer.status == (404 if "model" in fields else 400), answer.body
    if words[0] == "input" and "48" in words:
        words = words[1:]  # The engine says it.
    for word in words:
        assert word in answer.json()["error"]["message"] + str(answer.json()["error"]["param"])


def test_an_embedding_model_generates_no_text(client):
    refused(lambda: client.completions.create(model="tiny", prompt="a"), 400, "tiny", "/v1/embeddings")
    refused(lambda: client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "a"}]), 400, "tiny")
    assert [m.id for m in client.models.list()] == ["tiny"]


def test_2048_inputs_are_answered(bert, client):
    before = bert.metric("vllm:request_success_total")
    answer = client.embeddings.create(model="tiny", input=["abc"] * 2048)
    assert len(answer.data) == 2048
    assert len({tuple(x.embedding) for x in answer.data}) == 1, "the same bits in any company"
    assert bert.metric("vllm:request_success_total") == before + 2048
    assert bert.metric("vllm:prompt_tokens_total") >= 5 * 2048


def test_a_client_that_leaves_aborts_all_its_inputs(bert):
    def ask():
        try:
            http(f"{bert.url}/v1/embeddings", {"model": "tiny", "input": ["abcdefgh" * 5] * 2048}, timeout=0.05)
        except OSError:
            pass

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    wait_for("no request left", lambda: bert.metric("vllm:num_requests_running") + bert.metric(
        "vllm:num_requests_waiting") == 0)
    assert bert.post("/v1/embeddings", {"model": "tiny", "input": "a"}).status == 200


def test_a_decoder_pools_its_last_token_over_two_ranks(tmp_path):
    golden = golden_of("qwen3_embedding")
    directory = write_model("qwen3_embedding", tmp_path / "qwen3", "lasttoken", is_matryoshka=True, length=40)
    # In chunks: 32 tokens at 20 a step.
    with serve(directory, "--tensor-parallel-size", "2", "--max-num-batched-tokens", "20", "--max-num-seqs", "4") as running:
        running.wait_ready()
        client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)
        whole = client.embeddings.create(model="tiny", input=golden["tokens"]).data[0].embedding
        assert difference(whole, normalised(golden["last"])) < 1e-4
        few = client.embeddings.create(model="tiny", input=golden["tokens"], dimensions=16).data[0].embedding
        assert difference(few, normalised(golden["last"][:16])) < 1e-4
        refused(lambda: client.embeddings.create(model="tiny", input="a", dimensions=65), 400, "dimensions", "64", "65")
        refused(lambda: client.embeddings.create(model="tiny", input="a" * 39), 400, "40 tokens", "41")


def test_flags_say_what_a_directory_does_not(tmp_path):
    golden = golden_of("qwen3_embedding")
    directory = write_model("qwen3_embedding", tmp_path / "qwen3")
    config = '{"pooling_type": "CLS", "normalize": false}'
    with serve(directory, "--runner", "pooling", "--pooler-config", config) as running:
        running.wait_ready()
        body = {"input": golden["tokens"]}
        vector = running.post("/v1/embeddings", body).json()["data"][0]["embedding"]
        largest = max(map(abs, golden["cls"]))
        assert difference(vector, golden["cls"]) < 1e-4 * largest


def test_a_model_that_generates_gives_no_embeddings():
    with Cluster([str(DEMO), "--served-model-name", "demo"]) as running:
        running.wait_ready()
        answer = running.post("/v1/embeddings", {"model": "demo", "input": "a"})
        assert answer.status == 400
        assert "--runner pooling" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("pooling", "flags", "words"),
    [("max_tokens", (), ["1_Pooling/config.json", "pooling_mode_max_tokens"]),
     (None, ("--runner", "generate"), ["--runner generate", "BertModel"])],
    ids=["pooling", "runner"],
)
def test_a_start_that_cannot_be_names_why(tmp_path, pooling, flags, words):
    directory = write_model("bert", tmp_path / "bert", pooling)
    with serve(directory, *flags) as running:
        wait_for("the end", lambda: running.process.poll() is not None)
        assert running.process.returncode != 0
        for word in words:
            assert word in running.log_text()
