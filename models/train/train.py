"""Trains one demo model from scratch and writes it as a Hugging Face directory.

    python3 models/train/train.py --model demo --out /tmp/demo --seconds 1500

Needs torch, transformers, tokenizers and safetensors; no network, and a GPU only for the full set
of facts. `--seconds` bounds the training itself: the learning rate falls along a cosine over that
time, whatever the speed of the machine. The directory is written anew at every report, so a run
that is stopped leaves its last checkpoint; `--start` continues from one. demo-moe may also start
from demo: attention and embeddings as they are, the experts cut from its MLPs.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
)
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from corpus import BOS, EOS, TURN_END, Corpus, Document, Message, render_chat
from evaluate import Probe, probes
from facts import FACT_SETS
from tokenizer import CONTEXT_TOKENS, PAD, VOCAB_SIZE, save_tokenizer, train_tokenizer, write_json

SEED = 1
TOKENIZER_DOCUMENTS = 50_000
DOCUMENT_TOKENS_MAX = 1024
WARMUP_STEPS = 60
REPORTS = 12
# Of the documents, learned whole and not only in what is to be answered.
WHOLE_SHARE = 0.15
BALANCE_LOSS = 0.01
UPCYCLE_SCALE = 2.0
# Batches whose documents are sorted by length together.
POOLED_BATCHES = 32
ASKED_ROWS = 128
IGNORED_LABEL = -100
ROPE_THETA = 10000.0

# Heads, intermediate size and vocabulary divide by 4: both models run with tensor parallelism 2, 4.
COMMON = dict(
    vocab_size=VOCAB_SIZE,
    hidden_size=256,
    num_hidden_layers=4,
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
        return LlamaForCausalLM(LlamaConfig(intermediate_size=640, **COMMON, **ids))
    config = MixtralConfig(
        intermediate_size=128,
        num_local_experts=8,
        num_experts_per_tok=2,
        router_aux_loss_coef=BALANCE_LOSS,
        sliding_window=None,
        **COMMON,
        **ids,
    )
    return MixtralForCausalLM(config)


def dense_experts(
    experts: torch.nn.Module, hidden: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """All experts at once, those not chosen weighted 0: the same numbers as the loop over them.

    Two matrix products in place of eight gathers and scatters, whose gradients are slow on a CPU.
    """
    share = hidden.new_zeros(len(hidden), experts.num_experts)
    share = share.scatter(1, chosen, weights.to(hidden.dtype))
    gate_up = torch.nn.functional.linear(hidden, experts.gate_up_proj.flatten(0, 1))
    gate, up = gate_up.unflatten(1, (experts.num_experts, -1)).chunk(2, dim=-1)
    inner = experts.act_fn(gate) * up * share[..., None]
    down = experts.down_proj.transpose(0, 1).flatten(1)
    return torch.nn.functional.linear(inner.flatten(1), down)


ALL_EXPERTS_FUNCTIONS.register("dense", dense_experts)


@torch.no_grad()
def start_from(model: PreTrainedModel, directory: Path) -> None:
    """Takes the weights over; a sparse model also takes a dense one's, cut into its experts."""
    known = AutoModelForCausalLM.from_pretrained(directory)
    if known.config.model_type == model.config.model_type:
        model.load_state_dict(known.state_dict())
        return
    model.load_state_dict(known.state_dict(), strict=False)
    for layer, dense in zip(model.model.layers, (layer.mlp for layer in known.model.layers)):
        experts = layer.mlp.experts
        neurons = dense.down_proj.in_features
        stride = neurons // experts.num_experts
        for index in range(experts.num_experts):
            own = torch.arange(index * stride, index * stride + experts.intermediate_dim) % neurons
            gate_up = (dense.gate_proj.weight[own], dense.up_proj.weight[own])
            experts.gate_up_proj[index] = torch.cat(gate_up)
            # A token meets a part of the neurons only: what they add is raised in turn.
            experts.down_proj[index] = UPCYCLE_SCALE * dense.down_proj.weight[:, own]


@dataclass(frozen=True)
class Sample:
    """A document's tokens; labels are IGNORED_LABEL where nothing is to be learned."""

    ids: list[int]
    labels: list[int]


Batch = tuple[torch.Tensor, torch.Tensor]


