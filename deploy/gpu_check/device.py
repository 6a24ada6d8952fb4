"""What the checked device is and how much of its memory is free: a GPU by its driver (libcuda.so.1), or this machine's CPU.

Run as a program, it prints the free bytes of GPU 0: a process that asks has a context on the GPU for as long as it lives, which
takes memory itself.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

from gpu_check.processes import resident_bytes

# CUdevice_attribute.
ATTRIBUTES = {"clock_khz": 13, "multiprocessors": 16, "memory_clock_khz": 36, "memory_bus_bits": 37, "major": 75, "minor": 76}
SMI_FIELDS = [
    "driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem", "power.draw", "power.limit", "temperature.gpu",
    "memory.used", "mig.mode.current",
]  # fmt: skip


class NoDevice(Exception):
    pass


class Driver:
    """Calls of libcuda by their names; NoDevice says which failed."""

    def __init__(self):
        try:
            self.library = ctypes.CDLL("libcuda.so.1")
        except OSError:
            raise NoDevice("no NVIDIA driver (libcuda.so.1) on this machine") from None
        self.call("cuInit", 0)

    def call(self, name: str, *arguments):
        code = getattr(self.library, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self.library.cuGetErrorString(code, ctypes.byref(text))
            raise NoDevice(f"{name}: error {code} ({(text.value or b'not known').decode()})")

    def number(self, name: str, *arguments, kind=ctypes.c_int) -> int:
        value = kind()
        self.call(name, ctypes.byref(value), *arguments)
        return value.value

    def text(self, name: str, device: int) -> str:
        buffer = ctypes.create_string_buffer(256)
        self.call(name, buffer, len(buffer), device)
        return buffer.value.decode(errors="replace")

    def free_bytes(self) -> int:
        device = self.number("cuDeviceGet", 0)
        context = ctypes.c_void_p()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.call("cuCtxPushCurrent_v2", context)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value


class Gpu:
    """GPU 0 of those that CUDA_VISIBLE_DEVICES leaves."""

    flag = "cuda"
    worker = "worker-cuda"

    def facts(self) -> dict:
        driver = Driver()
        count = driver.number("cuDeviceGetCount")
        if count == 0:
            raise NoDevice("the driver shows no GPU")
        device = driver.number("cuDeviceGet", 0)
        of = {name: driver.number("cuDeviceGetAttribute", number, device) for name, number in ATTRIBUTES.items()}
        facts = {
            "name": driver.text("cuDeviceGetName", device),
            "visible_gpus": count,
            "driver_cuda": driver.number("cuDriverGetVersion"),
            "capability": f"{of.pop('major')}.{of.pop('minor')}",
            "memory_bytes": driver.number("cuDeviceTotalMem_v2", device, kind=ctypes.c_size_t),
            **of,
        }
        return {**facts, "nvidia_smi": nvidia_smi(driver.text("cuDeviceGetPCIBusId", device))}

    def used_bytes(self) -> int:
        """By anybody, but for the process that asks; up to a constant: it is for differences."""
        words = [sys.executable, "-B", "-m", "gpu_check.device"]
        done = subprocess.run(words, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise NoDevice(done.stderr.strip().rsplit("\n", 1)[-1])
        return -int(done.stdout)


def nvidia_smi(bus: str) -> dict:
    """What it says of the GPU on that bus; nothing where there is none or it fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    words = [program, f"--id={bus}", f"--query-gpu={','.join(SMI_FIELDS)}", "--format=csv,noheader"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    values = [value.strip() for value in done.stdout.strip().split(",")]
    return dict(zip(SMI_FIELDS, values)) if done.returncode == 0 and len(values) == len(SMI_FIELDS) else {}


class Cpu:
    """Of a dry run."""

    flag = "cpu"
    worker = "worker"

    def __init__(self, programs: Path):
        self.programs = programs

    def facts(self) -> dict:
        names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().split("\n") if line.startswith("model name")]
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return {"name": names[0] if names else "a CPU", "visible_gpus": 0, "cores": os.cpu_count(), "memory_bytes": memory}

    def used_bytes(self) -> int:
        return resident_bytes(self.programs)


if __name__ == "__main__":
    try:
        print(Driver().free_bytes())
    except NoDevice as reason:
        sys.exit(str(reason))
