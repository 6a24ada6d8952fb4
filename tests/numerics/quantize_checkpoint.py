"""Writes a model directory again in a quantised format, its linear layers rounded to the nearest.

usage: quantize_checkpoint.py DIRECTORY OUT CASE [GROUP_SIZE]      (needs numpy alone)

CASE is one of make_quantized.py. For measuring what a format costs: tools that calibrate (GPTQ, AWQ)
lose less.
"""

import json
import pathlib
import shutil
import sys

import make_quantized
import numpy


def tensors_of(path):
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    for name, entry in json.loads(data[8:begin]).items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            yield name, make_quantized.Raw(entry["dtype"], entry["shape"], data[begin + first : begin + last])


def main(source, out, case, group_size=128):
    make_quantized.GROUP = int(group_size)
    quantization, store = make_quantized.CASES[case]
    text = json.dumps(quantization).replace('"group_size": 32', f'"group_size": {group_size}')
    shutil.copytree(source, out)
    tensors = {}
    for name, raw in tensors_of(pathlib.Path(source, "model.safetensors")):
        layer = name.removesuffix(".weight")
        if not layer.endswith(tuple(make_quantized.LINEAR)):
            tensors[name] = raw
            continue
        assert raw.dtype == "BF16", f"{name} is {raw.dtype}"
        values = make_quantized.bf16_value(numpy.frombuffer(raw.data, numpy.uint16)).astype(numpy.float64)
        stored = store(values.reshape(raw.shape))[0]
        tensors |= {f"{layer}.{tensor}": value for tensor, value in stored.items()}
    make_quantized.save(pathlib.Path(out, "model.safetensors"), tensors)
    config = json.loads(pathlib.Path(source, "config.json").read_text())
    config["quantization_config"] = json.loads(text)
    pathlib.Path(out, "config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
