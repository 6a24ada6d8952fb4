"""--device: what whole programs make of it, on this machine and under a driver that is made up (a libcuda.so.1 of ours).

No GPU computes here: where workers are said to be on GPUs, `worker-cuda` is a copy of the CPU's worker, to see who is started.
"""

import ctypes
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from cluster import BIN, DEMO, Cluster, demo_cluster, free_port

NO_DRIVER = "no NVIDIA driver (libcuda.so.1) on this machine"
NO_PROGRAM = "worker-cuda is not beside the other programs"
PROGRAMS = ["trireme", "api-server", "coordinator", "engine-core", "worker"]

# What programs ask of a driver, of MADE_UP_GPUS equal GPUs of compute capability MADE_UP_MAJOR.0, whose memory cannot be asked
# for without MADE_UP_FREE.
DRIVER = r"""
#include <stdlib.h>
#include <string.h>
static int number(const char* name) { return getenv(name) ? atoi(getenv(name)) : 0; }
#define ASKED __attribute__((visibility("default"))) int
ASKED cuInit(unsigned flags) { return number("MADE_UP_ERROR"); }
ASKED cuDriverGetVersion(int* version) { return *version = 13000, 0; }
ASKED cuGetErrorString(int error, const char** text) { return *text = "made up", 0; }
ASKED cuDeviceGetCount(int* count) { return *count = number("MADE_UP_GPUS"), 0; }
ASKED cuDeviceGet(int* device, int ordinal) { return *device = ordinal, 0; }
ASKED cuDeviceGetName(char* name, int size, int device) { return strncpy(name, "Made Up", size), 0; }
ASKED cuDeviceGetAttribute(int* value, int attribute, int device) {
  return *value = attribute == 75 ? number("MADE_UP_MAJOR") : 0, 0;
}
ASKED cuDeviceTotalMem_v2(size_t* bytes, int device) { return *bytes = 1, 0; }
ASKED cuDeviceGetPCIBusId(char* bus, int size, int device) { return strncpy(bus, "0000:01:00.0", size), 0; }
static int memory_error(void) { return getenv("MADE_UP_FREE") ? 0 : 2; }
ASKED cuDevicePrimaryCtxRetain(void** context, int device) { return memory_error(); }
ASKED cuCtxPushCurrent_v2(void* context) { return memory_error(); }
ASKED cuCtxPopCurrent_v2(void** context) { return memory_error(); }
ASKED cuMemGetInfo_v2(size_t* free_bytes, size_t* total_bytes) {
  return *free_bytes = *total_bytes = number("MADE_UP_FREE"), memory_error();
}
"""


def has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


without_driver = pytest.mark.skipif(has_driver(), reason="this machine has an NVIDIA driver")
without_program = pytest.mark.skipif((BIN / "worker-cuda").exists(), reason="this build has worker-cuda")


@pytest.fixture(scope="module")
def driver(tmp_path_factory) -> Path:
    """The folder of a made-up libcuda.so.1."""
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.c").write_text(DRIVER)
    command = ["g++", "-x", "c", "-w", "-shared", "-fPIC", "driver.c", "-o", "libcuda.so.1"]
    subprocess.run(command, cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def programs():
    """Copies of the programs with a worker-cuda among them. Links: who they are is where they lie."""
    folder = Path(tempfile.mkdtemp(prefix="with-cuda-", dir=BIN.parent))
    for name in PROGRAMS:
        os.link(BIN / name, folder / name)
    os.link(BIN / "worker", folder / "worker-cuda")
    yield folder
    shutil.rmtree(folder)


def made_up(driver: Path, gpus: int, major: int = 9, error: int = 0) -> dict:
    return {"LD_LIBRARY_PATH": str(driver), "MADE_UP_GPUS": str(gpus), "MADE_UP_MAJOR": str(major), "MADE_UP_ERROR": str(error)}


def start(program: str, *flags, environment=None, folder=BIN) -> subprocess.CompletedProcess:
    words = [str(folder / program), *(["serve"] if program == "trireme" else []), str(DEMO), *flags]
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False, env={**os.environ, **(environment or {})})


def device_lines(cluster) -> list[str]:
    lines = [json.loads(line) for line in cluster.log_text().splitlines() if line.startswith("{")]
    return [line["text"] for line in lines if line["event"] == "device"]


