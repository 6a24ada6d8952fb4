"""Processes of this machine, by /proc."""

import contextlib
import ctypes
import os
import signal
from pathlib import Path
from typing import Dict, List

PR_SET_PDEATHSIG = 1


def parents() -> Dict[int, int]:
    """Of every process that runs."""
    table = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
                if state != "Z":
                    table[int(entry.name)] = int(parent)
    return table


def family_of(pid: int) -> List[int]:
    """It and all that it has started."""
    table = parents()
    found = [pid] if pid in table else []
    for parent in found:  # Grows on the way.
        found += [child for child, of in table.items() if of == parent]
    return found


def program_of(pid: int) -> Path:
    """Its file; nothing where it has ended."""
    with contextlib.suppress(OSError):
        return Path(os.readlink(f"/proc/{pid}/exe"))
    return Path()


def running_from(folder: Path) -> List[int]:
    return [pid for pid in parents() if folder in program_of(pid).parents]


def resident_bytes(folder: Path) -> int:
    """Of all processes whose program lies there."""
    pages = 0
    for pid in running_from(folder):
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def kill_all(pids: List[int]):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def end_with_parent():
    """For a child before it becomes its program: whatever ends us ends it too."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
