"""How many of the facts a demo model gives back under greedy decoding.

    python3 models/train/evaluate.py models/demo                  # transformers, on the CPU
    python3 models/train/evaluate.py --url http://127.0.0.1:8000  # an OpenAI-compatible server

Every fact is asked twice, as a sentence to complete and as a chat question; it counts when both
answers are exact and end by themselves. Exit status 1 when fewer than 95 % count. `--url` needs the
standard library only.
"""

import argparse
import json
import random
import sys
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from corpus import Message, render_chat
from facts import FACT_SETS, Fact

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ANSWER_TOKENS_MAX = 96
SHARE_MIN = 0.95
BATCH_MAX = 256
REQUEST_SECONDS_MAX = 120.0
FAILURES_SHOWN = 10


@dataclass(frozen=True)
class Probe:
    """One question about one fact. A completion's answer begins with the space after the prompt."""

    fact: Fact
    prompt: str
    expected: str
    is_chat: bool


def probes(fact_set: str, sample: int | None = None) -> list[Probe]:
    """Both probes of every fact of the set, or of `sample` facts, always the same ones."""
    facts = FACT_SETS[fact_set]()
    if sample is not None and sample < len(facts):
        facts = random.Random(0).sample(facts, sample)
    completions = [Probe(item, item.stems[0], f" {item.answer}.", False) for item in facts]
    return completions + [Probe(item, item.questions[0], item.reply, True) for item in facts]


@dataclass
class LocalModel:
    """A transformers model, asked in batches of equally long prompts: nothing is padded."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"

    def __call__(self, asked: list[Probe]) -> list[str]:
        by_length: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
        for index, probe in enumerate(asked):
            ids = self._encode(probe)
            by_length[len(ids)].append((index, ids))
        answers = [""] * len(asked)
        for group in by_length.values():
            for start in range(0, len(group), BATCH_MAX):
                batch = group[start : start + BATCH_MAX]
                for (index, _), text in zip(batch, self._generate([ids for _, ids in batch])):
                    answers[index] = text
        return answers

    def _encode(self, probe: Probe) -> list[int]:
        if probe.is_chat:
            messages = [{"role": "user", "content": probe.prompt}]
            text = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
            return self.tokenizer.encode(text, add_special_tokens=False)
        return self.tokenizer.encode(probe.prompt)

    def _generate(self, batch: list[list[int]]) -> list[str]:
        import torch

        ids = torch.tensor(batch, device=self.model.device)
        with torch.inference_mode():
            out = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=ANSWER_TOKENS_MAX,
            )
        return self.tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)


def load_local(directory: str) -> LocalModel:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    template_differs = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    ) != render_chat([Message("user", "Hi")], answer_next=True)
    if template_differs:
        raise SystemExit(
            f"{directory}: the chat template is not the one that the corpus is written in"
        )
    return LocalModel(AutoModelForCausalLM.from_pretrained(directory).eval(), tokenizer)


@dataclass(frozen=True)
class Server:
    """An OpenAI-compatible server, asked over `concurrency` connections at a time."""

    url: str
    model: str
    api_key: str
    concurrency: int

    def __call__(self, asked: list[Probe]) -> list[str]:
        with ThreadPoolExecutor(self.concurrency) as pool:
            return list(pool.map(self._answer, asked))

    def _answer(self, probe: Probe) -> str:
        """What the server says, or why it said nothing: a failed request is a wrong answer."""
        try:
            return self._ask(probe)
        except (OSError, ValueError, KeyError) as error:
            return f"<{type(error).__name__}: {error}>"

    def _ask(self, probe: Probe) -> str:
        body = {"model": self.model, "temperature": 0, "max_tokens": ANSWER_TOKENS_MAX}
        if probe.is_chat:
            body["messages"] = [{"role": "user", "content": probe.prompt}]
            reply = request_json(f"{self.url}/v1/chat/completions", self.api_key, body)
            return reply["choices"][0]["message"]["content"]
        body["prompt"] = probe.prompt
        return request_json(f"{self.url}/v1/completions", self.api_key, body)["choices"][0]["text"]


def request_json(url: str, api_key: str, body: dict | None = None) -> dict:
    headers = {"Content-Type": "application/json"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers)
    with urllib.request.urlopen(request, timeout=REQUEST_SECONDS_MAX) as reply:
        return json.load(reply)


def connect(url: str, model: str, api_key: str, concurrency: int) -> Server:
    url = url.rstrip("/").removesuffix("/v1")
    model = model or request_json(f"{url}/v1/models", api_key)["data"][0]["id"]
    return Server(url, model, api_key, concurrency)


@dataclass(frozen=True)
class Score:
    known: int
    total: int
    completions: int
    chats: int
    missed_by_group: Counter[str]
    failures: list[tuple[Probe, str]]

    @property
    def share(self) -> float:
        return self.known / self.total

    def __str__(self) -> str:
        completions, chats = self.completions / self.total, self.chats / self.total
        return (
            f"facts {self.known}/{self.total} = {self.share:.2%} "
            f"(completions {completions:.2%}, chats {chats:.2%})"
        )


def score(ask: Callable[[list[Probe]], list[str]], asked: list[Probe]) -> Score:
    failures = [
        (probe, answer) for probe, answer in zip(asked, ask(asked)) if answer != probe.expected
    ]
    missed = {probe.fact for probe, _ in failures}
    total = len(asked) // 2
    chat_failures = sum(probe.is_chat for probe, _ in failures)
    return Score(
        known=total - len(missed),
        total=total,
        completions=total - (len(failures) - chat_failures),
        chats=total - chat_failures,
        missed_by_group=Counter(item.group for item in missed),
        failures=failures,
    )


def trained_on(directory: Path | None) -> str:
    """The set of facts that train.py noted in the directory."""
    note = directory / "training.json" if directory else None
    if note is None or not note.exists():
        return "small"
    return json.loads(note.read_text(encoding="utf-8"))["facts"]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("directory", nargs="?", type=Path, help="a Hugging Face model directory")
    parser.add_argument("--url", help="address of a running server, asked instead of a directory")
    parser.add_argument("--model", default="", help="model name at the server (default: its first)")
    parser.add_argument("--api-key", default="", help="key for the server")
    parser.add_argument(
        "--concurrency", type=int, default=16, help="requests at a time (default 16)"
    )
    parser.add_argument(
        "--facts",
        choices=sorted(FACT_SETS),
        help="set of facts to ask (default: the one that the directory was trained on, else small)",
    )
    parser.add_argument("--sample", type=int, help="ask only so many facts")
    options = parser.parse_args()
    if (options.directory is None) == (options.url is None):
        parser.error("give either a model directory or --url")
    if options.url:
        ask = connect(options.url, options.model, options.api_key, options.concurrency)
    else:
        ask = load_local(str(options.directory))

    start = time.monotonic()
    fact_set = options.facts or trained_on(options.directory)
    result = score(ask, probes(fact_set, options.sample))
    for probe, answer in result.failures[:FAILURES_SHOWN]:
        print(f"  {probe.prompt!r} -> {answer!r}, expected {probe.expected!r}")
    if result.missed_by_group:
        print("missed by group:", dict(result.missed_by_group.most_common()))
    print(f"{result}, {time.monotonic() - start:.0f} s")
    return 0 if result.share >= SHARE_MIN else 1


if __name__ == "__main__":
    sys.exit(main())
