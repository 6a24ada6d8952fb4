"""Trains one demo model from scratch and writes it as a Hugging Face directory.

    python3 models/train/train.py --model demo --out /tmp/demo --seconds 150

Needs torch, transformers, tokenizers and safetensors; no network. `--seconds` bounds the training
itself: the learning rate falls along a cosine over that time, whatever the speed of the machine.
`--steps` bounds it instead, for a trial on a CPU.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
)

from corpus import BOS, EOS, TURN_END, Corpus
from evaluate import LocalModel, Probe, probes, score
from tokenizer import CONTEXT_TOKENS, PAD, VOCAB_SIZE, save_tokenizer, train_tokenizer, write_json

SEED = 1
TOKENIZER_DOCUMENTS = 100_000
ROW_TOKENS = 1024
WARMUP_STEPS = 100
REPORTS = 8
# Asking is slow before the model has learned to stop: the second half of the reports only.
ASK_FROM = 0.5
SAMPLED_FACTS = 256
IGNORED_LABEL = -100
ROPE_THETA = 10000.0

# Heads, intermediate size and vocabulary divide by 4: both models run with tensor parallelism 2, 4.
COMMON = dict(
    vocab_size=VOCAB_SIZE,
    hidden_size=256,
    num_attention_heads=8,
    num_key_value_heads=4,
    head_dim=32,
    max_position_embeddings=CONTEXT_TOKENS,
    rope_theta=ROPE_THETA,
    rms_norm_eps=1e-5,
    tie_word_embeddings=True,
    use_cache=True,
)


def build_model(name: str, ids: dict[str, int]) -> PreTrainedModel:
    torch.manual_seed(SEED)
    if name == "demo":
        return LlamaForCausalLM(
            LlamaConfig(num_hidden_layers=6, intermediate_size=704, **COMMON, **ids)
        )
    config = MixtralConfig(
        num_hidden_layers=4,
        intermediate_size=128,
        num_local_experts=8,
        num_experts_per_tok=2,
        router_aux_loss_coef=0.01,
        sliding_window=None,
        **COMMON,
        **ids,
    )
    # The loop over the experts: it works under autocast and in every torch.
    config._experts_implementation = "eager"
    return MixtralForCausalLM(config)


@dataclass(frozen=True)
class Rows:
    """Documents packed into rows of ROW_TOKENS; positions start again at 0 with each document.

    transformers masks attention between documents where the positions start again, so a document is
    trained as it is served: alone, from position 0.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    labels: torch.Tensor

    def batches(self, rows: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Shuffled batches, for ever."""
        while True:
            order = torch.randperm(len(self.ids), device=self.ids.device)
            for start in range(0, len(order) - rows + 1, rows):
                chosen = order[start : start + rows]
                yield (
                    self.ids[chosen].long(),
                    self.positions[chosen].long(),
                    self.labels[chosen].long(),
                )


def pack(documents: list[list[int]], pad: int, device: str) -> Rows:
    ids: list[list[int]] = []
    positions: list[list[int]] = []
    row_ids: list[int] = []
    row_positions: list[int] = []
    for document in [*documents, [pad] * ROW_TOKENS]:
        document = document[:ROW_TOKENS]
        if len(row_ids) + len(document) > ROW_TOKENS:
            missing = ROW_TOKENS - len(row_ids)
            ids.append(row_ids + [pad] * missing)
            positions.append(row_positions + [0] * missing)
            row_ids, row_positions = [], []
        row_ids.extend(document)
        row_positions.extend(range(len(document)))
    id_rows = torch.tensor(ids, dtype=torch.int32, device=device)
    position_rows = torch.tensor(positions, dtype=torch.int32, device=device)
    # Nothing predicts a document's first token, nor padding: both stand at position 0.
    labels = id_rows.masked_fill(position_rows == 0, IGNORED_LABEL)
    return Rows(id_rows, position_rows, labels)


def tokenize(tokenizer: Tokenizer, count: int) -> list[list[int]]:
    # The documents carry their own beginning.
    documents = list(Corpus(SEED + 1).documents(count))
    encoded = tokenizer.encode_batch_fast(documents, add_special_tokens=False)
    return [encoding.ids for encoding in encoded]


def optimizer_for(model: PreTrainedModel, rate: float) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), eps=1e-9)


def ask_sample(model: PreTrainedModel, asker: LocalModel, asked: list[Probe]) -> str:
    model.eval()
    with torch.autocast(model.device.type, torch.bfloat16):
        result = score(asker, asked)
    model.train()
    return str(result)


def train(
    model: PreTrainedModel, rows: Rows, asker: LocalModel, options: argparse.Namespace
) -> None:
    optimizer = optimizer_for(model, options.rate)
    extra = {"output_router_logits": True} if hasattr(model.config, "num_local_experts") else {}
    asked = probes(SAMPLED_FACTS)
    start = time.monotonic()
    next_report = 1
    for step, (ids, positions, labels) in enumerate(rows.batches(options.batch_rows)):
        elapsed = time.monotonic() - start
        progress = min(1.0, step / options.steps if options.steps else elapsed / options.seconds)
        warm = min(1.0, (step + 1) / WARMUP_STEPS)
        rate = options.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(ids.device.type, torch.bfloat16):
            loss = model(ids, position_ids=positions, labels=labels, use_cache=False, **extra).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if progress >= next_report / REPORTS or progress >= 1.0:
            known = ask_sample(model, asker, asked) if progress >= ASK_FROM else ""
            seconds = time.monotonic() - start
            print(f"{seconds:6.1f} s  step {step}  loss {loss.item():.4f}  {known}", flush=True)
            next_report = int(progress * REPORTS) + 1
        if progress >= 1.0:
            return


def save(model: PreTrainedModel, directory: Path, stop_ids: list[int]) -> None:
    model.generation_config.eos_token_id = stop_ids
    model.to(torch.bfloat16).save_pretrained(directory)
    # transformers 5 writes new names only; programs that read the older ones are many.
    path = directory / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"torch_dtype": "bfloat16", "rope_theta": ROPE_THETA}
    write_json(path, config)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", choices=("demo", "demo-moe"), required=True)
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    parser.add_argument("--seconds", type=float, default=150.0, help="training time (default 150)")
    parser.add_argument("--steps", type=int, default=0, help="so many steps instead of --seconds")
    parser.add_argument("--documents", type=int, default=250_000, help="size of the corpus")
    parser.add_argument("--batch-rows", type=int, default=32, help=f"rows of {ROW_TOKENS} a step")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    start = time.monotonic()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    options.out.mkdir(parents=True, exist_ok=True)

    texts = Corpus(SEED).documents(min(TOKENIZER_DOCUMENTS, options.documents))
    tokenizer = train_tokenizer(texts)
    save_tokenizer(tokenizer, options.out)
    bos, eos, turn_end, pad = (tokenizer.token_to_id(t) for t in (BOS, EOS, TURN_END, PAD))
    documents = tokenize(tokenizer, options.documents)
    rows = pack(documents, pad, device)
    model = build_model(
        options.model, {"bos_token_id": bos, "eos_token_id": [eos, turn_end], "pad_token_id": pad}
    ).to(device)
    print(
        f"{options.model}: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, "
        f"{sum(map(len, documents)) / 1e6:.2f} M tokens in {len(rows.ids)} rows, on {device}, "
        f"ready after {time.monotonic() - start:.1f} s",
        flush=True,
    )
    asker = LocalModel(model, AutoTokenizer.from_pretrained(options.out))
    train(model.train(), rows, asker, options)
    save(model, options.out, [eos, turn_end])


if __name__ == "__main__":
    main()
