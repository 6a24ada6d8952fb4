"""What a user can get wrong before anything serves: model, flags, ports, ranks, memory.

Each ends the start with an exit code, one message that names the file or flag, the value and what to do, and
no process left.
"""

import json
import os
import shutil
import socket
import struct
import subprocess

import pytest
from cluster import BIN, DEMO, START_SECONDS, Cluster, all_processes, free_port, wait_for

START = [("trireme", "serve"), ("api-server",)]


class Outcome:
    """How a start went that was meant to fail."""

    def __init__(self, program, arguments, environment=None, prefix=()):
        self.rpc_port = free_port()
        words = [*prefix, str(BIN / program[0]), *program[1:], *map(str, arguments)]
        words += ["--host", "127.0.0.1"] if "--host" not in words else []
        words += ["--port", str(free_port())] if "--port" not in words else []
        words += ["--data-parallel-rpc-port", str(self.rpc_port)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=START_SECONDS, check=False,
                              env={**os.environ, **(environment or {})})  # fmt: skip
        self.code, self.stdout, self.stderr = done.returncode, done.stdout, done.stderr

    @property
    def message(self) -> str:
        """The one error line; the rest of the log is progress."""
        lines = [line for line in self.stderr.splitlines() if line.startswith("{")]
        errors = [line for line in lines if '"level":"error"' in line]
        if not errors:  # The command line was wrong: no log yet.
            assert len(self.stderr.splitlines()) == 1, self.stderr
            return self.stderr.strip()
        assert errors == [self.stderr.splitlines()[-1]], self.stderr
        return json.loads(errors[0])["reason"]

    def check(self, *words):
        assert self.code not in (0, -6, -11), (self.code, self.stderr)
        message = self.message
        assert all(word in message for word in words), message
        assert '\\"' not in message and '{"' not in message, message
        assert not any(str(self.rpc_port) in p.command for p in all_processes().values())


@pytest.fixture
def model(tmp_path):
    """A copy of the demo model, to be broken."""
    return shutil.copytree(DEMO, tmp_path / "model")


def fails(model, *flags, program=("api-server",), **more) -> Outcome:
    return Outcome(program, [model, *flags], **more)


# The model's directory.


def test_no_such_directory():
    fails("/nowhere/model").check("'/nowhere/model'", "no such directory")


def test_hub_that_is_not_reached(tmp_path):
    environment = {"HF_ENDPOINT": f"http://127.0.0.1:{free_port()}", "HF_HOME": str(tmp_path)}
    fails("some/model", environment=environment).check("'some/model'", "no directory here", environment["HF_ENDPOINT"], "refused")


def test_directory_without_config(tmp_path):
    fails(tmp_path).check(f"{tmp_path}/config.json")


def test_unreadable_model(model):
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (model / name).chmod(0)
    # Root reads everything, unless it gives that up.
    as_anybody = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
    fails(model, prefix=as_anybody).check(str(model), "cannot be read", "Permission denied")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{broken", ["config.json", "JSON"]),
        ("[1]", ["config.json", "JSON object"]),
        ("{" * 200000, ["config.json"]),
        ("", ["config.json", "JSON"]),
    ],
    ids=["syntax", "array", "deep", "empty"],
)
def test_broken_config(model, text, words):
    (model / "config.json").write_text(text)
    fails(model).check(str(model), *words)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("architectures", ["MambaForCausalLM"], ["MambaForCausalLM", "not supported", "LlamaForCausalLM"]),
        ("architectures", None, ["architectures is missing", "LlamaForCausalLM"]),
        ("architectures", [], ["architectures is []", "LlamaForCausalLM"]),
        ("hidden_size", "wide", ["hidden_size"]),
        ("hidden_size", -1, ["hidden_size"]),
        ("num_attention_heads", 0, ["num_attention_heads"]),
        ("num_attention_heads", 7, ["num_attention_heads"]),
        ("num_hidden_layers", 10**9, ["num_hidden_layers", "1000000000"]),
        ("num_hidden_layers", 99, ["model.layers."]),
        ("vocab_size", 10**7, ["model.embed_tokens.weight", "10000000"]),
        ("quantization_config", {"quant_method": "gptq", "bits": 4},
         ["model.safetensors", "model.layers.0.self_attn.q_proj.weight", "is BF16", "config.json", "gptq", "remove quantization_config"]),
    ],
)  # fmt: skip
def test_config_that_cannot_be_served(model, key, value, words):
    config = json.loads((model / "config.json").read_text())
    config[key] = value
    (model / "config.json").write_text(json.dumps(config))
    fails(model).check(*words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, ["tokenizer.json", "no such file"]),
        ("{broken", ["tokenizer.json", "line 1"]),
        ('{"version": "1.0", "model": {"type": "Mystery"}}', ["tokenizer.json"]),
        ("[" * 100000, ["tokenizer.json"]),
    ],
    ids=["missing", "syntax", "unknown", "deep"],
)
def test_broken_tokenizer(model, text, words):
    (model / "tokenizer.json").unlink()
    if text is not None:
        (model / "tokenizer.json").write_text(text)
    fails(model).check(str(model), *words)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json", "model.safetensors"])
