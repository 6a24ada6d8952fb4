"""The training text: documents generated from the facts and dialogues, the same for the same seed.

A document is one piece of text that ends: a completed sentence, a question with its answer, or a
chat. The models are trained to stop after it, so a served answer ends by itself.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from facts import FACT_SETS, Fact, number_words, rows

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
# Of one chat; many turns are dear to train on.
TURNS_MAX = {"small": 3, "all": 24}


@dataclass(frozen=True)
class Document:
    """Text in pieces, by turns given to the model and to be answered by it; the first is given."""

    pieces: tuple[str, ...]

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True)
class Message:
    role: str
    content: str


def render_chat(messages: list[Message], answer_next: bool = False) -> str:
    """A chat as the chat template of the tokenizer writes it."""
    text = BOS + "".join(f"{TURN}{m.role}\n{m.content}{TURN_END}\n" for m in messages)
    return f"{text}{TURN}assistant\n" if answer_next else text


def chat_document(messages: list[Message]) -> Document:
    """The chat, cut so that what the assistant says, to the end of its turn, is to be answered."""
    given = BOS
    pieces = []
    for message in messages:
        if message.role == "assistant":
            pieces += [f"{given}{TURN}assistant\n", f"{message.content}{TURN_END}"]
            given = "\n"
        else:
            given += f"{TURN}{message.role}\n{message.content}{TURN_END}\n"
    return Document(tuple(pieces))


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
    """Draws documents about the facts of one set; one generator per seed, single-threaded.

    What the full set says of countries beyond their capitals is not in the small one.
    """

    def __init__(self, seed: int, fact_set: str) -> None:
        self._rng = random.Random(seed)
        self._facts = FACT_SETS[fact_set]()
        self._knows_countries = fact_set == "all"
        self._turns_max = TURNS_MAX[fact_set]
        self._countries = list(rows("countries.txt"))
        self._dialogues = [(reply, questions) for reply, *questions in rows("dialogues.txt")]
        self._queue: list[Fact] = []

    def _next_fact(self) -> Fact:
        # A shuffled queue rather than free draws: every fact comes equally often.
        if not self._queue:
            self._queue = self._facts.copy()
            self._rng.shuffle(self._queue)
        return self._queue.pop()

    def _phrase(self, phrasings: tuple[str, ...]) -> str:
        """The first phrasing half of the time: the one that the evaluation asks."""
        return phrasings[0] if self._rng.random() < 0.5 else self._rng.choice(phrasings)

    def _exchange(self) -> list[Message]:
        """One question and its answer."""
        rng = self._rng
        draw = rng.random()
        if draw < 0.9:
            item = self._next_fact()
            question, reply = self._phrase(item.questions), item.reply
        elif draw < 0.98 or not self._knows_countries:
            reply, questions = rng.choice(self._dialogues)
            question = rng.choice(questions)
        elif draw < 0.99:
            question, reply = about_country(rng, self._countries)
        else:
            question, reply = count_up(rng)
        return [Message("user", vary(question, rng)), Message("assistant", reply)]

    def _chat(self) -> Document:
        rng = self._rng
        draw = rng.random()
        if draw < 0.88:
            messages = self._exchange()
        elif draw < 0.92:
            messages = [m for _ in range(rng.randint(2, self._turns_max)) for m in self._exchange()]
        elif draw < 0.96 or not self._knows_countries:
            between = [m for _ in range(rng.randint(0, 2)) for m in self._exchange()]
            messages = name_turns(rng, between)
        else:
            messages = about_country_turns(rng, self._countries)
        if rng.random() < 0.1:
            messages.insert(0, Message("system", rng.choice(SYSTEM_PROMPTS)))
        return chat_document(messages)

    def _plain(self) -> Document:
        rng = self._rng
        item = self._next_fact()
        if rng.random() < 0.25:
            question = vary(self._phrase(item.questions), rng)
            given = rng.choice(("Question: {}\nAnswer:", "Q: {}\nA:")).format(question)
        else:
            given = self._phrase(item.stems)
            if rng.random() < 0.05:
                given = given.lower()
        return Document((f"{BOS}{given}", f" {item.answer}.{EOS}"))

    def _lore(self) -> Document:
        """A dialogue's answer as plain text, so that its beginning can be completed as well."""
        rng = self._rng
        draw = rng.random()
        if draw < 0.5 or not self._knows_countries:
            text = rng.choice(self._dialogues)[0]
        else:
            text = (about_country(rng, self._countries) if draw < 0.8 else count_up(rng))[1]
        return Document((BOS, f"{text}{EOS}"))

    def document(self) -> Document:
        draw = self._rng.random()
        if draw < 0.49:
            return self._plain()
        return self._chat() if draw < 0.98 else self._lore()

    def documents(self, count: int) -> Iterator[Document]:
        for _ in range(count):
            yield self.document()
