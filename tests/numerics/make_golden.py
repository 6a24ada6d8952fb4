"""Writes golden/<case>/: a tiny bf16 model and what transformers computes with it.

usage: make_golden.py [CASE...]      (needs requirements-numerics.txt)

expected.safetensors: tokens, logits (fp32 arithmetic) and the largest difference that transformers'
own bf16 arithmetic makes, bf16_error. golden_test checks them in every build, without Python.
"""

import pathlib
import sys

import safetensors.torch
import torch

import tiny_models

GOLDEN = pathlib.Path(__file__).parent / "golden"
PROMPT_TOKENS = 40


def write(name):
    count = 90 if "dynamic" in name else PROMPT_TOKENS
    ids = tiny_models.prompt_of(name, count)
    exact = tiny_models.logits_of(tiny_models.make_model(name), ids)
    model = tiny_models.make_model(name, torch.bfloat16)
    error = (tiny_models.logits_of(model, ids) - exact).abs().max().reshape(1)
    directory = GOLDEN / name
    directory.mkdir(parents=True, exist_ok=True)
    tiny_models.save_model(model, directory)
    safetensors.torch.save_file(
        {"tokens": torch.tensor(ids, dtype=torch.int32), "logits": exact.contiguous(), "bf16_error": error},
        directory / "expected.safetensors")


if __name__ == "__main__":
    for case in sys.argv[1:] or tiny_models.CASES:
        write(case)
