"""Our logits against transformers', on random tiny models of every architecture.

usage: parity_test.py LOGITS_TOOL [CASE...]

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
CHUNKS = (0, 1, 7)


def ours(tool, directory, dtype, chunk, ids, vocabulary):
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run([tool, directory, dtype, str(chunk), out.name, *map(str, ids)], check=True)
        return numpy.fromfile(out.name, dtype=numpy.float32).reshape(len(ids), vocabulary)


def check_fp32(tool, directory, ids, exact):
    worst = 0.0
    for chunk in CHUNKS:
        got = ours(tool, directory, "float32", chunk, ids, exact.shape[1])
        worst = max(worst, float(numpy.abs(got - exact.numpy()).max() / exact.abs().max()))
    return worst


def check_bf16(tool, directory, ids, exact):
    """Wrong tokens, and how many positions were clear enough to judge."""
    reference = tiny_models.logits_of(tiny_models.load_model(directory, torch.bfloat16), ids)
    got = torch.from_numpy(ours(tool, directory, "auto", 0, ids, exact.shape[1]))
    # What bf16 does to transformers' own logits is the error that bf16 has.
    error = (reference - exact).abs().max()
    best = reference.topk(2, dim=1).values
    clear = (best[:, 0] - best[:, 1]) > 2 * error
    wrong = (got.argmax(1) != reference.argmax(1)) & clear
    closer = float((got - exact).abs().max() / error)
    return int(wrong.sum()), int(clear.sum()), closer


def check(tool, name):
    ids = tiny_models.prompt_of(name)
    with tempfile.TemporaryDirectory() as directory:
        tiny_models.save_model(name, directory)
        exact = tiny_models.logits_of(tiny_models.load_model(directory), ids)
        worst = check_fp32(tool, directory, ids, exact)
        wrong, clear, closer = check_bf16(tool, directory, ids, exact)
    passed = worst < FP32_TOLERANCE and wrong == 0
    print(f"{'ok  ' if passed else 'FAIL'} {name:20} fp32 {worst:.1e}  "
          f"bf16 {wrong} wrong of {clear} clear, error {closer:.2f} of transformers' own", flush=True)
    return passed


def main(tool, names):
    failures = 0
    for name in names or tiny_models.CASES:
        try:
            failures += not check(tool, name)
        except subprocess.CalledProcessError:  # It said why.
            print("FAIL", name, flush=True)
            failures += 1
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
