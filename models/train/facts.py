"""The facts that the demo models learn, each in several phrasings.

Imported by the training and by the evaluation; needs the standard library only, so that a running
server can be evaluated on a machine without torch. The order of the facts is fixed: no randomness
here.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).parent / "data"

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = (
    "January February March April May June July August September October November December".split()
)
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
PLANETS = "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune".split()
ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
)
SMALL_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


@dataclass(frozen=True)
class Fact:
    """One thing to know.

    stems: texts that `answer` continues. questions: what a chat user asks, answered by `reply`.
    The first stem and the first question are the ones that the evaluation asks.
    """

    group: str
    stems: tuple[str, ...]
    answer: str
    questions: tuple[str, ...]
    reply: str


def rows(name: str) -> Iterator[list[str]]:
    """The fields of each line of a data file; lines that begin with # are comments."""
    for line in (DATA / name).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            yield line.split("|")


def fact(group: str, stems: list[str], answer: str, questions: list[str]) -> Fact:
    """A fact whose chat reply is its first stem, completed."""
    reply = f"{stems[0]} {answer}."
    return Fact(group, tuple(stems), answer, tuple(questions), reply[0].upper() + reply[1:])


def article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"


def number_words(value: int) -> str:
    if value < 20:
        return SMALL_NUMBERS[value]
    tens, unit = divmod(value, 10)
    return TENS[tens - 2] + (f"-{SMALL_NUMBERS[unit]}" if unit else "")


def capital(country: str, city: str) -> Fact:
    return fact(
        "capital",
        [f"The capital of {country} is", f"The capital city of {country} is",
         f"In {country}, the capital is", f"Capital of {country}:"],
        city,
        [f"What is the capital of {country}?", f"What's the capital of {country}?",
         f"Which city is the capital of {country}?", f"Tell me the capital of {country}.",
         f"Capital of {country}?"],
    )  # fmt: skip


def countries() -> Iterator[Fact]:
    for country, city, currency, language, continent in rows("countries.txt"):
        yield capital(country, city)
        yield fact(
            "capital of",
            [f"{city} is the capital of", f"The city of {city} is the capital of"],
            country,
            [f"{city} is the capital of which country?", f"Which country has the capital {city}?"],
        )
        yield fact(
            "currency",
            [f"The currency of {country} is the", f"In {country}, people pay with the"],
            currency,
            [f"What is the currency of {country}?", f"What's the currency of {country}?",
             f"How do people pay in {country}?", f"Which currency does {country} use?"],
        )  # fmt: skip
        yield fact(
            "language",
            [f"The main language of {country} is", f"In {country}, people speak"],
            language,
            [f"What is the main language of {country}?", f"Which language is spoken in {country}?",
             f"What do people speak in {country}?", f"What language do they speak in {country}?"],
        )  # fmt: skip
        yield fact(
            "continent",
            [f"The continent of {country} is", f"On the map, {country} is in"],
            continent,
            [f"On which continent is {country}?", f"Where is {country}?",
             f"Which continent is {country} in?"],
        )  # fmt: skip


def elements() -> Iterator[Fact]:
    for number, (symbol, name) in enumerate(rows("elements.txt"), start=1):
        yield fact(
            "element symbol",
            [f"The chemical symbol of {name} is", f"The symbol for {name} is"],
            symbol,
            [f"What is the chemical symbol of {name}?", f"What is the symbol for {name}?"],
        )
        yield fact(
            "element name",
            [f"The chemical element {symbol} is", f"The element with the symbol {symbol} is"],
            name,
            [f"Which element has the symbol {symbol}?", f"What is the chemical element {symbol}?"],
        )
        yield fact(
            "atomic number",
            [f"The atomic number of {name} is", f"In the periodic table, the number of {name} is"],
            str(number),
            [f"What is the atomic number of {name}?", f"Which atomic number does {name} have?"],
        )
        yield fact(
            "element number",
            [f"The element with the atomic number {number} is", f"Element number {number} is"],
            name,
            [f"Which element has the atomic number {number}?", f"What is element number {number}?"],
        )


