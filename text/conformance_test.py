"""text/ against the Python libraries the field takes as the truth: `tokenizers` and `jinja2`.

Goal: the same ids, the same text and the same prompts, for tokenizers of three kinds and templates
of the usual makes. Method: tokenizers are trained here, text is generated from a fixed seed, and
text_tool (argument 1) answers over pipes.
"""

import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

import jinja2
import jinja2.ext
import jinja2.sandbox
import tokenizers

import small_tokenizers

TOOL = sys.argv.pop(1) if len(sys.argv) > 1 else None
TEMPLATES = pathlib.Path(__file__).parent / "testdata" / "templates"


class TextTool:
    def __init__(self, directory):
        self.process = subprocess.Popen([TOOL, str(directory)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=10)
        self.process.stdout.close()

    def ask(self, command, *parts):
        sizes = [-1 if part is None else len(part) for part in parts]
        line = " ".join([command] + [str(size) for size in sizes]) + "\n"
        self.process.stdin.write(line.encode() + b"".join(part or b"" for part in parts))
        self.process.stdin.flush()
        head = self.process.stdout.readline().split()
        text = self.process.stdout.read(int(head[-1])).decode()
        return (None, text) if head[0] == b"error" else (text, None)

    def value(self, command, *parts):
        text, error = self.ask(command, *parts)
        if error is not None:
            raise AssertionError(f"{command}: {error}")
        return text

    def encode(self, text, add_special):
        ids = self.value(f"encode {int(add_special)}", text.encode())
        return [int(id) for id in ids.split()]

    def decode(self, how, ids, skip_special):
        return self.value(f"{how} {int(skip_special)}", " ".join(map(str, ids)).encode())

    def render(self, messages, tools, kwargs, generate):
        as_json = lambda value: None if value is None else json.dumps(value).encode()
        return self.ask(f"render {int(generate)} 0", as_json(messages), as_json(tools),
                        as_json(kwargs))


# --- Text ---------------------------------------------------------------------------------------

FIXED_TEXTS = (
    "", " ", "  ", "\n", "\t\t x", " leading", "trailing ", "a  b   c    d", " " * 300,
    "\r\n\r\n x",
    "The capital of France is Paris.", "I'll say it's 12345 times, they've 1,000,000.",
    "Größe Straße ÄÖÜ naïve café coöperate", "Съешь ещё этих мягких французских булок",
    "我能吞下玻璃而不伤身体。", "いろはにほへと ちりぬるを",
    "나는 유리를 먹을 수 있어요", "أنا قادر على أكل الزجاج",
    "अहं शक्नोम्यत्तुं काचम्", "ฉันกินกระจกได้", "Μπορῶ νὰ φάω",
    "👩‍🚀👨‍👩‍👧‍👦 🏳️‍🌈 😀😃", "e\u0301 vs é, ﬁ, Å, ㎏, ½",
    "def f(x):\n    return {k: v for k, v in x.items()}  # comment\n",
    "<s> </s> <unk> <tool_call>x<tool_call> <｜end▁of▁turn｜>y",
    "▁ ▁▁ ĠĊ <0x41> <0xZZ>", "\u00a0\u2003\u3000 \ufeff",
    "\x00\x01\x7f \x85", "�", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 \U0010ffff", "x" * 3000, "http://a.b/c?d=e&f=%20#g",
)
RANGES = ((0x20, 0x7f), (0x0, 0x20), (0xa0, 0x250), (0x370, 0x530), (0x5d0, 0x700), (0x900, 0xe80),
          (0x2000, 0x2100), (0x3040, 0x3100), (0x4e00, 0x9fff), (0xac00, 0xd7a4), (0xe000, 0xe100),
          (0xfe00, 0xfe10), (0x1f300, 0x1f700), (0x10000, 0x10100), (0xe0000, 0xe0080))


def random_texts(seed, count):
    choose = random.Random(seed)
    for _ in range(count):
        yield "".join(chr(choose.randrange(*choose.choice(RANGES)))
                      for _ in range(choose.randrange(60)))


def mixed_texts(seed, count):
    choose = random.Random(seed)
    sentences = small_tokenizers.training_text(seed=seed, count=count)
    for sentence in sentences:
        yield sentence + choose.choice(("", "\n\n", "   ", "\t")) + choose.choice(FIXED_TEXTS[:30])


def ascii_texts(seed, count):
    """Any byte below 128, and mostly the ones that splits turn on."""
    choose = random.Random(seed)
    alphabet = [chr(byte) for byte in range(128)]
    yield from alphabet
    alphabet += list("   \t\n\r\v\faZsStTdDmMlLvVrReE0123..<" + "'" * 4) * 4
    for _ in range(count):
        yield "".join(choose.choice(alphabet) for _ in range(choose.randrange(40)))


class TokenizerConformance(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.pairs = {}
        for kind in small_tokenizers.KINDS:
            directory = pathlib.Path(cls.folder.name) / kind
            small_tokenizers.write(kind, directory, vocabulary=2000)
            oracle = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
            cls.pairs[kind] = (oracle, TextTool(directory))
        cls.texts = [*FIXED_TEXTS, *random_texts(7, 400), *mixed_texts(8, 400),
                     "".join(mixed_texts(9, 300))]

    @classmethod
    def tearDownClass(cls):
        for _, tool in cls.pairs.values():
            tool.close()
        cls.folder.cleanup()

    def test_text_gives_the_same_ids(self):
        for kind, (oracle, tool) in self.pairs.items():
            for text in self.texts:
                for add_special in (False, True):
                    wanted = oracle.encode(text, add_special_tokens=add_special).ids
                    self.assertEqual(tool.encode(text, add_special), wanted, (kind, text))

    def test_ascii_text_gives_the_same_ids_by_the_short_way(self):
        """The splits that rust/src/ascii_words.rs writes out, held to the patterns themselves."""
        llama = small_tokenizers.SPLIT
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
        layouts = {
            "gpt2": {**byte_level, "use_regex": True},
            "llama3": self.split_layout(llama),
            "qwen2": self.split_layout(llama.replace(r"\p{N}{1,3}", r"\p{N}")),
        }
        directory = pathlib.Path(self.folder.name) / "byte_level"
        for name, pre_tokenizer in layouts.items():
            layout = json.loads((directory / "tokenizer.json").read_text())
            layout["pre_tokenizer"] = pre_tokenizer
            layout["normalizer"] = {"type": "NFC"} if name == "qwen2" else None
            short = pathlib.Path(self.folder.name) / name
            short.mkdir()
            (short / "tokenizer.json").write_text(json.dumps(layout))
            oracle = tokenizers.Tokenizer.from_str(json.dumps(layout))
            tool = TextTool(short)
            self.addCleanup(tool.close)
            for text in ascii_texts(11, 3000):
                for add_special in (False, True):
                    wanted = oracle.encode(text, add_special_tokens=add_special).ids
                    self.assertEqual(tool.encode(text, add_special), wanted, (name, text))

    @staticmethod
    def split_layout(pattern):
        return {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
             "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
             "use_regex": False}]}

    def test_ids_of_text_give_the_same_text(self):
        for kind, (oracle, tool) in self.pairs.items():
            for text in self.texts:
                self.check_decoding(kind, oracle, tool, oracle.encode(text).ids)

    def test_random_ids_give_the_same_text(self):
        choose = random.Random(10)
        for kind, (oracle, tool) in self.pairs.items():
            size = oracle.get_vocab_size()
            for turn in range(1500):
                top = size + 2 if turn % 2 else min(size, 320)
                ids = [choose.randrange(top) for _ in range(choose.randrange(30))]
                self.check_decoding(kind, oracle, tool, ids)

    def check_decoding(self, kind, oracle, tool, ids):
        for skip_special in (False, True):
            wanted = oracle.decode(ids, skip_special_tokens=skip_special)
            for how in ("decode", "stream"):
                self.assertEqual(tool.decode(how, ids, skip_special), wanted, (kind, how, ids))