def test_file_that_is_a_pipe_is_not_waited_for(model, name):
    (model / name).unlink()
    os.mkfifo(model / name)
    fails(model).check(name, "not a regular file")


@pytest.mark.parametrize(
    ("file", "key", "value", "words"),
    [
        ("generation_config.json", "temperature", "hot", ['temperature is "hot"', "[0, 2]"]),
        ("generation_config.json", "top_k", -5, ["top_k is -5", "at least -1"]),
        ("generation_config.json", "eos_token_id", [-2], ["eos_token_id is [-2]"]),
        ("config.json", "eos_token_id", "x", ['eos_token_id is "x"']),
    ],
)
def test_sampling_values_that_cannot_be(model, file, key, value, words):
    values = json.loads((model / file).read_text())
    values[key] = value
    (model / file).write_text(json.dumps(values))
    outcome = fails(model)
    assert outcome.code == 1 and all(word in outcome.message for word in [str(model / file), *words]), outcome.message


def test_rope_that_is_said_twice_and_differs(model):
    config = json.loads((model / "config.json").read_text())
    config["rope_scaling"] = {"rope_type": "mystery"}
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0}
    (model / "config.json").write_text(json.dumps(config))
    outcome = fails(model)
    assert outcome.code == 1 and "rope_scaling" in outcome.message and "rope_parameters" in outcome.message


def test_broken_chat_template(model):
    fails(model, "--chat-template", "{% for x in %}").check("--chat-template")


# Weights that lie.


def read_safetensors(path):
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def write_safetensors(path, header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


NORM, EMBED = "model.norm.weight", "model.embed_tokens.weight"


def shift(header):
    header[NORM]["data_offsets"] = [x + 10**12 for x in header[NORM]["data_offsets"]]


def backwards(header):
    header[NORM]["data_offsets"].reverse()


def negative(header):
    header[NORM]["data_offsets"] = [-8, 8]


def wrong_size(header):
    header[NORM]["shape"] = [header[NORM]["shape"][0] * 2]


def huge_shape(header):
    header[NORM]["shape"] = [2**62, 2**62]


def overlap(header):
    size = header[NORM]["data_offsets"][1] - header[NORM]["data_offsets"][0]
    begin = header[EMBED]["data_offsets"][0]
    header[NORM]["data_offsets"] = [begin, begin + size]


def unknown_dtype(header):
    header[NORM]["dtype"] = "Q4"


def integer_dtype(header):
    header[NORM]["dtype"] = "I16"


def missing(header):
    header["model.other.weight"] = header.pop(NORM)


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (shift, [NORM, "bytes of data"]),
        (backwards, [NORM]),
        (negative, [NORM]),
        (wrong_size, [NORM]),
        (huge_shape, [NORM]),
        (overlap, ["overlap"]),
        (unknown_dtype, [NORM, "Q4"]),
        (integer_dtype, [NORM, "I16", "supported are F32, BF16, F16"]),
        (missing, [NORM]),
    ],
)
def test_weights_that_lie(model, lie, words):
    path = model / "model.safetensors"
    header, data = read_safetensors(path)
    lie(header)
    write_safetensors(path, header, data)
    fails(model).check(*words)


@pytest.mark.parametrize("size", [0, 4, 8, 100, 100000])
def test_truncated_weights(model, size):
    with open(model / "model.safetensors", "r+b") as file:
        file.truncate(size)
    fails(model).check(str(model / "model.safetensors"))


def test_weights_header_larger_than_its_file(model):
    path = model / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 2**60) + path.read_bytes()[8:])
    fails(model).check(str(path), "header")


def test_no_weights(model):
    (model / "model.safetensors").unlink()
    fails(model).check(str(model), "safetensors")


