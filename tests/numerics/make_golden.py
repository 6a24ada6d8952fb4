"""Writes golden/<case>/: what a tiny bf16 model is and what transformers computes with it.

usage: make_golden.py [CASE...]      (needs requirements-numerics.txt)

weights.txt: the model's tensors, a line each: name, centre and spread of its values, shape.
expected.safetensors: tokens, logits (fp32 arithmetic) and the largest difference that transformers'
own bf16 arithmetic makes, bf16_error. golden_test checks them in every build, without Python.
"""

import pathlib
import sys
import tempfile

import safetensors.torch
import torch

import tiny_models

GOLDEN = pathlib.Path(__file__).parent / "golden"


def write(name):
    ids = tiny_models.prompt_of(name)
    directory = GOLDEN / name
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as model:
        tensors = tiny_models.save_model(name, model)
        exact = tiny_models.logits_of(tiny_models.load_model(model), ids)
        rounded = tiny_models.logits_of(tiny_models.load_model(model, torch.bfloat16), ids)
        (directory / "config.json").write_bytes(pathlib.Path(model, "config.json").read_bytes())
    error = (rounded - exact).abs().max().reshape(1)
    lines = [f"{tensor} {centre:g} {spread:g} {' '.join(map(str, shape))}\n"
             for tensor, shape, centre, spread in tensors]
    (directory / "weights.txt").write_text("".join(lines))
    safetensors.torch.save_file(
        {"tokens": torch.tensor(ids, dtype=torch.int32), "logits": exact.contiguous(), "bf16_error": error},
        directory / "expected.safetensors")


if __name__ == "__main__":
    for case in sys.argv[1:] or tiny_models.CASES:
        write(case)
