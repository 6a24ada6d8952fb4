"""Writes golden_quantized/<case>/: a tiny Llama in each format of quantised checkpoints, and its logits.

usage: make_quantized.py [CASE...]      (needs numpy alone)

The formats are written here from their descriptions, not by our code; logits are computed in float64
from the numbers that the codes mean. Where our kernels round rows of activations to int8 (a scale for
each row, or for each group of 32 of its columns) the rows are rounded here too, so that what is left
is fp32 and the few codes that lie on an edge.
"""

import json
import pathlib
import sys

import numpy

FOLDER = pathlib.Path(__file__).parent / "golden_quantized"
VOCABULARY, HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, LAYERS, TOKENS = 40, 64, 96, 4, 2, 1, 24
HEAD_DIM = HIDDEN // HEADS
GROUP = 32
BLOCK = [32, 48]
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
LINEAR = {
    "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
    "self_attn.v_proj": (KV_HEADS * HEAD_DIM, HIDDEN), "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INTERMEDIATE, HIDDEN), "mlp.up_proj": (INTERMEDIATE, HIDDEN),
    "mlp.down_proj": (HIDDEN, INTERMEDIATE)}  # fmt: skip


class Raw:
    """A tensor of a type that numpy lacks."""

    def __init__(self, dtype, shape, data):
        self.dtype, self.shape, self.data = dtype, shape, data