# --- Chat templates -----------------------------------------------------------------------------

class GenerationTag(jinja2.ext.Extension):
    """{% generation %} of transformers, which renders its body."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def hugging_face_environment():
    """As transformers.utils.chat_template_utils sets it up."""
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    return environment


TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Weather <now> & \"soon\" in a città",
        "parameters": {"type": "object", "required": ["city"], "properties": {
            "city": {"type": "string", "description": "City, e.g. 東京"},
            "days": {"type": "array", "items": {"type": "integer"}},
            "limits": {"type": "object", "additionalProperties": {"type": "number"}},
            "unit": {"type": ["string", "boolean"], "enum": ["C", "F", None, True, 1.5, 1e-9]}}}}},
    {"type": "function", "function": {
        "name": "now", "description": "", "parameters": {"type": "object", "properties": {},
                                                          "required": []}}},
]
CALL = {"role": "assistant", "content": None, "tool_calls": [
    {"id": "abcdef123", "type": "function",
     "function": {"name": "get_weather", "arguments": {"city": "Köln", "days": [1, 2], "x": {}}}}]}
ANSWER = {"role": "tool", "tool_call_id": "abcdef123", "content": "{\"celsius\": 21.5}"}
USER = {"role": "user", "content": "  What's 2 < 3 & \"so on\"? 😀\n"}
REPLY = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes: `a = {}`. "}
SYSTEM = {"role": "system", "content": "Be brief."}
PARTS = {"role": "user", "content": [{"type": "text", "text": " see "}, {"type": "image"}]}
CONVERSATIONS = (
    [USER], [SYSTEM, USER], [USER, REPLY, USER], [SYSTEM, USER, REPLY, USER, REPLY],
    [USER, CALL, ANSWER], [SYSTEM, USER, CALL, ANSWER, REPLY, USER], [PARTS],
    [SYSTEM, PARTS, REPLY], [USER, USER], [{"role": "critic", "content": "x"}], [SYSTEM],
    [USER, {"role": "assistant", "content": "4", "reasoning_content": "2 + 2"}],
    [USER, {"role": "assistant", "content": ""}, {"role": "user", "content": "x", "name": "Zoë"}],
)
KWARGS = (None, {"enable_thinking": False},
          {"date_string": "1 Jan 2026", "custom": [1, {"a": None}]})


class TemplateConformance(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.environment = hugging_face_environment()

    def wanted(self, template, messages, tools, kwargs, generate):
        variables = {"bos_token": "<s>", "eos_token": "</s>", "documents": None, **(kwargs or {})}
        try:
            return template.render(messages=messages, tools=tools, add_generation_prompt=generate,
                                   **variables), None
        except Exception as error:  # whatever Python raises, the other side must refuse too
            return None, str(error)

    def compare(self, source, name):
        directory = pathlib.Path(self.folder.name) / name
        directory.mkdir()
        (directory / "chat_template.jinja").write_text(source)
        (directory / "tokenizer_config.json").write_text(
            json.dumps({"bos_token": "<s>", "eos_token": {"content": "</s>"}}))
        tool = TextTool(directory)
        self.addCleanup(tool.close)
        template = self.environment.from_string(source)
        rendered_count = 0
        for messages in CONVERSATIONS:
            for tools in (None, TOOLS):
                for kwargs in KWARGS:
                    for generate in (False, True):
                        case = (messages, tools, kwargs, generate)
                        wanted, refusal = self.wanted(template, *case)
                        text, error = tool.render(*case)
                        rendered_count += wanted is not None
                        with self.subTest(template=name, case=json.dumps(case)):
                            self.assertEqual(text, wanted, error or refusal)
                            if refusal and "must alternate" in refusal:
                                self.assertEqual(error, refusal)
        self.assertGreater(rendered_count, 60, f"{name}: Jinja itself refused too much")

    def test_templates_give_the_same_prompt(self):
        for path in sorted(TEMPLATES.glob("*.jinja")):
            self.compare(path.read_text(), path.stem)


if __name__ == "__main__":
    unittest.main()
