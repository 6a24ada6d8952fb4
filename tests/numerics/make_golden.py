"""Writes golden/<case>/: what a tiny bf16 model is and what transformers computes with it.

usage: make_golden.py [CASE...]      (needs requirements-numerics.txt)

weights.txt: the model's tensors, a line each: name, centre and spread of its values, shape.
expected.safetensors: tokens, logits (fp32 arithmetic) and the largest difference that transformers'
own bf16 arithmetic makes, bf16_error. golden_test checks them in every build, without Python.
Of embedding models, in golden_embedding/<case>/, hidden states stand in the place of the logits, and
what they are pooled to, by cls, mean and last; embedding_test checks them.
"""

import pathlib
import sys
import tempfile

import safetensors.torch
import torch

import tiny_models

FOLDER = pathlib.Path(__file__).parent


def write(name):
    ids = tiny_models.prompt_of(name)
    embeds = name in tiny_models.EMBEDDING_CASES
    compute = tiny_models.states_of if embeds else tiny_models.logits_of
    directory = FOLDER / ("golden_embedding" if embeds else "golden") / name
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as model:
        tensors = tiny_models.save_model(name, model)
        exact = compute(tiny_models.load_model(model, name=name), ids)
        rounded = compute(tiny_models.load_model(model, torch.bfloat16, name=name), ids)
        (directory / "config.json").write_bytes(pathlib.Path(model, "config.json").read_bytes())
    error = (rounded - exact).abs().max().reshape(1)
    lines = [f"{tensor} {centre:g} {spread:g} {' '.join(map(str, shape))}\n"
             for tensor, shape, centre, spread in tensors]
    (directory / "weights.txt").write_text("".join(lines))
    expected = {"tokens": torch.tensor(ids, dtype=torch.int32), "bf16_error": error}
    expected["states" if embeds else "logits"] = exact.contiguous()
    if embeds:
        expected |= {"cls": exact[0].clone(), "mean": exact.mean(0), "last": exact[-1].clone()}
    safetensors.torch.save_file(expected, directory / "expected.safetensors")


if __name__ == "__main__":
    for case in sys.argv[1:] or [*tiny_models.CASES, *tiny_models.EMBEDDING_CASES]:
        write(case)