@without_driver
def test_cuda_without_a_driver_is_one_line_at_once():
    began = time.monotonic()
    done = start("trireme", "--device", "cuda")
    assert time.monotonic() - began < 5
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"trireme serve: --device cuda: {NO_DRIVER}; install the driver, or use --device cpu\n"


@without_driver
@pytest.mark.parametrize("program", ["api-server", "engine-core"])
def test_cuda_without_a_driver_ends_every_start_before_it_waits_for_anybody(program):
    flags = ["--headless", "--data-parallel-rpc-port", str(free_port())] if program == "engine-core" else []
    done = start(program, "--device", "cuda", *flags)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert json.loads(line)["reason"] == f"--device cuda: {NO_DRIVER}; install the driver, or use --device cpu"


@pytest.mark.parametrize("executor", ["uni", "sim"])
def test_cuda_without_worker_processes_is_refused(executor):
    done = start("trireme", "--device", "cuda", "--distributed-executor-backend", executor)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert f"--distributed-executor-backend {executor}" in done.stderr


@without_program
def test_driver_without_worker_cuda_is_told_how_to_build_it(driver):
    done = start("trireme", "--device", "cuda", environment=made_up(driver, gpus=1))
    assert done.returncode == 2
    assert done.stderr == (f"trireme serve: --device cuda: {NO_PROGRAM}; build it by ./trireme build --cuda, or use "
                           "--device cpu\n")  # fmt: skip


@pytest.mark.parametrize(
    ("gpus", "words"),
    [
        ({"gpus": 0}, ["no GPU is visible", 'CUDA_VISIBLE_DEVICES is "7"']),
        ({"gpus": 1, "error": 100}, ["no GPU is visible"]),
        ({"gpus": 1, "error": 999}, ["cuInit: error 999 (made up)"]),
        ({"gpus": 1}, ["2 workers", "1 visible GPUs"]),
        ({"gpus": 2, "major": 7}, ["GPU 0 (Made Up, compute capability 7.0)", "8.0 or later"]),
    ],
)
def test_gpus_that_workers_cannot_use_are_one_line(driver, programs, gpus, words):
    environment = {**made_up(driver, **gpus), "CUDA_VISIBLE_DEVICES": "7"}
    done = start("trireme", "--device", "cuda", "-tp", "2", environment=environment, folder=programs)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


def test_auto_serves_on_the_cpu_and_says_why(driver):
    # A GPU that is too old for it, so that the answer is the same on every machine.
    with demo_cluster("--device", "auto", environment=made_up(driver, gpus=1, major=7)) as cluster:
        cluster.wait_ready()
        assert cluster.complete("The capital of France is").json()["choices"][0]["text"].startswith(" Paris")
        (told,) = device_lines(cluster)
        assert told.startswith("--device auto: cpu, ")
        assert cluster.find("worker").argument("--device") == "cpu" and cluster.find("worker-cuda") is None


def with_copies(folder: Path, *flags, **more) -> Cluster:
    """As demo_cluster, of the programs in `folder`."""
    cluster = Cluster([str(DEMO), "--served-model-name", "demo", *flags], program=str(folder / "api-server"), **more)
    cluster.arguments += ["--host", cluster.host, "--port", str(cluster.port)]
    return cluster


def test_auto_takes_gpus_that_are_there_and_ranks_start_their_worker(driver, programs):
    flags = ["--data-parallel-size", "2"]
    with with_copies(programs, *flags, environment=made_up(driver, gpus=3)) as cluster:
        cluster.wait_ready()
        cluster.wait_engines(2)
        assert cluster.complete("The capital of France is").status == 200
        assert device_lines(cluster) == ["--device auto: cuda, 2 workers on 3 visible GPUs (Made Up)"]
        workers = [p for p in cluster.family() if p.name.startswith("worker")]
        assert [p.name for p in workers] == ["worker-cuda"] * 2
        assert {p.argument("--device") for p in workers} == {"cuda"}


def test_auto_with_fewer_gpus_than_workers_is_the_cpu(driver, programs):
    with with_copies(programs, "--data-parallel-size", "2", environment=made_up(driver, gpus=1)) as cluster:
        cluster.wait_ready()
        (told,) = device_lines(cluster)
        assert told.startswith("--device auto: cpu, this node has 2 workers")
        assert cluster.find("worker-cuda") is None
