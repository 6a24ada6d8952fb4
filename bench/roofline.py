"""What a forward pass has to do at least, and how long that takes at the limits of a machine.

The same sums as bench/model/work.cc, for figures that come from elsewhere: all weights and all KV read once, all
products and those of attention; activations are left out. A step takes as long as its reading or its multiplying,
whichever is longer.
"""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shape:
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int
    vocabulary: int

    @property
    def layer_weights(self) -> int:
        attention = 2 * self.hidden * (self.heads + self.kv_heads) * self.head_size
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def head_weights(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def kv_bytes_per_token(self) -> int:
        return self.layers * 2 * self.kv_heads * self.head_size * 2


@dataclass(frozen=True)
class Limits:
    """As bench_limits prints them."""

    read_gb_s: float
    bf16_gflop_s: float


def shape_of(model: Path) -> Shape:
    config = json.loads((model / "config.json").read_text())
    heads = config["num_attention_heads"]
    return Shape(
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads", heads),
        head_size=config.get("head_dim", config["hidden_size"] // heads),
        intermediate=config["intermediate_size"],
        vocabulary=config["vocab_size"],
    )


def step_seconds(shape: Shape, limits: Limits, sequences: int, context: int, tokens: int, weight_bits: int = 16) -> float:
    """Of one step: so many sequences that have `context` tokens of KV and get `tokens` more each."""
    weight_bytes = (shape.layer_weights + shape.head_weights) * weight_bits / 8
    kv_bytes = shape.kv_bytes_per_token * sequences * (context + tokens)
    reading = (weight_bytes + kv_bytes) / limits.read_gb_s / 1e9
    # Products of int8 codes go at twice the rate of bf16.
    products = 2 * sequences * (shape.layer_weights * tokens + shape.head_weights) / (2 if weight_bits < 16 else 1)
    pairs = sequences * (tokens * context + tokens * (tokens + 1) / 2)
    attention = 4 * shape.layers * shape.heads * shape.head_size * pairs
    operations = products + attention
    return max(reading, operations / limits.bf16_gflop_s / 1e9) if limits.bf16_gflop_s else reading


def decode_seconds(shape: Shape, limits: Limits, sequences: int, context: int, steps: int, weight_bits: int = 16) -> float:
    """Of so many steps, one after another."""
    return sum(step_seconds(shape, limits, sequences, context + i, 1, weight_bits) for i in range(steps))
