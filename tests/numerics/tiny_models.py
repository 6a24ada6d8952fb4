"""Random tiny models of every architecture we run. Adding an architecture is one row of CASES.

Weights are not random numbers but a hash of the tensor's name (values_of), which
generated_weights_for_test.h computes too: a golden model is its list of tensors.
"""

import json
import pathlib

import numpy
import safetensors
import safetensors.torch
import torch
import transformers

transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()

VOCABULARY = 60
PROMPT_TOKENS = 32
SHARED = dict(
    vocab_size=VOCABULARY,
    hidden_size=64,
    intermediate_size=80,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    pad_token_id=None,
    tie_word_embeddings=False,
)
SHORT_FACTORS = [1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 3.0]
LONG_FACTORS = [1.0, 2.0, 4.0, 6.0, 9.0, 13.0, 20.0, 32.0]
# These have other names for them, or none.
OTHER_NAMES = dict(intermediate_size=None, num_key_value_heads=None)
LONGROPE = dict(rope_type="longrope", short_factor=SHORT_FACTORS, long_factor=LONG_FACTORS)

LATENT = dict(num_key_value_heads=4, kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=16, v_head_dim=24)
DEEPSEEK = dict(**LATENT, n_routed_experts=8, num_experts_per_tok=3, moe_intermediate_size=32)
MSCALED_YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=16, mscale=0.7, mscale_all_dim=1.3)

LEFT_OUT = object()


def without(*names):
    return dict.fromkeys(names, LEFT_OUT)


