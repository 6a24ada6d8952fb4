"""Our logits against transformers', on random tiny models of every architecture.

usage: parity_test.py LOGITS_TOOL

fp32: the largest difference, relative to the largest logit, is under 1e-4, at several chunkings of
the prompt. bf16: the same greedy token wherever the reference's two best logits lie further apart
than bf16 can err.
"""

import subprocess
import sys
import tempfile

import numpy
import torch

import tiny_models

FP32_TOLERANCE = 1e-4
PROMPT_TOKENS = 40
CHUNKS = (0, 1, 7)


def ours(tool, directory, dtype, chunk, ids, vocabulary):
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run([tool, directory, dtype, str(chunk), out.name, *map(str, ids)], check=True)
        return numpy.fromfile(out.name, dtype=numpy.float32).reshape(len(ids), vocabulary)


def check_fp32(tool, name, ids):
    model = tiny_models.make_model(name)
    expected = tiny_models.logits_of(model, ids).numpy()
    worst = 0.0
    with tempfile.TemporaryDirectory() as directory:
        tiny_models.save_model(model, directory)
        for chunk in CHUNKS:
            got = ours(tool, directory, "float32", chunk, ids, expected.shape[1])
            worst = max(worst, float(numpy.abs(got - expected).max() / numpy.abs(expected).max()))
    return worst


def check_bf16(tool, name, ids):
    """Wrong tokens, and how many positions were clear enough to judge."""
    exact = tiny_models.logits_of(tiny_models.make_model(name), ids)
    model = tiny_models.make_model(name, torch.bfloat16)
    reference = tiny_models.logits_of(model, ids)
    with tempfile.TemporaryDirectory() as directory:
        tiny_models.save_model(model, directory)
        got = torch.from_numpy(ours(tool, directory, "auto", 0, ids, exact.shape[1]))
    # What bf16 does to transformers' own logits is the error that bf16 has.
    error = (reference - exact).abs().max()
    best = reference.topk(2, dim=1).values
    clear = (best[:, 0] - best[:, 1]) > 2 * error
    wrong = (got.argmax(1) != reference.argmax(1)) & clear
    closer = float((got - exact).abs().max() / error)
    return int(wrong.sum()), int(clear.sum()), closer


def main(tool):
    failures = 0
    for name in tiny_models.CASES:
        ids = tiny_models.prompt_of(name, PROMPT_TOKENS)
        if name == "llama_dynamic":
            ids = tiny_models.prompt_of(name, 90)
        worst = check_fp32(tool, name, ids)
        wrong, clear, closer = check_bf16(tool, name, ids)
        passed = worst < FP32_TOLERANCE and wrong == 0
        failures += not passed
        print(f"{'ok  ' if passed else 'FAIL'} {name:16} fp32 {worst:.1e}  "
              f"bf16 {wrong} wrong of {clear} clear, error {closer:.2f} of transformers' own")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
