"""Models of random weights for comparisons, seeded: nothing is downloaded. Runs under vLLM's Python.

    $PEERS_DIR/venv/bin/python bench/peers/make_models.py [qwen05 tl11 tiny]    -> $PEERS_DIR/models/NAME
    $PEERS_DIR/venv/bin/python bench/peers/make_models.py --gguf [NAME ...]     -> $PEERS_DIR/gguf/NAME-{bf16,Q8_0,Q4_0}.gguf

The tokenizer is a byte-level BPE trained on this machine's Python sources and filled up with tokens that no text leads to,
so that every id that a random model emits has text. Merges differ from machine to machine; weights do not.
"""

import argparse
import json
import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

PEERS = Path(os.environ.get("PEERS_DIR", "/tmp/peers"))
LLAMA_SOURCE = PEERS / "llama_cpp_python-0.3.36/vendor/llama.cpp"
SEED = 1234
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# Qwen2's.
PIECES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CHAT = (
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "rope_theta": 1e6, "use_sliding_window": False}
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_theta": 1e4, "attention_bias": False, "mlp_bias": False}


def sizes(layers: int, hidden: int, heads: int, kv_heads: int, intermediate: int, vocabulary: int, is_tied: bool) -> dict:
    return {
        "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "head_dim": hidden // heads, "intermediate_size": intermediate, "vocab_size": vocabulary, "tie_word_embeddings": is_tied,
    }  # fmt: skip


MODELS = {
    "tiny": LLAMA | sizes(8, 256, 4, 2, 704, 32000, True),
    "qwen05": QWEN | sizes(24, 896, 14, 2, 4864, 151936, True),
    "tl11": LLAMA | sizes(22, 2048, 32, 4, 5632, 32000, False),
}
COMMON = {
    "hidden_act": "silu", "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "torch_dtype": "bfloat16",
    "initializer_range": 0.02, "use_cache": True,
}  # fmt: skip


def texts(bytes_max: int):
    folders = [Path(sysconfig.get_paths()[name]) for name in ("stdlib", "purelib")]
    patterns = [(folders[0], "*.py"), (folders[0], "*/*.py"), (folders[1], "*/*.py"), (folders[1], "transformers/models/*/*.py")]
    read = 0
    for path in sorted(path for folder, pattern in patterns for path in folder.glob(pattern)):
        text = path.read_text(encoding="utf-8", errors="ignore")
        read += len(text)
        yield text
        if read > bytes_max:
            return


def tokenizer_of(vocabulary: int) -> Path:
    path = PEERS / f"models/tok{vocabulary}.json"
    if path.exists():
        return path
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    pieces = pre_tokenizers.Split(Regex(PIECES), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(SPECIAL), min_frequency=2, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts(60_000_000 if vocabulary > 100_000 else 20_000_000), trainer)
    told = json.loads(tokenizer.to_str())
    known = told["model"]["vocab"]
    known |= {f"filler{i}": i for i in range(len(known), vocabulary - len(SPECIAL))}
    told["added_tokens"] = [
        {"id": vocabulary - len(SPECIAL) + i, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for i, text in enumerate(SPECIAL)
    ]  # fmt: skip
    path.write_text(json.dumps(told, ensure_ascii=False))
    return path


def weights_of(config: dict) -> dict:
    import torch

    generator = torch.Generator().manual_seed(SEED)

    def random(*shape: int):
        return (torch.randn(*shape, generator=generator, dtype=torch.float32) * 0.02).to(torch.bfloat16)

    hidden, middle, size = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, kv = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    ones = torch.ones(hidden, dtype=torch.bfloat16)
    weights = {"model.embed_tokens.weight": random(config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        for name, rows, columns in (("q", queries, hidden), ("k", kv, hidden), ("v", kv, hidden), ("o", hidden, queries)):
            weights[f"{at}self_attn.{name}_proj.weight"] = random(rows, columns)
            if config["model_type"] == "qwen2" and name != "o":
                weights[f"{at}self_attn.{name}_proj.bias"] = random(rows)
        weights[at + "mlp.gate_proj.weight"] = random(middle, hidden)
        weights[at + "mlp.up_proj.weight"] = random(middle, hidden)
        weights[at + "mlp.down_proj.weight"] = random(hidden, middle)
        weights[at + "input_layernorm.weight"] = ones.clone()
        weights[at + "post_attention_layernorm.weight"] = ones.clone()
    weights["model.norm.weight"] = ones.clone()
    if not config["tie_word_embeddings"]:
        weights["lm_head.weight"] = random(config["vocab_size"], hidden)
    return weights


def make(name: str):
    from safetensors.torch import save_file

    folder = PEERS / "models" / name
    folder.mkdir(parents=True, exist_ok=True)
    config = COMMON | MODELS[name]
    end = config["vocab_size"] - len(SPECIAL)
    save_file(weights_of(config), folder / "model.safetensors", metadata={"format": "pt"})
    ends = {"bos_token_id": end, "eos_token_id": end}
    (folder / "config.json").write_text(json.dumps(config | ends, indent=1))
    (folder / "generation_config.json").write_text(json.dumps({**ends, "do_sample": False}))
    shutil.copy(tokenizer_of(config["vocab_size"]), folder / "tokenizer.json")
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 4096, "add_bos_token": False, "bos_token": None,
            "eos_token": SPECIAL[0], "pad_token": SPECIAL[0], "chat_template": CHAT, "clean_up_tokenization_spaces": False}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(told))


def convert(name: str):
    """llama.cpp's converter, which tells pre-tokenizers by a hash that it cannot know of ours: it is Qwen2's."""
    sys.path[:0] = [str(LLAMA_SOURCE), str(LLAMA_SOURCE / "gguf-py")]
    import conversion.base

    for kind in [kind for kind in vars(conversion.base).values() if isinstance(kind, type) and "get_vocab_base_pre" in vars(kind)]:
        kind.get_vocab_base_pre = lambda _self, _tokenizer: "qwen2"
    folder = PEERS / "gguf"
    folder.mkdir(exist_ok=True)
    whole = folder / f"{name}-bf16.gguf"
    sys.argv = ["convert_hf_to_gguf.py", str(PEERS / "models" / name), "--outtype", "bf16", "--outfile", str(whole)]
    runpy.run_path(str(LLAMA_SOURCE / "convert_hf_to_gguf.py"), run_name="__main__")
    for kind in ("Q8_0", "Q4_0"):
        subprocess.run([PEERS / "llama-build/bin/llama-quantize", whole, folder / f"{name}-{kind}.gguf", kind], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MODELS))
    parser.add_argument("--gguf", action="store_true", help="of models that are there")
    arguments = parser.parse_args()
    for name in arguments.names or MODELS:
        (convert if arguments.gguf else make)(name)


if __name__ == "__main__":
    main()