def test_index_that_names_a_missing_shard(model):
    (model / "model.safetensors").rename(model / "other.safetensors")
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {NORM: "shard-2.safetensors"}}))
    fails(model).check("shard-2.safetensors")


# Memory.


def test_no_memory_for_one_block():
    fails(DEMO, "--kv-cache-memory-bytes", 100).check("no memory for KV", "32768", "100", "--kv-cache-memory-bytes")


def test_length_that_the_cache_cannot_hold():
    outcome = fails(DEMO, "--max-model-len", 2048, "--kv-cache-memory-bytes", 1000000)
    outcome.check("--max-model-len 2048", "lower it to 480", "--gpu-memory-utilization")


def test_more_blocks_than_fit():
    outcome = fails(DEMO, "--num-gpu-blocks-override", 2000, "--kv-cache-memory-bytes", 1000000)
    outcome.check("--num-gpu-blocks-override 2000", "30 blocks")


def test_weights_that_no_machine_holds(model):
    path = model / "model.safetensors"
    header, data = read_safetensors(path)
    header["model.other.weight"] = {"dtype": "F32", "shape": [2**40], "data_offsets": [len(data), len(data) + 2**42]}
    write_safetensors(path, header, data)
    os.truncate(path, path.stat().st_size + 2**42)  # Sparse.
    fails(model).check("weights need 4096", "GiB", "are available", "--tensor-parallel-size")


def test_memory_share_that_holds_no_block():
    fails(DEMO, "--gpu-memory-utilization", 0.00000001).check("no memory for KV", "--gpu-memory-utilization")


# Ports and ranks.


@pytest.mark.parametrize("program", START)
def test_http_port_taken(program):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        fails(DEMO, "--port", port, program=program).check(f"--port {port}", "taken", "ss -ltnp")


def test_rpc_port_taken():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        arguments = [DEMO, "--data-parallel-rpc-port", port]
        done = subprocess.run([str(BIN / "api-server"), *map(str, arguments), "--port", str(free_port())],
                              capture_output=True, text=True, timeout=START_SECONDS, check=False)  # fmt: skip
    assert done.returncode == 1
    assert f"--data-parallel-rpc-port {port}" in done.stderr and "taken" in done.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--host", "203.0.113.7"], ["--host 203.0.113.7", "not an address of this node"]),
        (["--host", "no.such.host.invalid"], ["--host no.such.host.invalid"]),
        (["--ssl-certfile", "/nowhere.pem"], ["--ssl-certfile /nowhere.pem", "No such file"]),
        (["--ssl-keyfile", "/nowhere.key"], ["--ssl-keyfile needs --ssl-certfile"]),
        (["--ssl-certfile", "/nowhere.pem", "--ssl-keyfile", "/nowhere.key"], ["--ssl-certfile /nowhere.pem"]),
        (["--ssl-certfile", __file__, "--ssl-keyfile", __file__], [f"--ssl-certfile {__file__}"]),
        (["--config", "/nowhere.yaml"], ["/nowhere.yaml"]),
        (["--data-parallel-size", 2, "--data-parallel-start-rank", 2, "--data-parallel-size-local", 2],
         ["--data-parallel-start-rank 2", "--data-parallel-size-local 2", "--data-parallel-size 2"]),
        (["--data-parallel-size", 2, "--data-parallel-rank", 2], ["--data-parallel-rank 2", "--data-parallel-size 2"]),
        (["--data-parallel-size", 0], ["--data-parallel-size 0", "at least 1"]),
        (["--tensor-parallel-size", 3], ["--tensor-parallel-size 3", "8 attention heads"]),
        (["--pipeline-parallel-size", 9], ["--pipeline-parallel-size 9", "4 layers"]),
        (["--pipeline-parallel-size", 99], ["--pipeline-parallel-size 99", "4 layers"]),
        (["--max-model-len", 0], ["--max-model-len: 0"]),
        (["--data-parallel-hybrid-lb", "--data-parallel-size", 2], ["--data-parallel-hybrid-lb", "--data-parallel-size-local"]),
        (["--data-parallel-hybrid-lb", "--data-parallel-external-lb", "--data-parallel-size", 2, "--data-parallel-rank", 0,
          "--data-parallel-size-local", 1], ["--data-parallel-hybrid-lb", "--data-parallel-external-lb"]),
        (["--max-model-len", 100000], ["--max-model-len 100000", "2048"]),
        (["--quantization", "awq"], ["--quantization awq", "not quantised", "int8"]),
    ],
)  # fmt: skip
def test_flags_that_do_not_fit(flags, words):
    fails(DEMO, *flags).check(*words)


