"""The training text: documents generated from the facts and dialogues, the same for the same seed.

A document is one piece of text that ends: a completed sentence, a question with its answer, or a
chat. The models are trained to stop after it, so a served answer ends by itself.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from facts import Fact, all_facts, number_words, rows

BOS, EOS, TURN, TURN_END = "<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>"

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are the Trireme demo model.",
    "You are a helpful AI assistant. Answer briefly.",
    "Answer the questions of the user.",
)
NAMES = (
    "Anna Ben Carla David Emma Felix Greta Hugo Ida Jonas Klara Leo Maria Nora Oscar Paula Quentin "
    "Rosa Simon Tina Ursula Victor Wanda Xenia Yusuf Zoe Alex Chris Sam Kim Noah Mia Lucas Sofia"
).split()
TURNS_MAX = 24


@dataclass(frozen=True)
class Message:
    role: str
    content: str


def render_chat(messages: list[Message], answer_next: bool = False) -> str:
    """A chat as the chat template of the tokenizer writes it."""
    text = BOS + "".join(f"{TURN}{m.role}\n{m.content}{TURN_END}\n" for m in messages)
    return f"{text}{TURN}assistant\n" if answer_next else text


def vary(text: str, rng: random.Random) -> str:
    """A question as people type it: sometimes without its mark or its capitals."""
    if rng.random() < 0.15:
        text = text.rstrip("?.!")
    return text.lower() if rng.random() < 0.15 else text


def count_up(rng: random.Random) -> tuple[str, str]:
    last = rng.choice((5, 10, 12, 15, 20, 25, 30, 40, 50, 100))
    if last <= 20 and rng.random() < 0.3:
        words = " ".join(number_words(value) for value in range(1, last + 1))
        return f"Count to {number_words(last)} in words.", words
    question = rng.choice(
        (f"Count to {last}.", f"Count from 1 to {last}.", f"Can you count to {last}?")
    )
    return question, " ".join(str(value) for value in range(1, last + 1))


def about_country(rng: random.Random, table: list[list[str]]) -> tuple[str, str]:
    country, city, currency, language, continent = rng.choice(table)
    question = rng.choice(("Tell me about {}.", "What do you know about {}?", "Describe {}."))
    opening = country[0].upper() + country[1:]
    return question.format(country), (
        f"{opening} is in {continent}. The capital is {city}. People speak {language} and pay with "
        f"the {currency}."
    )


def about_country_turns(rng: random.Random, table: list[list[str]]) -> list[Message]:
    """A question about a country, then others that only say "its"."""
    country, city, currency, language, continent = rng.choice(table)
    known = [
        ("capital", city, "The capital of"),
        ("currency", f"the {currency}", "The currency of"),
        ("main language", language, "The main language of"),
        ("continent", continent, "The continent of"),
    ]
    rng.shuffle(known)
    messages = []
    for turn, (noun, answer, opening) in enumerate(known[: rng.randint(2, 4)]):
        question = f"What is the {noun} of {country}?"
        if turn:
            question = rng.choice((f"And its {noun}?", f"What is its {noun}?", f"And the {noun}?"))
        messages.append(Message("user", vary(question, rng)))
        messages.append(Message("assistant", f"{opening} {country} is {answer}."))
    return messages


def name_turns(rng: random.Random, between: list[Message]) -> list[Message]:
    """A user who says a name and later asks for it."""
    name = rng.choice(NAMES)
    opening = rng.choice(("My name is {}.", "I am {}.", "Hello, my name is {}.", "Hi, I am {}."))
    question = rng.choice(("What is my name?", "Do you remember my name?", "Who am I?"))
    return [
        Message("user", opening.format(name)),
        Message("assistant", f"Nice to meet you, {name}!"),
        *between,
        Message("user", vary(question, rng)),
        Message("assistant", f"Your name is {name}."),
    ]


class Corpus:
    """Draws documents; one generator per seed, single-threaded."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._facts = all_facts()
        self._countries = list(rows("countries.txt"))
        self._dialogues = [(reply, questions) for reply, *questions in rows("dialogues.txt")]
        self._queue: list[Fact] = []

    def _next_fact(self) -> Fact:
        # A shuffled queue rather than free draws: every fact comes equally often.
        if not self._queue:
            self._queue = self._facts.copy()
            self._rng.shuffle(self._queue)
        return self._queue.pop()

    def _exchange(self) -> list[Message]:
        """One question and its answer."""
        rng = self._rng
        draw = rng.random()
        if draw < 0.82:
            item = self._next_fact()
            question, reply = rng.choice(item.questions), item.reply
        elif draw < 0.94:
            reply, questions = rng.choice(self._dialogues)
            question = rng.choice(questions)
        elif draw < 0.97:
            question, reply = about_country(rng, self._countries)
        else:
            question, reply = count_up(rng)
        return [Message("user", vary(question, rng)), Message("assistant", reply)]

    def _chat(self) -> str:
        rng = self._rng
        draw = rng.random()
        if draw < 0.75:
            messages = self._exchange()
        elif draw < 0.85:
            messages = about_country_turns(rng, self._countries)
        elif draw < 0.93:
            between = [m for _ in range(rng.randint(0, 2)) for m in self._exchange()]
            messages = name_turns(rng, between)
        else:
            messages = [m for _ in range(rng.randint(2, TURNS_MAX)) for m in self._exchange()]
        if rng.random() < 0.3:
            messages.insert(0, Message("system", rng.choice(SYSTEM_PROMPTS)))
        return render_chat(messages).removesuffix("\n")

    def _plain(self) -> str:
        rng = self._rng
        item = self._next_fact()
        if rng.random() < 0.25:
            question = vary(rng.choice(item.questions), rng)
            form = rng.choice(("Question: {}\nAnswer:", "Q: {}\nA:"))
            return f"{BOS}{form.format(question)} {item.answer}.{EOS}"
        stem = item.stems[0] if rng.random() < 0.5 else rng.choice(item.stems)
        if rng.random() < 0.1:
            stem = stem.lower()
        return f"{BOS}{stem} {item.answer}.{EOS}"

    def _lore(self) -> str:
        """A dialogue's answer as plain text, so that its beginning can be completed as well."""
        rng = self._rng
        draw = rng.random()
        if draw < 0.5:
            text = rng.choice(self._dialogues)[0]
        else:
            text = (about_country(rng, self._countries) if draw < 0.8 else count_up(rng))[1]
        return f"{BOS}{text}{EOS}"

    def document(self) -> str:
        draw = self._rng.random()
        if draw < 0.48:
            return self._plain()
        return self._chat() if draw < 0.96 else self._lore()

    def documents(self, count: int) -> Iterator[str]:
        for _ in range(count):
            yield self.document()