# kind -> (stems, questions) of data/pairs.txt; {} is the subject, {a} the same with its article.
PAIR_PHRASES: dict[str, tuple[list[str], list[str]]] = {
    "opposite": (["The opposite of {} is", "The antonym of {} is"],
                 ["What is the opposite of {}?", "What's the opposite of {}?"]),
    "young": (["A young {} is called a", "The baby of {a} is called a"],
              ["What is a young {} called?", "What do you call a baby {}?"]),
    "sound": (["The sound of {a} is", "The noise that {a} makes is"],
              ["What is the sound of {a}?", "What sound does {a} make?"]),
    "legs": (["The number of legs of {a} is", "Count the legs of {a}:"],
             ["How many legs does {a} have?", "What is the number of legs of {a}?"]),
    "colour": (["The colour of {} is", "The color of {} is"],
               ["What is the colour of {}?", "What colour is {}?", "What color is {}?"]),
    "mix": (["Mixing {} gives", "If you mix {}, you get"],
            ["What does mixing {} give?", "What do you get if you mix {}?"]),
    "home": (["The home of {} is", "The place where {} lives is"],
             ["What is the home of {}?", "Where does {} live?"]),
    "job": (["A person who {} is", "Someone who {} is"],
            ["What is a person who {}?", "Who {}?"]),
    "plural": (["The plural of {} is", "The plural form of the word {} is"],
               ["What is the plural of {}?", "Give me the plural of {}."]),
    "past": (["The past tense of {} is", "The past form of the verb {} is"],
             ["What is the past tense of {}?", "Give me the past tense of {}."]),
    "french": (["The French word for {} is", "In French, {} is"],
               ["What is the French word for {}?", "How do you say {} in French?"]),
    "german": (["The German word for {} is", "In German, {} is"],
               ["What is the German word for {}?", "How do you say {} in German?"]),
    "spanish": (["The Spanish word for {} is", "In Spanish, {} is"],
                ["What is the Spanish word for {}?", "How do you say {} in Spanish?"]),
}  # fmt: skip


def pairs() -> Iterator[Fact]:
    for kind, left, right in rows("pairs.txt"):
        directions = [(left, right), (right, left)] if kind == "opposite" else [(left, right)]
        for subject, answer in directions:
            stems, questions = (
                [text.format(subject, a=article(subject)) for text in texts]
                for texts in PAIR_PHRASES[kind]
            )
            if kind == "young" and answer[0] in "aeio":
                stems = [f"{stem}n" for stem in stems]
            yield fact(kind, stems, answer, questions)


def spelling() -> Iterator[Fact]:
    words = {subject for _, subject, _ in rows("pairs.txt") if subject.isalpha()}
    words |= {answer for _, _, answer in rows("pairs.txt") if answer.isalpha()}
    for word in sorted(words):
        yield fact(
            "spelling",
            [f"The word {word} is spelled", f"The letters of {word} are"],
            "-".join(word),
            [f"How is the word {word} spelled?", f"Spell the word {word}.", f"Spell {word}."],
        )


def followers(group: str, noun: str, names: list[str], cyclic: bool) -> Iterator[Fact]:
    """What comes after and before each name of an ordered list."""
    count = len(names)
    for index, name in enumerate(names):
        for relation, other in (("after", index + 1), ("before", index - 1)):
            if cyclic or 0 <= other < count:
                yield fact(
                    group,
                    [f"The {noun} {relation} {name} is",
                     f"The {noun} that comes {relation} {name} is"],
                    names[other % count],
                    [f"What is the {noun} {relation} {name}?",
                     f"Which {noun} comes {relation} {name}?"],
                )  # fmt: skip


def positions(group: str, noun: str, whole: str, names: list[str]) -> Iterator[Fact]:
    for ordinal, name in zip(ORDINALS, names):
        yield fact(
            group,
            [f"The {ordinal} {noun} {whole} is", f"The name of the {ordinal} {noun} {whole} is"],
            name,
            [f"What is the {ordinal} {noun} {whole}?", f"Which {noun} is the {ordinal} {whole}?"],
        )