@pytest.mark.parametrize("program", START)
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--tensor-paralel-size", 2], ["--tensor-paralel-size", "did you mean --tensor-parallel-size?"]),
        (["--max_num_seq", 2], ["--max-num-seq", "did you mean --max-num-seqs?"]),
        (["--zzzzzz"], ["--zzzzzz", "--help"]),
        (["--max-num-seqs", "many"], ["--max-num-seqs", "'many'", "number"]),
        (["--max-num-seqs", "-1"], ["--max-num-seqs", "-1"]),
        (["--port", 70000], ["--port", "70000"]),
        (["--dtype", "float8"], ["--dtype", "float8"]),
        (["--gpu-memory-utilization", "1.5"], ["--gpu-memory-utilization", "1.5"]),
        (["--block-size", 17], ["--block-size 17", "power of two"]),
        (["--quantization", "int3"], ["--quantization", "'int3'", "gptq"]),
        (["--distributed-executor-backend", "ray"], ["--distributed-executor-backend", "ray"]),
        (["--device", "tpu"], ["--device", "tpu"]),
        (["extra"], ["'extra'"]),
        (["--max-num-seqs"], ["--max-num-seqs needs a value"]),
    ],
)  # fmt: skip
def test_flags_that_cannot_be_read(program, flags, words):
    words_given = [BIN / program[0], *program[1:], DEMO, *flags]
    done = subprocess.run(list(map(str, words_given)), capture_output=True, text=True, timeout=START_SECONDS, check=False)
    assert done.returncode in (1, 2)
    assert len(done.stderr.splitlines()) == 1 and not done.stdout, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


def test_no_model_says_what_to_give():
    done = subprocess.run([str(BIN / "api-server")], capture_output=True, text=True, timeout=START_SECONDS, check=False)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "no model given" in done.stderr


# The cluster.


def test_unreachable_coordinator_is_waited_for_and_named():
    port = free_port()
    words = [BIN / "engine-core", DEMO, "--headless", "--data-parallel-size", 2, "--data-parallel-size-local", 1,
             "--data-parallel-address", "127.0.0.1", "--data-parallel-rpc-port", port]  # fmt: skip
    with Cluster(words[1:], program="engine-core") as node:
        wait_for("a word", lambda: "waiting" in node.log_text())
        said = [line for line in node.log_text().splitlines() if "waiting" in line]
        assert len(said) == 1 and f"127.0.0.1:{port}" in said[0] and "--data-parallel-address" in said[0]
        assert node.process.poll() is None
        node.process.terminate()
        assert node.process.wait(timeout=20) == 0


@pytest.fixture(scope="module")
def front():
    """Ranks 0 and 1 of 3; the third is awaited from another node."""
    flags = ["--data-parallel-size", "3", "--data-parallel-size-local", "2", "--data-parallel-address", "127.0.0.1"]
    with Cluster([str(DEMO), *flags]) as cluster:
        cluster.wait_ready()
        cluster.wait_engines(2)
        yield cluster


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data-parallel-size", 3, "--data-parallel-start-rank", 1], ["rank 1", "--data-parallel-start-rank"]),
        (["--data-parallel-size", 4, "--data-parallel-start-rank", 2], ["--data-parallel-size", "3", "4"]),
        (["--data-parallel-size", 3, "--data-parallel-start-rank", 2, "--tensor-parallel-size", 2],
         ["--tensor-parallel-size", "1", "2"]),
        (["--data-parallel-size", 3, "--data-parallel-start-rank", 2, "--max-model-len", 512], ["--max-model-len", "512"]),
    ],
)  # fmt: skip
def test_node_that_does_not_fit_the_cluster_is_refused_by_name(front, flags, words):
    arguments = [DEMO, "--headless", "--data-parallel-size-local", 1, *flags, "--data-parallel-address", "127.0.0.1",
                 "--data-parallel-rpc-port", front.rpc_port]  # fmt: skip
    done = subprocess.run([str(BIN / "engine-core"), *map(str, arguments)], capture_output=True, text=True,
                          timeout=START_SECONDS, check=False)  # fmt: skip
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    assert '"failed"' in last and all(word in last for word in words), last
    assert front.engines_up() == 2 and front.process.poll() is None