def bf16(values):
    bits = numpy.asarray(values, numpy.float32).view(numpy.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(numpy.uint16)


def bf16_value(bits):
    return (bits.astype(numpy.uint32) << 16).view(numpy.float32)


def as_bf16(values):
    bits = bf16(values)
    return Raw("BF16", bits.shape, bits.tobytes()), bf16_value(bits).astype(numpy.float64)


def float8_values():
    """Of all codes of e4m3fn; its two NaN are left out."""
    codes = numpy.arange(256)
    exponent, mantissa = codes >> 3 & 15, codes & 7
    value = numpy.where(exponent == 0, mantissa * 2.0**-9, (8 + mantissa) * 2.0 ** (exponent - 10.0))
    return numpy.where(codes & 127 == 127, numpy.inf, numpy.where(codes & 128, -value, value))


def to_float8(values):
    table = float8_values()
    order = numpy.argsort(table[table < numpy.inf], kind="stable")
    codes = numpy.flatnonzero(table < numpy.inf)[order]
    sorted_values = table[codes]
    middle = (sorted_values[1:] + sorted_values[:-1]) / 2
    chosen = codes[numpy.searchsorted(middle, values)]
    return chosen.astype(numpy.uint8), table[chosen]


def save(path, tensors):
    names = {numpy.dtype("float16"): "F16", numpy.dtype("float32"): "F32", numpy.dtype("int32"): "I32",
             numpy.dtype("int8"): "I8", numpy.dtype("int64"): "I64"}  # fmt: skip
    header, data = {}, b""
    for name, tensor in tensors.items():
        raw = tensor if isinstance(tensor, Raw) else Raw(names[tensor.dtype], tensor.shape, tensor.tobytes())
        header[name] = {"dtype": raw.dtype, "shape": list(raw.shape), "data_offsets": [len(data), len(data) + len(raw.data)]}
        data += raw.data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def words(codes, bits):
    """Neighbours along the last axis in one 32-bit word, the first in the lowest bits."""
    per_word = 32 // bits
    split = codes.astype(numpy.uint32).reshape(*codes.shape[:-1], -1, per_word)
    shifts = numpy.arange(per_word, dtype=numpy.uint32) * bits
    return (split << shifts).sum(-1, dtype=numpy.uint32).view(numpy.int32)


def grouped(weight, groups, bits, symmetric):
    """Codes [out][in], scales and zeros [out][group] by rounding; groups is [in]."""
    most = 2**bits - 1
    count = groups.max() + 1
    codes = numpy.zeros(weight.shape, numpy.uint32)
    scales = numpy.zeros((weight.shape[0], count))
    zeros = numpy.zeros((weight.shape[0], count), numpy.uint32)
    for group in range(count):
        part = weight[:, groups == group]
        if symmetric:
            scale = numpy.abs(part).max(1) / (most // 2)
            zero = numpy.full(len(part), 2 ** (bits - 1))
        else:
            scale = (part.max(1).clip(0) - part.min(1).clip(None, 0)) / most
            zero = numpy.rint(-part.min(1).clip(None, 0) / scale).clip(1, most)
        scale = scale.astype(numpy.float16).astype(numpy.float64)
        codes[:, groups == group] = numpy.rint(part / scale[:, None] + zero[:, None]).clip(0, most)
        scales[:, group], zeros[:, group] = scale, zero
    return codes, scales, zeros


def meaning(codes, scales, zeros, groups):
    return (codes.astype(numpy.float64) - zeros[:, groups]) * scales[:, groups]


def int8_rounded(x):
    scale = numpy.abs(x).max(-1, keepdims=True) / 127
    return numpy.rint(x / numpy.where(scale == 0, 1, scale)) * scale


def in_groups(order):
    def rounded(x):
        out = numpy.empty_like(x)
        pieces = x[:, order].reshape(len(x), -1, GROUP)
        out[:, order] = int8_rounded(pieces).reshape(x.shape)
        return out

    return rounded


def group_of_columns(count, act_order):
    groups = numpy.arange(count) // GROUP
    # As q, k and v, which see the same x.
    return numpy.random.default_rng(7).permutation(groups) if act_order else groups


def gptq(weight, bits=4, symmetric=True, act_order=False, zeros_lack=1):
    groups = group_of_columns(weight.shape[1], act_order)
    codes, scales, zeros = grouped(weight, groups, bits, symmetric)
    tensors = {"qweight": words_of_rows(codes, bits),
               "qzeros": words(zeros.T - zeros_lack, bits), "scales": numpy.ascontiguousarray(scales.T).astype(numpy.float16),
               "g_idx": groups.astype(numpy.int32)}  # fmt: skip
    rounding = in_groups(numpy.argsort(groups, kind="stable")) if bits == 4 else None
    return tensors, meaning(codes, scales, zeros, groups), rounding


def words_of_rows(codes, bits):
    """[out][in] codes as [in · bits / 32][out] words."""
    return numpy.ascontiguousarray(words(codes, bits).T)


def awq(weight):
    groups = numpy.arange(weight.shape[1]) // GROUP
    codes, scales, zeros = grouped(weight, groups, 4, False)
    zeros = zeros.clip(0, 15)

    def interleaved(matrix):  # [a][out] -> [a][out / 8]
        return words(matrix.reshape(len(matrix), -1, 8)[:, :, AWQ_ORDER].reshape(matrix.shape), 4)

    tensors = {"qweight": interleaved(numpy.ascontiguousarray(codes.T)), "qzeros": interleaved(numpy.ascontiguousarray(zeros.T)),
               "scales": numpy.ascontiguousarray(scales.T).astype(numpy.float16)}  # fmt: skip
    return tensors, meaning(codes, scales, zeros, groups), in_groups(numpy.arange(weight.shape[1]))


def ct_packed(weight, bits=4, symmetric=True, act_order=False):
    groups = group_of_columns(weight.shape[1], act_order)
    codes, scales, zeros = grouped(weight, groups, bits, symmetric)
    stored, scales = as_bf16(scales)
    tensors = {"weight_packed": words(codes, bits), "weight_scale": stored,
               "weight_shape": numpy.array(weight.shape, numpy.int64)}  # fmt: skip
    if not symmetric:
        tensors["weight_zero_point"] = packed_down(zeros)
    if act_order:
        tensors["weight_g_idx"] = groups.astype(numpy.int32)
    rounding = in_groups(numpy.argsort(groups, kind="stable")) if bits == 4 else None
    return tensors, meaning(codes, scales, zeros, groups), rounding


def packed_down(matrix):
    """[out][groups] -> [out / 8][groups]"""
    return numpy.ascontiguousarray(words(numpy.ascontiguousarray(matrix.T), 4).T)


def ct_int8(weight):
    stored, scale = as_bf16(numpy.abs(weight).max(1, keepdims=True) / 127)
    codes = numpy.rint(weight / scale).clip(-128, 127).astype(numpy.int8)
    return {"weight": codes, "weight_scale": stored}, codes * scale, int8_rounded


def float8(weight, rows, columns, scale_name, flat=False):
    """One scale for each block of rows and columns; 0: all of them."""
    block_rows, block_columns = rows or weight.shape[0], columns or weight.shape[1]
    out = numpy.zeros(weight.shape)
    codes = numpy.zeros(weight.shape, numpy.uint8)
    scales = numpy.zeros((-(-weight.shape[0] // block_rows), -(-weight.shape[1] // block_columns)), numpy.float32)
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            at = numpy.s_[i * block_rows : (i + 1) * block_rows, j * block_columns : (j + 1) * block_columns]
            scales[i, j] = numpy.abs(weight[at]).max() / 448
            codes[at], values = to_float8(weight[at] / scales[i, j])
            out[at] = values * scales[i, j]
    stored = scales.reshape(-1)[0] if flat else scales
    return {"weight": Raw("F8_E4M3", codes.shape, codes.tobytes()), scale_name: numpy.asarray(stored, numpy.float32)}, out, None


def scheme(**weights):
    return {"group_0": {"targets": ["Linear"], "weights": weights}}


# name: (quantization_config, how a matrix is stored: -> tensors, what they mean, rounding of x)
CASES = {
    "gptq": (dict(quant_method="gptq", bits=4, group_size=GROUP, sym=True, desc_act=False), gptq),
    "gptq_act_order": (dict(quant_method="gptq", bits=4, group_size=GROUP, sym=False, desc_act=True),
                       lambda w: gptq(w, symmetric=False, act_order=True)),
    "gptq_8bit": (dict(quant_method="gptq", bits=8, group_size=GROUP, sym=True, desc_act=False),
                  lambda w: gptq(w, bits=8)),
    "gptq_v2": (dict(quant_method="gptq", bits=4, group_size=GROUP, sym=False, desc_act=False, checkpoint_format="gptq_v2"),
                lambda w: gptq(w, symmetric=False, zeros_lack=0)),
    "awq": (dict(quant_method="awq", bits=4, group_size=GROUP, version="gemm", zero_point=True), awq),
    "ct_int4": (dict(quant_method="compressed-tensors", format="pack-quantized", config_groups=scheme(
        num_bits=4, type="int", strategy="group", group_size=GROUP, symmetric=True)),
        ct_packed),
    "ct_int4_asymmetric": (dict(quant_method="compressed-tensors", format="pack-quantized", config_groups=scheme(
        num_bits=4, type="int", strategy="group", group_size=GROUP, symmetric=False)),
        lambda w: ct_packed(w, symmetric=False)),
    "ct_int4_g_idx": (dict(quant_method="compressed-tensors", format="pack-quantized", config_groups=scheme(
        num_bits=4, type="int", strategy="group", group_size=GROUP, symmetric=True, actorder="group")),
        lambda w: ct_packed(w, act_order=True)),
    "ct_packed_8bit": (dict(quant_method="compressed-tensors", format="pack-quantized", config_groups=scheme(
        num_bits=8, type="int", strategy="group", group_size=GROUP, symmetric=True)),
        lambda w: ct_packed(w, bits=8)),
    "ct_int8": (dict(quant_method="compressed-tensors", format="int-quantized", config_groups=scheme(
        num_bits=8, type="int", strategy="channel", symmetric=True)), ct_int8),
    "ct_fp8": (dict(quant_method="compressed-tensors", format="float-quantized", config_groups=scheme(
        num_bits=8, type="float", strategy="channel", symmetric=True)),
        lambda w: float8(w, 1, 0, "weight_scale")),
    "fp8": (dict(quant_method="fp8", activation_scheme="dynamic"),
            lambda w: float8(w, 0, 0, "weight_scale", flat=True)),
    "fp8_block": (dict(quant_method="fp8", activation_scheme="dynamic", weight_block_size=BLOCK),
                  lambda w: float8(w, *BLOCK, "weight_scale_inv")),
}  # fmt: skip


def norm(x, weight):
    return x / numpy.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * weight


def turned(heads):
    """[tokens][heads][dim] by rope."""
    half = HEAD_DIM // 2
    angles = numpy.arange(len(heads))[:, None] * 10000.0 ** (-numpy.arange(half) / half)
    cosine, sine = numpy.cos(angles)[:, None], numpy.sin(angles)[:, None]
    left, right = heads[..., :half], heads[..., half:]
    return numpy.concatenate([left * cosine - right * sine, right * cosine + left * sine], -1)


def attention(q, k, v):
    k, v = (numpy.repeat(heads, HEADS // KV_HEADS, 1) for heads in (k, v))
    scores = numpy.einsum("qhd,khd->hqk", q, k) / numpy.sqrt(HEAD_DIM)
    scores[:, ~numpy.tril(numpy.ones(scores.shape[1:], bool))] = -numpy.inf
    shares = numpy.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    return numpy.einsum("hqk,khd->qhd", shares, v).reshape(len(q), HIDDEN)


def logits_of(model, ids):
    def linear(name, x):
        weight, rounding = model[name]
        return (rounding(x) if rounding else x) @ weight.T

    x = model["model.embed_tokens"][ids]
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        h = norm(x, model[at + "input_layernorm"])
        q, k, v = (linear(at + f"self_attn.{part}_proj", h).reshape(len(ids), -1, HEAD_DIM) for part in "qkv")
        x = x + linear(at + "self_attn.o_proj", attention(turned(q), turned(k), v))
        h = norm(x, model[at + "post_attention_layernorm"])
        gate, up = linear(at + "mlp.gate_proj", h), linear(at + "mlp.up_proj", h)
        x = x + linear(at + "mlp.down_proj", gate / (1 + numpy.exp(-gate)) * up)
    return norm(x, model["model.norm"]) @ model["lm_head"].T


def write(name):
    quantization, store = CASES[name]
    rng = numpy.random.default_rng(5)
    tensors, model = {}, {}

    def plain(tensor, values):
        tensors[tensor + ".weight"] = values.astype(numpy.float16)
        model[tensor] = tensors[tensor + ".weight"].astype(numpy.float64)

    plain("model.embed_tokens", rng.normal(0, 1, (VOCABULARY, HIDDEN)))
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        plain(at + "input_layernorm", rng.normal(1, 0.2, HIDDEN))
        plain(at + "post_attention_layernorm", rng.normal(1, 0.2, HIDDEN))
        for part, shape in LINEAR.items():
            stored, means, rounding = store(rng.normal(0, 0.15, shape))
            tensors |= {f"{at}{part}.{tensor}": value for tensor, value in stored.items()}
            model[at + part] = (means, rounding)
    plain("model.norm", rng.normal(1, 0.2, HIDDEN))
    plain("lm_head", rng.normal(0, 0.15, (VOCABULARY, HIDDEN)))
    ids = rng.integers(0, VOCABULARY, TOKENS).astype(numpy.int32)
    directory = FOLDER / name
    directory.mkdir(parents=True, exist_ok=True)
    config = dict(
        architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=VOCABULARY, hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE, num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=KV_HEADS,
        max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=10000.0, hidden_act="silu", tie_word_embeddings=False,
        quantization_config=quantization)  # fmt: skip
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save(directory / "model.safetensors", tensors)
    save(directory / "expected.safetensors", {"tokens": ids, "logits": logits_of(model, ids).astype(numpy.float32)})


if __name__ == "__main__":
    for case in sys.argv[1:] or CASES:
        write(case)
