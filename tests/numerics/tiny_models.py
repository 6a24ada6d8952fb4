"""Random tiny models of every architecture we run. Adding an architecture is one row of CASES."""

import json
import pathlib

import torch
import transformers

transformers.utils.logging.disable_progress_bar()

VOCABULARY = 120
SHARED = dict(
    vocab_size=VOCABULARY,
    hidden_size=64,
    intermediate_size=80,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    tie_word_embeddings=False,
    initializer_range=0.2,
)

# name: (configuration class, what differs from SHARED)
CASES = {
    "llama": ("LlamaConfig", {}),
    "llama_head_dim": ("LlamaConfig", dict(head_dim=24, num_attention_heads=3, num_key_value_heads=1, hidden_size=48)),
    "llama_bias": ("LlamaConfig", dict(attention_bias=True, mlp_bias=True, num_key_value_heads=4)),
    "llama_tied": ("LlamaConfig", dict(tie_word_embeddings=True, vocab_size=123)),
    "llama_linear": ("LlamaConfig", dict(rope_scaling=dict(rope_type="linear", factor=4.0))),
    "llama_dynamic": ("LlamaConfig", dict(rope_scaling=dict(rope_type="dynamic", factor=4.0))),
    "llama_llama3": ("LlamaConfig", dict(rope_scaling=dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=16))),
    "llama_yarn": ("LlamaConfig", dict(rope_scaling=dict(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=16))),
    "mistral": ("MistralConfig", dict(sliding_window=7)),
    # Where two experts are nearly equal, bf16 may choose the other one and be far off: this one has
    # no such token.
    "mixtral": ("MixtralConfig", dict(
        num_local_experts=4, num_experts_per_tok=2, intermediate_size=32, sliding_window=11)),
    "qwen2": ("Qwen2Config", dict(num_attention_heads=7, num_key_value_heads=1, hidden_size=56)),
    "qwen2_window": ("Qwen2Config", dict(use_sliding_window=True, sliding_window=9, max_window_layers=1)),
    "qwen3": ("Qwen3Config", dict(head_dim=32)),
    "qwen3_bias": ("Qwen3Config", dict(head_dim=16, attention_bias=True, tie_word_embeddings=True)),
}


def randomise_small_weights(model):
    """Biases start at 0 and norms at 1: a loader that forgot them would not be noticed."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.3)
            elif parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5)


def convert_parameters(model, dtype):
    """Not model.to(): that would round the rope's frequencies too."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16).to(dtype)
    model.config.dtype = dtype


def make_model(name, dtype=torch.float32):
    """The model of a row, deterministic. Weights are representable in bf16."""
    config_class, changes = CASES[name]
    config = getattr(transformers, config_class)(**{**SHARED, **changes})
    torch.manual_seed(sum(map(ord, name)))
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    randomise_small_weights(model)
    convert_parameters(model, dtype)
    return model.eval()


def save_model(model, directory):
    model.save_pretrained(directory)
    pathlib.Path(directory, "generation_config.json").unlink(missing_ok=True)


def prompt_of(name, count):
    generator = torch.Generator().manual_seed(len(name))
    return torch.randint(0, VOCABULARY, (count,), generator=generator).tolist()


def logits_of(model, ids):
    """[ids][vocabulary] as a decode of one token after the other gives them."""
    if "dynamic" not in json.dumps(model.config.to_dict().get("rope_parameters", {})):
        with torch.no_grad():
            return model(torch.tensor([ids])).logits[0].float()
    rows, cache = [], transformers.DynamicCache(config=model.config)
    with torch.no_grad():
        for token in ids:
            rows.append(model(torch.tensor([[token]]), past_key_values=cache).logits[0, -1].float())
    return torch.stack(rows)
