"""What a number format costs a demo model: facts kept and perplexity of the answers.

    python3 models/train/facts_kept.py build/dev/test/logits_tool models/demo \\
        -- "" "--kv-cache-dtype int8" "--quantization int8"

Every fact is asked as in evaluate.py; the expected answer and its end are fed behind the prompt. A
probe is kept when each of those tokens has the largest logit, which is when greedy decoding gives
the answer exactly. The perplexity is that of the answers' tokens. Needs tokenizers and numpy.
"""

import argparse
import math
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from corpus import EOS, TURN_END, Message, render_chat
from evaluate import Probe, probes
from tokenizers import Tokenizer


def ids_of(tokenizer: Tokenizer, probe: Probe) -> tuple[list[int], int]:
    """Tokens of the prompt and the expected answer, and how many of them are the prompt's."""
    prompt = probe.prompt
    if probe.is_chat:
        prompt = render_chat([Message("user", probe.prompt)], answer_next=True)
    special = not probe.is_chat
    begin = tokenizer.encode(prompt, add_special_tokens=special).ids
    answer = tokenizer.encode(probe.expected, add_special_tokens=False).ids
    end = tokenizer.token_to_id(TURN_END if probe.is_chat else EOS)
    return begin + answer + [end], len(begin)


def measure(tool: str, model: Path, flags: list[str], asked: list[tuple[list[int], int]]) -> str:
    kept, loss, count = 0, 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/logits"
        for ids, begin in asked:
            command = [tool, *flags, str(model), "auto", "0", out, *map(str, ids)]
            subprocess.run(command, check=True)
            logits = np.fromfile(out, dtype=np.float32).reshape(len(ids), -1)[begin - 1 : -1]
            wanted = np.array(ids[begin:])
            kept += bool((logits.argmax(axis=1) == wanted).all())
            largest = logits.max(axis=1)
            total = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
            loss += float((total - logits[np.arange(len(wanted)), wanted]).sum())
            count += len(wanted)
    return f"{kept} of {len(asked)} probes kept, perplexity {math.exp(loss / count):.5f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tool", help="tests/numerics/logits_tool, built")
    parser.add_argument("model", type=Path)
    parser.add_argument("flags", nargs="+", help='of logits_tool, as "--kv-cache-dtype int8"')
    parser.add_argument("--facts", default="small")
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
    asked = [ids_of(tokenizer, probe) for probe in probes(arguments.facts)]
    for flags in arguments.flags:
        result = measure(arguments.tool, arguments.model, flags.split(), asked)
        print(f"{flags or 'as stored'}: {result}", flush=True)


if __name__ == "__main__":
    main()
