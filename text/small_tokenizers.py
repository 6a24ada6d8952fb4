"""Small tokenizers of the kinds the field uses, trained from text made here; the same every time.

    small_tokenizers.py DIRECTORY   writes DIRECTORY/<kind>/tokenizer.json, tokenizer_config.json

text/testdata holds what this writes by default; conformance_test.py trains larger ones.
"""

import argparse
import collections
import json
import math
import pathlib
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers import processors, trainers

KINDS = ("byte_level", "byte_fallback", "unigram")
BOS, EOS, UNK, CALL = "<s>", "</s>", "<unk>", "<tool_call>"

# As in Llama 3.
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
         r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

SENTENCES = (
    "The capital of {} is {}.", "How far is it from {} to {}?", "I went to {} and then to {}!",
    "Столица страны {} — город {}.", "{}は{}にあります。", "Das Mädchen fährt von {} nach {}.",
    "def distance({}, {}):\n    return abs(x - y)\n", "{} 和 {} 都是城市。",
)
PLACES = ("Paris", "Berlin", "東京", "Москва", "Zürich", "São Paulo", "北京", "Αθήνα", "Oslo", "x", "y")


def training_text(seed=1, count=2000):
    choose = random.Random(seed)
    return [choose.choice(SENTENCES).format(choose.choice(PLACES), choose.choice(PLACES))
            for _ in range(count)]


def byte_level(vocabulary):
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(training_text(), trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    return tokenizer


def byte_fallback(vocabulary):
    """As transformers makes Llama 2's out of SentencePiece."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNK, fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    counts = collections.Counter(c for sentence in training_text() for c in sentence)
    del counts[" "]
    common = sorted(counts, key=lambda c: (-counts[c], c))[:60]
    alphabet = sorted(["▁"] + common)  # the others are left to the byte tokens
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer.train_from_iterator(training_text(), trainers.BpeTrainer(
        vocab_size=vocabulary + 256, special_tokens=[UNK, BOS, EOS] + byte_tokens,
        initial_alphabet=alphabet, limit_alphabet=len(alphabet), max_token_length=16,
        show_progress=False))
    layout = json.loads(tokenizer.to_str())
    layout["added_tokens"] = layout["added_tokens"][:3]  # the byte tokens are ordinary ones
    tokenizer = Tokenizer.from_str(json.dumps(layout))
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0)])
    return tokenizer


def unigram(vocabulary):
    """Pieces by how much of the text they cover: the crate's trainer depends on hash order."""
    counts = collections.Counter()
    for sentence in training_text():
        for word in ("▁" + sentence.replace(" ", " ▁")).split(" "):
            counts.update(word[i:j] for i in range(len(word))
                          for j in range(i + 1, min(i + 12, len(word)) + 1))
    characters = [piece for piece in counts if len(piece) == 1]
    longer = sorted((piece for piece in counts if len(piece) > 1),
                    key=lambda piece: (-counts[piece] * len(piece), piece))
    pieces = sorted(characters + longer[:vocabulary - len(characters)],
                    key=lambda piece: (-counts[piece], piece))
    total = counts.total()
    scored = [(piece, round(math.log(counts[piece] / total), 4)) for piece in pieces]
    tokenizer = Tokenizer(models.Unigram(
        [(UNK, 0.0), (BOS, 0.0), (EOS, 0.0)] + scored, unk_id=0, byte_fallback=False))
    tokenizer.add_special_tokens([UNK, BOS, EOS])
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def write(kind, directory, vocabulary):
    tokenizer = globals()[kind](vocabulary)
    tokenizer.add_tokens([AddedToken(CALL, special=False, normalized=False),
                          AddedToken("<｜end▁of▁turn｜>", special=True, normalized=False)])
    bos = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, bos)])
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"), pretty=False)
    config = {"bos_token": BOS, "eos_token": {"content": EOS, "lstrip": False}, "pad_token": None}
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--vocabulary", type=int, default=400)
    arguments = parser.parse_args()
    for kind in KINDS:
        write(kind, arguments.directory / kind, arguments.vocabulary)


if __name__ == "__main__":
    main()
