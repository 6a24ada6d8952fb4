"""vLLM without HTTP, asked over stdin; runs under vLLM's own Python, started by bench/peers/table.

    python vllm_offline.py MODEL MAX_MODEL_LEN

Does what `vllm bench latency` does, but for many cases in one process: one line of JSON in, {"input_len", "output_len",
"batch_size", "warmups", "iterations"}; one line of JSON out, the seconds of each batch. The first line out is "ready".
"""

import json
import os
import random
import sys
import time


def main():
    # Whatever a library prints goes to standard error.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    from vllm import LLM, SamplingParams

    llm = LLM(model=sys.argv[1], max_model_len=int(sys.argv[2]), enable_prefix_caching=False, disable_log_stats=True)
    chance = random.Random(0)
    answers.write('"ready"\n')
    for line in sys.stdin:
        case = json.loads(line)
        wanted = SamplingParams(n=1, temperature=1.0, top_p=1.0, ignore_eos=True, max_tokens=case["output_len"])
        seconds = []
        for _ in range(case["warmups"] + case["iterations"]):
            prompts = [{"prompt_token_ids": [chance.randrange(10000) for _ in range(case["input_len"])]} for _ in range(case["batch_size"])]
            begin = time.perf_counter()
            llm.generate(prompts, wanted, use_tqdm=False)
            seconds.append(time.perf_counter() - begin)
        answers.write(json.dumps(seconds[case["warmups"] :]) + "\n")


if __name__ == "__main__":
    main()
