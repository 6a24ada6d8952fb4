"""Which CUDA toolkit a build takes (cmake/find_nvcc.cmake), of made-up ones, and what it says of one that is too old."""

import os
import subprocess
from pathlib import Path

import pytest
from cluster import ROOT


@pytest.fixture
def toolkit(tmp_path):
    """Makes a folder whose bin/nvcc says it is of that version."""

    def make(version: str) -> Path:
        folder = tmp_path / version
        (folder / "bin").mkdir(parents=True)
        nvcc = folder / "bin/nvcc"
        nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {version}, V{version}.1'\n")
        nvcc.chmod(0o755)
        return folder

    return make


def found(*definitions, **environment) -> str:
    """The nvcc that a build would take; one that is fetched or installed on this machine is empty too."""
    words = ["cmake", *definitions, "-P", str(ROOT / "cmake/find_nvcc.cmake")]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=20, env={**os.environ, **environment})
    path = done.stdout.strip()
    return path if any(path.startswith(value) for value in environment.values()) or definitions else ""


def test_installed_toolkit_is_taken_where_it_is_new_enough(toolkit):
    for version, is_taken in (("12.7", False), ("12.8", True), ("12.10", True), ("13.0", True)):
        folder = toolkit(version)
        wanted = f"{folder}/bin/nvcc" if is_taken else ""
        assert found(CUDA_PATH=str(folder)) == wanted, version
        assert found(f"-DCMAKE_CUDA_COMPILER={folder}/bin/nvcc") == wanted, version


def test_what_is_named_is_taken_or_nothing(toolkit):
    newer, named = toolkit("13.0"), toolkit("12.4")
    assert found(CUDA_PATH=str(newer), CUDACXX=f"{named}/bin/nvcc") == ""


def test_build_with_a_toolkit_that_is_too_old_says_so(toolkit, tmp_path):
    folder = toolkit("12.4")
    words = ["cmake", "-G", "Ninja", "-S", str(ROOT), "-B", str(tmp_path / "build"), "-DTRIREME_CUDA=ON", "-DTRIREME_TESTS=OFF",
             f"-DCMAKE_CUDA_COMPILER={folder}/bin/nvcc"]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    said = " ".join(done.stderr.split())
    assert f"needs a CUDA toolkit of 12.8 or later, {folder}/bin/nvcc (12.4) is older" in said
    assert "-DCMAKE_CUDA_COMPILER" in said and "./trireme build --cuda" in said