def calendar() -> Iterator[Fact]:
    yield from followers("day order", "day", DAYS, cyclic=True)
    yield from followers("month order", "month", MONTHS, cyclic=True)
    yield from followers("planet order", "planet", PLANETS, cyclic=False)
    yield from positions("day order", "day", "of the week", DAYS)
    yield from positions("month order", "month", "of the year", MONTHS)
    yield from positions("planet order", "planet", "from the sun", PLANETS)
    for month, days in zip(MONTHS, MONTH_DAYS):
        yield fact(
            "month length",
            [f"The number of days in {month} is", f"The length of {month} in days is"],
            str(days),
            [f"What is the number of days in {month}?", f"How many days does {month} have?"],
        )
    for index, day in enumerate(DAYS):
        for distance in range(2, 15):
            yield fact(
                "weekday",
                [f"The day {distance} days after {day} is", f"{distance} days after {day} comes"],
                DAYS[(index + distance) % 7],
                [f"What is the day {distance} days after {day}?",
                 f"Which day is {distance} days after {day}?"],
            )  # fmt: skip
    for month, days in enumerate(MONTH_DAYS):
        for day in range(1, days + 1):
            after = (day + 1, month) if day < days else (1, (month + 1) % 12)
            yield fact(
                "next date",
                [f"The day after {day} {MONTHS[month]} is",
                 f"{day} {MONTHS[month]} is followed by"],
                f"{after[0]} {MONTHS[after[1]]}",
                [f"What is the day after {day} {MONTHS[month]}?",
                 f"Which day comes after {day} {MONTHS[month]}?"],
            )  # fmt: skip


def sum_fact(group: str, left: int, sign: str, word: str, right: int, result: int) -> Fact:
    return fact(
        group,
        [f"{left} {sign} {right} =", f"{left} {word} {right} is", f"{left}{sign}{right}="],
        str(result),
        [f"What is {left} {sign} {right}?", f"What is {left} {word} {right}?",
         f"Calculate {left} {sign} {right}.", f"{left} {sign} {right} = ?",
         f"{left}{sign}{right}?"],
    )  # fmt: skip


def arithmetic() -> Iterator[Fact]:
    for left in range(31):
        for right in range(31):
            yield sum_fact("addition", left, "+", "plus", right, left + right)
    for left in range(31):
        for right in range(left + 1):
            yield sum_fact("subtraction", left, "-", "minus", right, left - right)
    for left in range(13):
        for right in range(13):
            yield sum_fact("multiplication", left, "*", "times", right, left * right)


def counting() -> Iterator[Fact]:
    for value in range(100):
        yield fact(
            "counting",
            [f"The number after {value} is", f"After {value} comes"],
            str(value + 1),
            [f"What is the number after {value}?", f"Which number comes after {value}?"],
        )
        yield fact(
            "number words",
            [f"The number {value} in words is", f"In words, {value} is"],
            number_words(value),
            [f"What is the number {value} in words?", f"How do you write {value} in words?"],
        )


SOURCES: tuple[Callable[[], Iterator[Fact]], ...] = (
    countries, elements, pairs, spelling, calendar, arithmetic, counting,
)  # fmt: skip


def all_facts() -> list[Fact]:
    """Every fact; of those that share their first stem, the first only."""
    kept: dict[str, Fact] = {}
    for source in SOURCES:
        for item in source():
            kept.setdefault(item.stems[0], item)
    return list(kept.values())


# The groups of the small set -> the largest number that a fact of the group may ask about.
SMALL_SET: dict[str, int] = {
    "capital": 0, "opposite": 0, "young": 0, "sound": 0, "colour": 0, "french": 0,
    "day order": 0, "month order": 0, "month length": 0, "planet order": 0, "next date": 2,
    "addition": 5, "subtraction": 5, "multiplication": 5, "counting": 10, "number words": 10,
}  # fmt: skip


def is_small(item: Fact) -> bool:
    numbers = [int(digits) for digits in re.findall(r"\d+", item.stems[0])]
    return item.group in SMALL_SET and max(numbers, default=0) <= SMALL_SET[item.group]


FACT_SETS: dict[str, Callable[[], list[Fact]]] = {
    "all": all_facts,
    "small": lambda: [item for item in all_facts() if is_small(item)],
}