# name: (configuration class, what differs from SHARED, what config.json is then made to say)
CASES = {
    "deepseek_v2": ("DeepseekV2Config", dict(
        **DEEPSEEK, q_lora_rank=24, first_k_dense_replace=1, n_shared_experts=2, routed_scaling_factor=1.5,
        topk_method="group_limited_greedy", n_group=4, topk_group=2, rope_scaling=MSCALED_YARN)),
    "deepseek_v2_lite": ("DeepseekV2Config", dict(
        **dict(DEEPSEEK, qk_rope_head_dim=32, num_experts_per_tok=2), q_lora_rank=None, n_shared_experts=1,
        topk_method="greedy")),
    "deepseek_v3": ("DeepseekV3Config", dict(
        **DEEPSEEK, q_lora_rank=32, first_k_dense_replace=1, n_group=4, topk_group=2, rope_scaling=MSCALED_YARN)),
    "deepseek_v3_plain": ("DeepseekV3Config", dict(
        **DEEPSEEK, q_lora_rank=None, first_k_dense_replace=0, n_group=1, topk_group=1, norm_topk_prob=False,
        routed_scaling_factor=1.0, rope_interleave=False)),
    "falcon_7b": ("FalconConfig", dict(**OTHER_NAMES, alibi=False, bias=False)),
    "falcon_40b": ("FalconConfig", dict(**OTHER_NAMES, new_decoder_architecture=True, num_kv_heads=2)),
    "falcon_11b": ("FalconConfig", dict(
        **OTHER_NAMES, new_decoder_architecture=True, num_kv_heads=2, num_ln_in_parallel_attn=1, ffn_hidden_size=96)),
    "falcon_sequential": ("FalconConfig", dict(
        **OTHER_NAMES, multi_query=False, parallel_attn=False, bias=True, tie_word_embeddings=True)),
    "gemma": ("GemmaConfig", dict(head_dim=24, num_key_value_heads=1, tie_word_embeddings=True)),
    "gemma2": ("Gemma2Config", dict(
        head_dim=16, sliding_window=7, query_pre_attn_scalar=24, attn_logit_softcapping=2.0,
        final_logit_softcapping=10.0, tie_word_embeddings=True)),
    "gemma2_uncapped_scores": ("Gemma2Config", dict(
        head_dim=16, query_pre_attn_scalar=96, attn_logit_softcapping=None, final_logit_softcapping=10.0)),
    "gemma2_uncapped_logits": ("Gemma2Config", dict(
        head_dim=16, query_pre_attn_scalar=24, attn_logit_softcapping=2.0, final_logit_softcapping=None)),
    "gemma3_caps": ("Gemma3TextConfig", dict(
        head_dim=16, query_pre_attn_scalar=24, layer_types=["sliding_attention", "full_attention"],
        attn_logit_softcapping=2.0, final_logit_softcapping=10.0)),
    "gemma3": ("Gemma3TextConfig", dict(
        head_dim=16, sliding_window=7, query_pre_attn_scalar=24, tie_word_embeddings=True,
        layer_types=["sliding_attention", "full_attention"],
        rope_parameters=dict(
            full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1e6),
            sliding_attention=dict(rope_type="default", rope_theta=1e4)))),
    # The language model within a model that sees images.
    "gemma3_images": ("Gemma3Config", dict(
        text_config=dict(SHARED, head_dim=16, sliding_window=7, query_pre_attn_scalar=24,
                         tie_word_embeddings=True, layer_types=["sliding_attention", "full_attention"]),
        vision_config=dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                           num_attention_heads=2, image_size=28, patch_size=14),
        mm_tokens_per_image=4)),
    "gpt2": ("GPT2Config", dict(**OTHER_NAMES, tie_word_embeddings=True)),
    "gpt_neox": ("GPTNeoXConfig", dict(num_key_value_heads=None, rotary_pct=0.5)),
    "gpt_neox_sequential": ("GPTNeoXConfig", dict(
        num_key_value_heads=None, use_parallel_residual=False, attention_bias=False)),
    "granite": ("GraniteConfig", dict(
        embedding_multiplier=3.0, residual_multiplier=0.5, attention_multiplier=0.125, logits_scaling=4.0)),
    "llama": ("LlamaConfig", {}),
    "llama_head_dim": ("LlamaConfig", dict(head_dim=24, num_attention_heads=3, num_key_value_heads=1, hidden_size=48)),
    "llama_bias": ("LlamaConfig", dict(attention_bias=True, mlp_bias=True, num_key_value_heads=4)),
    "llama_tied": ("LlamaConfig", dict(tie_word_embeddings=True, vocab_size=61)),
    "llama_linear": ("LlamaConfig", dict(rope_scaling=dict(rope_type="linear", factor=4.0))),
    "llama_dynamic": ("LlamaConfig", dict(
        rope_scaling=dict(rope_type="dynamic", factor=4.0), max_position_embeddings=20)),
    "llama_llama3": ("LlamaConfig", dict(rope_scaling=dict(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=16))),
    "llama_partial": ("LlamaConfig", dict(rope_parameters=dict(
        rope_type="default", rope_theta=1e4, partial_rotary_factor=0.5))),
    "llama_longrope": ("LlamaConfig", dict(rope_scaling=dict(
        LONGROPE, factor=4.0, original_max_position_embeddings=16))),
    "llama_yarn": ("LlamaConfig", dict(rope_scaling=dict(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=16))),
    "mistral": ("MistralConfig", dict(sliding_window=7)),
    # Where two experts are nearly equal, bf16 may choose the other one and be far off: this one has
    # no such token.
    "mixtral": ("MixtralConfig", dict(
        num_local_experts=4, num_experts_per_tok=2, intermediate_size=32, sliding_window=11)),
    "mixtral_defaults": ("MixtralConfig", dict(num_local_experts=4, intermediate_size=32), without(
        "rope_theta", "rope_parameters", "rms_norm_eps", "num_experts_per_tok")),
    "olmo2": ("Olmo2Config", {}),
    "olmo2_defaults": ("Olmo2Config", {}, without("rms_norm_eps")),
    "phi3": ("Phi3Config", dict(
        sliding_window=9, rope_parameters=dict(rope_type="default", partial_rotary_factor=0.75))),
    # A prompt beyond the original context and one within it.
    "phi3_long": ("Phi3Config", dict(original_max_position_embeddings=16, rope_scaling=LONGROPE)),
    "phi3_short": ("Phi3Config", dict(
        original_max_position_embeddings=64, rope_scaling=dict(LONGROPE, attention_factor=1.25))),
    "qwen2": ("Qwen2Config", dict(num_attention_heads=7, num_key_value_heads=1, hidden_size=56)),
    "qwen2_window": ("Qwen2Config", dict(use_sliding_window=True, sliding_window=9, max_window_layers=1)),
    "qwen2_no_window": ("Qwen2Config", {}, dict(
        sliding_window=9, max_window_layers=0, **without("use_sliding_window", "layer_types"))),
    "qwen2_late_window": ("Qwen2Config", {}, dict(
        use_sliding_window=True, sliding_window=9, **without("max_window_layers", "layer_types"))),
    "qwen2_moe": ("Qwen2MoeConfig", dict(
        num_experts=6, num_experts_per_tok=2, moe_intermediate_size=32, shared_expert_intermediate_size=48)),
    "qwen2_moe_dense_layer": ("Qwen2MoeConfig", dict(
        num_experts=6, num_experts_per_tok=2, moe_intermediate_size=32, shared_expert_intermediate_size=48,
        norm_topk_prob=True, qkv_bias=False, mlp_only_layers=[0])),
    "qwen2_moe_window": ("Qwen2MoeConfig", dict(
        num_experts=6, num_experts_per_tok=2, moe_intermediate_size=32, shared_expert_intermediate_size=48),
        dict(use_sliding_window=True, sliding_window=9, **without("layer_types", "max_window_layers"))),
    "qwen3_no_window": ("Qwen3Config", dict(head_dim=16), dict(
        sliding_window=9, max_window_layers=0, **without("use_sliding_window", "layer_types"))),
    "qwen3": ("Qwen3Config", dict(head_dim=32)),
    "qwen3_moe": ("Qwen3MoeConfig", dict(
        head_dim=32, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=32, norm_topk_prob=True)),
    "qwen3_moe_every_second": ("Qwen3MoeConfig", dict(
        head_dim=16, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=32, decoder_sparse_step=2)),
    "qwen3_moe_window": ("Qwen3MoeConfig", dict(
        head_dim=16, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=32),
        dict(use_sliding_window=True, sliding_window=11)),
    "qwen3_bias": ("Qwen3Config", dict(head_dim=16, attention_bias=True, tie_word_embeddings=True)),
    "smollm3": ("SmolLM3Config", dict(no_rope_layers=[1, 0], tie_word_embeddings=True)),
    "smollm3_defaults": ("SmolLM3Config", dict(num_hidden_layers=4), without(
        "rope_theta", "rope_parameters", "no_rope_layers", "layer_types")),
    "smollm3_window": ("SmolLM3Config", dict(no_rope_layers=[1, 0]), dict(
        use_sliding_window=True, sliding_window=9, **without("layer_types"))),
    "stablelm": ("StableLmConfig", dict(use_qkv_bias=True, partial_rotary_factor=0.5)),
    "stablelm_12b": ("StableLmConfig", dict(qk_layernorm=True, use_parallel_residual=True)),
}

