"""deploy/gpu-check from a bundle that is unpacked elsewhere: a dry run of all its parts on the CPU, what it leaves, how it goes on,
what it says of failures, and what it makes of a GPU that is made up (device_test.py)."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cluster import BIN, ROOT, all_processes, descendants, wait_for
from device_test import DRIVER

PARTS = ["facts", "kernels", "model-1b", "dp2", "tp2", "streams", "kill", "model-8b", "model-fp8", "memory"]
SIZE_MAX = 60_000_000
pytestmark = pytest.mark.skipif((BIN / "worker-cuda").exists(), reason="the bundle of this build is for a GPU")
# With an empty PATH's worth of help: no compiler, no package, nothing of the source tree.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """A bundle of this build, which is for dry runs, unpacked."""
    folder = tmp_path_factory.mktemp("elsewhere")
    words = [ROOT / "deploy/bundle", "--gpu-check", "--output", folder]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "TRIREME_BUILD": str(BIN.parent)}, timeout=120)
    assert done.returncode == 0, done.stderr
    archive = Path(done.stdout.strip())
    assert archive.stat().st_size < SIZE_MAX
    subprocess.run(["tar", "-xzf", archive, "-C", folder], check=True)
    return folder / archive.name.removesuffix(".tar.gz")


def gpu_check(bundle: Path, folder: Path, *words, environment=None, seconds=150) -> subprocess.CompletedProcess:
    command = [sys.executable, bundle / "gpu-check", "--work-dir", folder, *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds, env={**ENVIRONMENT, **(environment or {})})


def results(folder: Path) -> dict:
    return json.loads((folder / "gpu-check.json").read_text())["parts"]


def files(folder: Path) -> set:
    return {path.relative_to(folder) for path in folder.rglob("*")}


def running(bundle: Path) -> list:
    return [p.pid for p in all_processes().values() if str(bundle) in " ".join(p.command)]


def test_dry_run_passes_every_part_and_leaves_its_results_alone(bundle, tmp_path):
    packed = files(bundle)
    done = gpu_check(bundle, tmp_path, "--dry-run", "--memory-gb-s", 10, "--bf16-tflops", 0.1)
    assert done.returncode == 0, done.stdout + done.stderr
    told = results(tmp_path)
    assert list(told) == PARTS
    assert {name: row["status"] for name, row in told.items()} == dict.fromkeys(PARTS, "passed"), done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines() if line[:1].strip()][1:-1] == PARTS

    assert all(count["tests"] > 0 and count["failed"] == 0 for count in told["kernels"]["figures"]["tests"].values())
    for name in ("model-1b", "model-8b", "model-fp8"):
        figures = told[name]["figures"]
        assert all(figures[key]["share"] > 0 for key in ("decode_1", "decode_64", "prefill")), figures
    assert told["streams"]["figures"]["streams"] == 200
    assert sum(told["dp2"]["figures"]["by_engine"].values()) == told["dp2"]["figures"]["answers"]
    assert told["kill"]["figures"]["whole"] >= 128
    assert told["memory"]["figures"]["during_bytes"] > 1 << 20 and told["memory"]["figures"]["after_bytes"] == 0

    assert files(tmp_path) == {Path("gpu-check.json")}
    assert files(bundle) == packed
    assert not running(bundle)

    # What is done is not done again, unless it is asked for.
    gpu_check(bundle, tmp_path, "--dry-run")
    assert results(tmp_path) == told
    time.sleep(1)  # Dates are of seconds.
    gpu_check(bundle, tmp_path, "--dry-run", "--again", "--part", "facts")
    again = results(tmp_path)
    assert again.pop("facts")["date"] > told.pop("facts")["date"] and again == told


def test_parts_that_do_not_fit_are_skipped_by_name_and_done_by_the_next_run(bundle, tmp_path):
    done = gpu_check(bundle, tmp_path, "--dry-run", "--part", "facts", "--part", "model-8b", "--budget-seconds", 9)
    assert done.returncode == 0, done.stderr
    assert {name: row["status"] for name, row in results(tmp_path).items()} == {"facts": "passed", "model-8b": "skipped"}
    assert "time is out" in results(tmp_path)["model-8b"]["summary"]
    gpu_check(bundle, tmp_path, "--dry-run", "--part", "model-8b")
    assert results(tmp_path)["model-8b"]["status"] == "passed"


def test_time_that_runs_out_in_a_part_ends_it(bundle, tmp_path):
    slow = tmp_path / "bundle"
    shutil.copytree(bundle, slow, copy_function=os.link)
    program = slow / "test/cuda_kernels_test"
    program.unlink()
    program.write_text("#!/bin/sh\nsleep 600\n")
    program.chmod(0o755)
    began = time.monotonic()
    done = gpu_check(slow, tmp_path, "--dry-run", "--part", "kernels", "--budget-seconds", 8)
    assert time.monotonic() - began < 15 and done.returncode == 0
    assert results(tmp_path)["kernels"]["summary"] == "time ran out in the middle of it"
    assert not running(slow)


def test_kernel_test_that_dies_fails_its_part_and_the_run(bundle, tmp_path):
    broken = tmp_path / "bundle"
    shutil.copytree(bundle, broken, copy_function=os.link)
    program = broken / "test/cuda_models_test"
    program.unlink()
    program.write_text("#!/bin/sh\necho a made-up end\nexit 3\n")
    program.chmod(0o755)
    done = gpu_check(broken, tmp_path, "--dry-run", "--part", "kernels")
    assert done.returncode == 1
    assert results(tmp_path)["kernels"]["status"] == "failed"
    assert "cuda_models_test died (3): a made-up end" in done.stdout


def test_server_that_does_not_start_fails_its_parts_with_its_reason_and_its_log(bundle, tmp_path):
    broken = tmp_path / "bundle"
    shutil.copytree(bundle, broken, copy_function=os.link)
    (broken / "models/demo/model.safetensors").unlink()
    done = gpu_check(broken, tmp_path, "--dry-run", "--part", "streams", "--part", "memory")
    assert done.returncode == 1
    for row in results(tmp_path).values():
        assert row["status"] == "failed" and "the server did not start: " in row["summary"] and "safetensors" in row["summary"]
        assert any("safetensors" in line for line in row["figures"]["server_log"])


def test_work_dir_without_room_is_said_before_a_model_is_written(bundle, tmp_path):
    # The 16 GB of the real shape, on whatever has less: nothing is written there.
    full = tmp_path / "bundle"
    shutil.copytree(bundle, full, copy_function=os.link)
    shapes = full / "gpu_check/limits.py"
    text = shapes.read_text().replace('TOY = Shape("toy", 2,', 'TOY = Shape("toy", 1 << 40,')
    shapes.unlink()
    shapes.write_text(text)
    done = gpu_check(full, tmp_path, "--dry-run", "--part", "model-8b")
    assert done.returncode == 0
    row = results(tmp_path)["model-8b"]
    assert row["status"] == "skipped" and "--work-dir names another" in row["summary"]


@pytest.mark.parametrize("part", ["streams", "model-8b"])
def test_interrupted_run_leaves_no_process_and_no_file(bundle, tmp_path, part):
    gpu_check(bundle, tmp_path, "--dry-run", "--part", "facts")
    kept = results(tmp_path)
    command = [sys.executable, bundle / "gpu-check", "--dry-run", "--work-dir", tmp_path, "--part", part]
    with subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for("a worker runs", lambda: any(p.name == "worker" for p in descendants(process.pid)))
        family = {p.pid for p in descendants(process.pid)}
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130
    wait_for("its processes are gone", lambda: not family & set(all_processes()), 5)
    assert not running(bundle)
    assert files(tmp_path) == {Path("gpu-check.json")} and results(tmp_path) == kept


def test_killed_run_is_tidied_up_by_the_next(bundle, tmp_path):
    command = [sys.executable, bundle / "gpu-check", "--dry-run", "--work-dir", tmp_path, "--part", "streams"]
    with subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for("a worker runs", lambda: any(p.name == "worker" for p in descendants(process.pid)))
        process.kill()
    wait_for("its server has ended with it", lambda: not running(bundle), 30)
    assert list(tmp_path.glob("trireme-gpu-check-*"))
    gpu_check(bundle, tmp_path, "--dry-run", "--part", "facts")
    assert files(tmp_path) == {Path("gpu-check.json")}


def test_results_of_something_else_are_not_added_to(bundle, tmp_path):
    (tmp_path / "gpu-check.json").write_text('{"subject": {"device": "another"}, "parts": {}}')
    done = gpu_check(bundle, tmp_path, "--dry-run", "--part", "facts")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "holds results of something else; --again begins it anew" in done.stderr


def test_bundle_of_a_build_without_cuda_says_that_it_is_for_dry_runs(bundle, tmp_path):
    done = gpu_check(bundle, tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("gpu-check: this bundle is for dry runs")


@pytest.fixture
def with_gpu(bundle, tmp_path):
    """The bundle with a worker-cuda, a copy of the CPU's, and the folder of a made-up driver."""
    folder = tmp_path / "with-gpu"
    shutil.copytree(bundle, folder, copy_function=os.link)
    os.link(folder / "bin/worker", folder / "bin/worker-cuda")
    driver = tmp_path / "driver"
    driver.mkdir()
    (driver / "driver.c").write_text(DRIVER)
    subprocess.run(["g++", "-x", "c", "-w", "-shared", "-fPIC", "driver.c", "-o", "libcuda.so.1"], cwd=driver, check=True)
    return folder, {"LD_LIBRARY_PATH": str(driver)}


