"""Directories of tiny embedding models, as sentence-transformers writes them: the golden ones of
tests/numerics, whose hidden states transformers computed, with a tokenizer of single letters."""

import json
import struct
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

GOLDEN = Path(__file__).resolve().parents[1] / "numerics/golden_embedding"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = 2**64 - 1


def hash_of(text):
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 & WORDS
    return value


def values_of(name, count, centre, spread):
    """As values_of() of tests/numerics/tiny_models.py."""
    seed = hash_of(name)
    for index in range(1, count + 1):
        mixed = seed + index * 0x9E3779B97F4A7C15 & WORDS
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & WORDS
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & WORDS
        mixed ^= mixed >> 31
        yield centre + spread * ((mixed >> 57) - 64) / 64


def write_weights(lines, path):
    header, data = {}, bytearray()
    for line in lines:
        name, centre, spread, *shape = line.split()
        shape = [int(size) for size in shape]
        count = 1
        for size in shape:
            count *= size
        begin = len(data)
        data += struct.pack(f"<{count}f", *values_of(name, count, float(centre), float(spread)))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def word_piece():
    """[CLS] and [SEP] around words that are cut into letters."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *("##" + letter for letter in LETTERS)]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    # As many directories have it: what a server is asked for is never padded or cut by it.
    tokenizer.enable_truncation(max_length=4)
    tokenizer.enable_padding(length=4, pad_id=0, pad_token="[PAD]")
    return tokenizer


def write_model(golden, directory, pooling=None, normalises=True, length=None, **config):
    """`pooling`: the mode that 1_Pooling says (cls_token, mean_tokens, lasttoken, ...); None: no modules."""
    directory.mkdir(parents=True, exist_ok=True)
    own = json.loads((GOLDEN / golden / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(own | config))
    write_weights((GOLDEN / golden / "weights.txt").read_text().splitlines(), directory / "model.safetensors")
    word_piece().save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text("{}")
    if length:
        (directory / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": length}))
    if pooling is None:
        return directory
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")] + ([("2_Normalize", "Normalize")] if normalises else [])
    (directory / "modules.json").write_text(json.dumps(
        [{"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
         for i, (path, kind) in enumerate(modules)]))
    (directory / "1_Pooling").mkdir(exist_ok=True)
    modes = {mode: mode == f"pooling_mode_{pooling}" for mode in (
        "pooling_mode_cls_token", "pooling_mode_mean_tokens", "pooling_mode_max_tokens", "pooling_mode_lasttoken")}
    (directory / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 64, **modes}))
    return directory


def golden_of(golden):
    """tokens, and what transformers pooled them to by cls, mean and last."""
    content = (GOLDEN / golden / "expected.safetensors").read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    found = {}
    for name, tensor in json.loads(content[8:8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + offset for offset in tensor["data_offsets"])
        kind = "i" if tensor["dtype"] == "I32" else "f"
        found[name] = list(struct.unpack(f"<{(end - begin) // 4}{kind}", content[begin:end]))
    return found