# Of these the hidden states count: (configuration class, what differs from SHARED, architectures[0]).
EMBEDDING_CASES = {
    "bert": ("BertConfig", dict(num_key_value_heads=None, pad_token_id=0), "BertModel"),
    # Saved without a head, under the name of the model that has one.
    "qwen3_embedding": ("Qwen3Config", dict(head_dim=32, tie_word_embeddings=True), "Qwen3ForCausalLM"),
}


def hash_of(text):
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def values_of(name, shape, centre, spread):
    """centre + spread · k / 64 with k in [-64, 63] from splitmix64 of the name and the index."""
    count = int(numpy.prod(shape))
    with numpy.errstate(over="ignore"):
        mixed = numpy.uint64(hash_of(name)) + numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(
            0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> numpy.uint64(31)
    steps = (mixed >> numpy.uint64(57)).astype(numpy.float32) - 64
    return torch.from_numpy(centre + spread * steps / 64).reshape(shape)


def spread_of(name, shape):
    """Norms lie around 1 and biases around 0: a loader that forgot them would be noticed. All values
    are exact in bf16."""
    if len(shape) > 1:
        return 0.0, 0.375
    return (0.0, 0.5) if name.endswith("bias") else (1.0, 0.5)


def configuration_of(name):
    config_class, changes = (CASES.get(name) or EMBEDDING_CASES[name])[:2]
    own = changes if "text_config" in changes else {**SHARED, **changes}
    return getattr(transformers, config_class)(**own)


def class_of(config, name):
    if name in EMBEDDING_CASES:
        return transformers.AutoModel
    sees_images = hasattr(config, "text_config")
    return transformers.AutoModelForImageTextToText if sees_images else transformers.AutoModelForCausalLM


def save_model(name, directory):
    """Writes the model of a row, in bf16; returns its tensors as (name, shape, centre, spread)."""
    torch.manual_seed(0)
    config = configuration_of(name)
    model = class_of(config, name).from_config(config)
    model.to(torch.bfloat16).save_pretrained(directory)
    path = pathlib.Path(directory, "model.safetensors")
    with safetensors.safe_open(path, "pt") as stored:
        shapes = {tensor: stored.get_slice(tensor).get_shape() for tensor in sorted(stored.keys())}
    tensors = [(tensor, shape, *spread_of(tensor, shape)) for tensor, shape in shapes.items()]
    weights = {tensor: values_of(tensor, *rest).to(torch.bfloat16) for tensor, *rest in tensors}
    safetensors.torch.save_file(weights, path, metadata={"format": "pt"})
    pathlib.Path(directory, "generation_config.json").unlink(missing_ok=True)
    if name in EMBEDDING_CASES:
        write_config(directory, dict(architectures=[EMBEDDING_CASES[name][2]]))
    elif len(CASES[name]) > 2:
        write_config(directory, CASES[name][2])
    return tensors


def write_config(directory, changes):
    path = pathlib.Path(directory, "config.json")
    written = json.loads(path.read_text()) | changes
    kept = {key: value for key, value in written.items() if value is not LEFT_OUT}
    path.write_text(json.dumps(kept, indent=2) + "\n")


def load_model(directory, dtype=torch.float32, name=None):
    """What transformers makes of it."""
    config = transformers.AutoConfig.from_pretrained(directory)
    model = class_of(config, name).from_pretrained(
        directory, attn_implementation="eager", dtype=torch.float32)
    for parameter in model.parameters():  # Not model.to(): that would round the rope's frequencies too.
        parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype
    return model.eval()


def prompt_of(name):
    return numpy.random.default_rng(hash_of(name)).integers(0, VOCABULARY, PROMPT_TOKENS).tolist()


def logits_of(model, ids):
    """[ids][vocabulary] as a decode of one token after the other gives them."""
    if "dynamic" not in json.dumps(model.config.to_dict().get("rope_parameters")):
        with torch.no_grad():
            return model(torch.tensor([ids])).logits[0].float()
    rows, cache = [], transformers.DynamicCache(config=model.config)
    with torch.no_grad():
        for token in ids:
            rows.append(model(torch.tensor([[token]]), past_key_values=cache).logits[0, -1].float())
    return torch.stack(rows)


def states_of(model, ids):
    """[ids][hidden]: the last hidden states."""
    with torch.no_grad():
        return model(torch.tensor([ids])).last_hidden_state[0].float()