def test_two_workers_on_one_gpu_are_refused_by_the_product_in_its_words(with_gpu, tmp_path):
    folder, environment = with_gpu
    environment |= {"MADE_UP_GPUS": "1", "MADE_UP_MAJOR": "9", "MADE_UP_FREE": "1000000000"}
    words = ["--part", "facts", "--part", "dp2", "--part", "tp2"]
    done = gpu_check(folder, tmp_path, *words, environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    told = results(tmp_path)
    assert told["facts"]["figures"]["name"] == "Made Up" and told["facts"]["figures"]["capability"] == "9.0"
    for name in ("dp2", "tp2"):
        assert told[name]["status"] == "refused", done.stdout
        assert "this node has 2 workers, each for a GPU of its own, and 1 " in told[name]["summary"]


@pytest.mark.parametrize(
    ("gpus", "words"),
    [({"MADE_UP_GPUS": "0"}, "the driver shows no GPU"), ({"MADE_UP_ERROR": "999"}, "cuInit: error 999 (made up)"),
     ({"MADE_UP_GPUS": "1", "MADE_UP_MAJOR": "9"}, "cuDevicePrimaryCtxRetain: error 2")],
)  # fmt: skip
def test_gpu_that_cannot_be_asked_is_one_line(with_gpu, tmp_path, gpus, words):
    folder, environment = with_gpu
    done = gpu_check(folder, tmp_path, environment=environment | gpus)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert words in done.stderr
