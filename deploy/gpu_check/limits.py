"""How much a forward pass has to do, and how long that takes at the limits of a device."""

from typing import NamedTuple, Optional

WEIGHT_BYTES = {"bf16": 2, "fp8": 1}  # Of the layers' matrices; the head is bf16.


class Shape(NamedTuple):
    """As bench/model/random_model.h has it, by the same name."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int

    def layer_weights(self) -> int:
        head_size = self.hidden // self.heads
        return self.layers * (2 * self.hidden * (self.heads + self.kv_heads) * head_size + 3 * self.hidden * self.intermediate)

    def head_weights(self) -> int:
        return self.vocabulary * self.hidden

    def file_bytes(self, weights: str) -> int:
        """Less the norms, the scales and the header."""
        return WEIGHT_BYTES[weights] * self.layer_weights() + 4 * self.head_weights()

    def kv_bytes_per_token(self) -> int:
        return 2 * 2 * self.layers * self.kv_heads * (self.hidden // self.heads)

    def decode_bytes(self, weights: str, sequences: int, context: float) -> float:
        """Of a step that gives each sequence, `context` tokens long, one token: weights and KV are read once."""
        return WEIGHT_BYTES[weights] * self.layer_weights() + 2 * self.head_weights() + sequences * context * self.kv_bytes_per_token()

    def prefill_operations(self, sequences: int, tokens: int) -> float:
        """Of prompts that give one token each: all products, and attention's to the tokens before."""
        attention = 4 * self.layers * self.hidden * tokens * (tokens + 1) / 2
        return sequences * (2 * self.layer_weights() * tokens + attention + 2 * self.head_weights())


TL11 = Shape("tl11", 22, 2048, 32, 4, 5632, 32000)
LLAMA8 = Shape("llama8", 32, 4096, 32, 8, 14336, 128256)
TOY = Shape("toy", 2, 128, 4, 2, 256, 2048)

# Dense bf16 operations of a multiprocessor in a clock, by compute capability.
OPERATIONS_PER_CLOCK = {"8.0": 2048, "9.0": 4096}
# Bytes a second and dense bf16 operations a second where better is known than clocks say: NVIDIA's bandwidth, and what cuBLAS
# reached on one.
KNOWN = {"NVIDIA H200": (4.8e12, 790e12)}


class Limits(NamedTuple):
    bytes_per_second: Optional[float]
    operations_per_second: Optional[float]
    source: str


def limits_of(facts: dict, memory_gigabytes: Optional[float], tensor_teraflops: Optional[float]) -> Limits:
    """Those given, else those known of a device of that name, else what its clocks say; None: not known."""
    memory, tensor, source = None, None, "not known"
    if facts.get("memory_clock_khz"):  # Two transfers a clock.
        memory = 2 * 1e3 * facts["memory_clock_khz"] * facts["memory_bus_bits"] / 8
        source = "the driver's clocks"
    if facts.get("clock_khz") and facts["capability"] in OPERATIONS_PER_CLOCK:
        tensor = OPERATIONS_PER_CLOCK[facts["capability"]] * facts["multiprocessors"] * 1e3 * facts["clock_khz"]
    if facts["name"] in KNOWN:
        (memory, tensor), source = KNOWN[facts["name"]], "known of this device"
    if memory_gigabytes or tensor_teraflops:
        source = "given"
        memory = memory_gigabytes * 1e9 if memory_gigabytes else memory
        tensor = tensor_teraflops * 1e12 if tensor_teraflops else tensor
    return Limits(memory, tensor, source)


def share(least_work: float, limit: Optional[float], seconds: float) -> Optional[float]:
    return least_work / limit / seconds if limit else None