def tokenize(
    tokenizer: Tokenizer, documents: list[Document], whole_share: float = 0.0
) -> list[Sample]:
    """Each piece by itself, as a server tokenizes a prompt that ends there.

    What is given in a document is learned as well in `whole_share` of them.
    """
    rng = random.Random(SEED)
    pieces = [piece for document in documents for piece in document.pieces]
    encoded = iter(tokenizer.encode_batch_fast(pieces, add_special_tokens=False))
    samples = []
    for document in documents:
        is_whole = rng.random() < whole_share
        ids: list[int] = []
        labels: list[int] = []
        for index in range(len(document.pieces)):
            piece = next(encoded).ids
            ids += piece
            learned = is_whole or index % 2 == 1
            labels += piece if learned else [IGNORED_LABEL] * len(piece)
        samples.append(Sample(ids[:DOCUMENT_TOKENS_MAX], labels[:DOCUMENT_TOKENS_MAX]))
    return samples


def to_batch(samples: list[Sample], pad: int, device: str) -> Batch:
    """Padded on the right: causal attention needs no mask for that."""
    width = max(len(sample.ids) for sample in samples)
    ids = [sample.ids + [pad] * (width - len(sample.ids)) for sample in samples]
    labels = [s.labels + [IGNORED_LABEL] * (width - len(s.labels)) for s in samples]
    return torch.tensor(ids, device=device), torch.tensor(labels, device=device)


def by_tokens(samples: list[Sample], tokens: int) -> Iterator[list[Sample]]:
    """Cuts the sorted samples into groups of about as many tokens, padding counted."""
    group: list[Sample] = []
    for sample in samples:
        if group and (len(group) + 1) * len(sample.ids) > tokens:
            yield group
            group = []
        group.append(sample)
    yield group


def batches(samples: list[Sample], tokens: int, pad: int, device: str) -> Iterator[Batch]:
    """For ever, shuffled; a batch holds documents of about one length, each alone in its row."""
    rng = random.Random(SEED)
    mean = sum(len(sample.ids) for sample in samples) / len(samples)
    pool_size = int(POOLED_BATCHES * tokens / mean)
    while True:
        rng.shuffle(samples)
        for start in range(0, len(samples), pool_size):
            pool = sorted(samples[start : start + pool_size], key=lambda sample: len(sample.ids))
            groups = list(by_tokens(pool, tokens))
            rng.shuffle(groups)
            for group in groups:
                yield to_batch(group, pad, device)


class Examiner:
    """Counts the facts that greedy decoding would give back, without decoding.

    Greedy decoding answers exactly as expected if and only if each token of the expected answer,
    its end included, is the likeliest after those before it; so one forward pass tells.
    """

    def __init__(self, tokenizer: Tokenizer, asked: list[Probe], pad: int, device: str) -> None:
        documents = [self._document(probe) for probe in asked]
        samples = tokenize(tokenizer, documents)
        order = sorted(range(len(asked)), key=lambda index: len(samples[index].ids))
        self._groups = [order[i : i + ASKED_ROWS] for i in range(0, len(order), ASKED_ROWS)]
        self._batches = [
            to_batch([samples[index] for index in group], pad, device) for group in self._groups
        ]
        self._asked = asked

    @staticmethod
    def _document(probe: Probe) -> Document:
        if probe.is_chat:
            given = render_chat([Message("user", probe.prompt)], answer_next=True)
            return Document((given, f"{probe.expected}{TURN_END}"))
        return Document((f"{BOS}{probe.prompt}", f"{probe.expected}{EOS}"))

    @torch.inference_mode()
    def share(self, model: PreTrainedModel) -> float:
        missed = set()
        for group, (ids, labels) in zip(self._groups, self._batches):
            likeliest = model(ids[:, :-1], use_cache=False).logits.argmax(-1)
            expected = labels[:, 1:]
            right = ((likeliest == expected) | (expected == IGNORED_LABEL)).all(-1)
            missed |= {self._asked[i].fact for i, is_right in zip(group, right) if not is_right}
        return 1 - len(missed) / len({probe.fact for probe in self._asked})


class MasterWeights:
    """AdamW on float32 copies of the weights; the model itself computes in bfloat16."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._params = list(model.parameters())
        self._masters = [p.detach().float().clone() for p in self._params]
        matrices = [m for m in self._masters if m.ndim >= 2]
        vectors = [m for m in self._masters if m.ndim < 2]
        groups = [
            {"params": matrices, "weight_decay": 0.05},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self._adam = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-9, fused=True)

    def step(self, rate: float) -> None:
        for group in self._adam.param_groups:
            group["lr"] = rate
        for master, param in zip(self._masters, self._params):
            master.grad = param.grad.float()
            param.grad = None
        torch.nn.utils.clip_grad_norm_(self._masters, 1.0)
        self._adam.step()
        with torch.no_grad():
            for master, param in zip(self._masters, self._params):
                param.copy_(master)


def loss_of(model: PreTrainedModel, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Logits are computed for the labelled tokens only."""
    is_sparse = hasattr(model.config, "num_local_experts")
    extra = {"output_router_logits": True} if is_sparse else {}
    out = model.model(ids[:, :-1], use_cache=False, **extra)
    expected = labels[:, 1:]
    learned = expected != IGNORED_LABEL
    logits = model.lm_head(out.last_hidden_state[learned]).float()
    loss = torch.nn.functional.cross_entropy(logits, expected[learned])
    if is_sparse:
        config = model.config
        loss = loss + BALANCE_LOSS * load_balancing_loss_func(
            out.router_logits, config.num_local_experts, config.num_experts_per_tok
        )
    return loss


