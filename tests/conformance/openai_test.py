"""The real OpenAI clients, Python's and JavaScript's, against the demo cluster."""

import json
import subprocess
import sys
from pathlib import Path

import openai
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "process"))
from cluster import demo_cluster  # noqa: E402

JS = Path(__file__).parent / "js"
PROMPT = "The capital of France is"
QUESTION = [{"role": "user", "content": "What is the capital of Italy?"}]


@pytest.fixture(scope="module")
def cluster():
    with demo_cluster("--data-parallel-size", "2", environment={"VLLM_SERVER_DEV_MODE": "1"}) as running:
        running.wait_ready()
        yield running


@pytest.fixture(scope="module")
def client(cluster):
    return openai.OpenAI(base_url=f"{cluster.url}/v1", api_key="none", max_retries=0)


def test_models_are_listed(client):
    assert [m.id for m in client.models.list()] == ["demo"]


def test_completion_with_usage(client):
    answer = client.completions.create(model="demo", prompt=PROMPT, max_tokens=12, temperature=0)
    assert answer.choices[0].text.startswith(" Paris")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_completion_stream_joins_to_the_answer(client):
    whole = client.completions.create(model="demo", prompt=PROMPT, max_tokens=12, temperature=0)
    parts = client.completions.create(model="demo", prompt=PROMPT, max_tokens=12, temperature=0, stream=True)
    assert "".join(p.choices[0].text for p in parts if p.choices) == whole.choices[0].text


def test_completion_logprobs_and_echo(client):
    answer = client.completions.create(model="demo", prompt=PROMPT, max_tokens=4, temperature=0, logprobs=3, echo=True)
    logprobs = answer.choices[0].logprobs
    assert answer.choices[0].text.startswith(PROMPT)
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs)
    assert logprobs.token_logprobs[0] is None
    assert all(p <= 0 for p in logprobs.token_logprobs[1:])


def test_n_choices_with_a_seed_are_repeatable(client):
    def ask():
        answer = client.completions.create(model="demo", prompt=PROMPT, n=3, temperature=1.0, seed=5, max_tokens=8)
        return [c.text for c in sorted(answer.choices, key=lambda c: c.index)]

    assert ask() == ask()


def test_list_and_token_prompts(client):
    answer = client.completions.create(model="demo", prompt=[PROMPT, "The capital of Japan is"], max_tokens=6, temperature=0)
    assert [c.index for c in answer.choices] == [0, 1]
    assert "Paris" in answer.choices[0].text and "Tokyo" in answer.choices[1].text


def test_chat_whole_and_streamed(client):
    whole = client.chat.completions.create(model="demo", messages=QUESTION, temperature=0, max_tokens=64)
    assert "Rome" in whole.choices[0].message.content
    assert whole.choices[0].finish_reason == "stop"
    parts = client.chat.completions.create(
        model="demo", messages=QUESTION, temperature=0, max_tokens=64, stream=True, stream_options={"include_usage": True}
    )
    text, usage = "", None
    for part in parts:
        if part.choices:
            text += part.choices[0].delta.content or ""
        usage = part.usage or usage
    assert text == whole.choices[0].message.content
    assert usage.completion_tokens == whole.usage.completion_tokens


def test_chat_logprobs(client):
    answer = client.chat.completions.create(model="demo", messages=QUESTION, temperature=0, max_tokens=4, logprobs=True, top_logprobs=2)
    content = answer.choices[0].logprobs.content
    assert len(content) == 4
    assert all(len(entry.top_logprobs) == 2 for entry in content)


def test_errors_are_the_clients_own_types(client):
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="absent", prompt=PROMPT)
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.completions.create(model="demo", prompt=PROMPT, temperature=9)


def test_javascript_client(cluster):
    if not (JS / "node_modules/openai").exists():
        pytest.fail("tests/conformance/js: the openai package is not installed (./trireme test does it)")
    result = subprocess.run(["node", JS / "client.mjs", cluster.url], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout)
    assert seen["models"] == ["demo"]
    assert seen["text"].startswith(" Paris") and seen["streamed"] == seen["text"]
    assert "Rome" in seen["chat"] and seen["chatStreamed"] == seen["chat"] and seen["chatFinish"] == "stop"
    assert seen["chatUsage"]["completion_tokens"] > 0
    assert seen["unknownModel"] == {"status": 404, "name": "NotFoundError"}


def test_a_pause_ends_a_stream_as_aborted_and_is_a_retryable_error_until_it_is_resumed(cluster, client):
    stream = client.completions.create(model="demo", prompt=PROMPT, max_tokens=1500, stream=True, extra_body={"ignore_eos": True})
    parts = [next(stream)]
    assert cluster.post("/pause", None, method="POST").status == 200
    try:
        parts += stream
        assert parts[-1].choices[0].finish_reason == "abort" and len(parts) < 1500
        with pytest.raises(openai.InternalServerError, match="The engine is paused.") as refused:
            client.completions.create(model="demo", prompt=PROMPT, max_tokens=4)
        assert refused.value.status_code == 503 and refused.value.response.headers["Retry-After"]
    finally:
        assert cluster.post("/resume", None, method="POST").status == 200
    assert client.completions.create(model="demo", prompt=PROMPT, max_tokens=4).choices[0].text
