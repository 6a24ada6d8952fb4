"""Writes a model directory again in another format, its linear layers rounded to the nearest.

usage: quantize_checkpoint.py DIRECTORY OUT CASE [GROUP_SIZE]      (needs numpy alone)

CASE is one of make_quantized.py, or "float16" or "float32", which all tensors become. Blocks have GROUP_SIZE rows
and columns. For measuring what a format costs: tools that calibrate (GPTQ, AWQ) lose less.
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


def values_of(name, raw):
    assert raw.dtype == "BF16", f"{name} is {raw.dtype}"
    return make_quantized.bf16_value(numpy.frombuffer(raw.data, numpy.uint16)).reshape(raw.shape)


def quantized(source, store):
    tensors = {}
    for name, raw in source:
        layer = name.removesuffix(".weight")
        if layer.endswith(tuple(make_quantized.LINEAR)):
            stored = store(values_of(name, raw).astype(numpy.float64))[0]
            tensors |= {f"{layer}.{tensor}": value for tensor, value in stored.items()}
        else:
            tensors[name] = raw
    return tensors


def main(source, out, case, group_size=128):
    make_quantized.GROUP = int(group_size)
    make_quantized.BLOCK[:] = [int(group_size)] * 2
    shutil.copytree(source, out)
    config = json.loads(pathlib.Path(source, "config.json").read_text())
    found = tensors_of(pathlib.Path(source, "model.safetensors"))
    if case in ("float16", "float32"):
        tensors = {name: values_of(name, raw).astype(case) for name, raw in found}
        config |= {"dtype": case, "torch_dtype": case}
    else:
        quantization, store = make_quantized.CASES[case]
        tensors = quantized(found, store)
        text = json.dumps(quantization).replace('"group_size": 32', f'"group_size": {group_size}')
        config["quantization_config"] = json.loads(text)
    make_quantized.save(pathlib.Path(out, "model.safetensors"), tensors)
    pathlib.Path(out, "config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