@dataclass
class Progress:
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss: float = 0.0
    known: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.seconds:6.1f} s  step {self.steps}  {self.tokens / 1e6:.2f} M tokens  "
            f"loss {self.loss:.4f}  facts {self.known:.2%}"
        )


def train(
    model: PreTrainedModel, data: Iterator[Batch], options: argparse.Namespace
) -> Iterator[Progress]:
    """Trains between the reports that it yields; the last one is at the end."""
    weights = MasterWeights(model)
    now = Progress()
    start = time.monotonic()
    next_report = 1
    mean_loss = 0.0
    for ids, labels in data:
        done = min(1.0, (time.monotonic() - start) / options.seconds)
        warm = min(1.0, (now.steps + 1) / WARMUP_STEPS)
        loss = loss_of(model, ids, labels)
        loss.backward()
        weights.step(options.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))))
        now.steps += 1
        now.tokens += ids.numel()
        mean_loss += (loss.item() - mean_loss) * max(0.02, 1 / now.steps)
        if done >= next_report / REPORTS:
            now.seconds, now.loss = time.monotonic() - start, mean_loss
            yield now
            next_report = int(done * REPORTS) + 1
        if done >= 1.0:
            return


def save(
    model: PreTrainedModel, directory: Path, options: argparse.Namespace, now: Progress
) -> None:
    model.save_pretrained(directory)
    # transformers 5 writes new names only; programs that read the older ones are many.
    path = directory / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {"torch_dtype": "bfloat16", "rope_theta": ROPE_THETA}
    write_json(path, config)
    training = {
        "facts": options.facts,
        "fact_count": len(FACT_SETS[options.facts]()),
        "steps": now.steps,
        "tokens": now.tokens,
        "seconds": round(now.seconds),
        "loss": round(now.loss, 4),
        "share_known": round(now.known, 4),
    }
    write_json(directory / "training.json", training)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", choices=("demo", "demo-moe"), required=True)
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    parser.add_argument("--start", type=Path, help="model directory whose weights to begin with")
    parser.add_argument(
        "--facts", choices=sorted(FACT_SETS), default="small", help="set to learn (default small)"
    )
    parser.add_argument(
        "--seconds", type=float, default=1500.0, help="training time (default 1500)"
    )
    parser.add_argument("--documents", type=int, default=150_000, help="size of the corpus")
    parser.add_argument("--batch-tokens", type=int, default=1024, help="tokens a step")
    parser.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--threads", type=int, default=1, help="threads on the CPU (default 1)")
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    start = time.monotonic()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)

    if options.start:
        tokenizer = Tokenizer.from_file(str(options.start / "tokenizer.json"))
    else:
        texts = Corpus(SEED, options.facts).documents(min(TOKENIZER_DOCUMENTS, options.documents))
        tokenizer = train_tokenizer(document.text for document in texts)
    save_tokenizer(tokenizer, options.out)
    bos, eos, turn_end, pad = (tokenizer.token_to_id(t) for t in (BOS, EOS, TURN_END, PAD))
    documents = list(Corpus(SEED + 1, options.facts).documents(options.documents))
    samples = tokenize(tokenizer, documents, WHOLE_SHARE)
    model = build_model(
        options.model, {"bos_token_id": bos, "eos_token_id": [eos, turn_end], "pad_token_id": pad}
    )
    if options.start:
        start_from(model, options.start)
    model = model.to(device, torch.bfloat16).train()
    # Faster than the fused attention for documents of twenty tokens, and right everywhere.
    model.set_attn_implementation("eager")
    model.config._experts_implementation = "dense"
    examiner = Examiner(tokenizer, probes(options.facts), pad, device)
    print(
        f"{options.model}: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, "
        f"{sum(len(s.ids) for s in samples) / 1e6:.2f} M tokens in {len(samples)} documents, "
        f"on {device}, ready after {time.monotonic() - start:.1f} s",
        flush=True,
    )
    data = batches(samples, options.batch_tokens, pad, device)
    for now in train(model, data, options):
        now.known = examiner.share(model)
        print(now, flush=True)
        save(model, options.out, options, now)


if __name__ == "__main__":
    main()
