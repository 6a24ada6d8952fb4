#!/usr/bin/env python3
"""Tidy as a test: the rules of the house that a machine can check, one function each.

Run by ctest as `tidy`; by hand: python3 tests/tidy/tidy_test.py. Prints one line per broken rule.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COLUMNS_MAX = 100
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
CLANG_FORMAT = "clang-format-14"

# A folder may include the folders right of it, never one that is left of it. See ARCHITECTURE.md.
LAYERS = {
    "common": set(),
    "proto": {"common"},
    "text": {"common"},
    "worker": {"proto", "common"},
    "engine_core": {"worker", "proto", "common"},
    "coordinator": {"proto", "common"},
    "api_server": {"text", "proto", "common"},
    "cli": {"proto", "common"},
}
# Pure headers that cross the line on purpose.
LAYER_EXCEPTIONS = {
    ("cli/simulate/lockstep_cluster.cc", "coordinator/coordinator_state.h"),
    ("cli/simulate/lockstep_rank.h", "engine_core/lockstep/lockstep_group.h"),
    ("cli/simulate/lockstep_rank.h", "engine_core/lockstep/tree_exchange.h"),
    ("cli/simulate/scale_cluster.cc", "coordinator/coordinator_state.h"),
    ("cli/simulate/scale_cluster.cc", "engine_core/lockstep/lockstep.h"),
    ("cli/simulate/scale_cluster.cc", "engine_core/lockstep/record_table.h"),
    ("cli/simulate/scale_cluster.cc", "engine_core/lockstep/step_tree.h"),
}
BANNED_NAMES = re.compile(r"(^|[/_])(utils?|helpers?|misc|managers?|impl|base)([_.]|$)")


def tracked(*suffixes: str) -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    return [ROOT / name for name in listing if name.endswith(suffixes) and (ROOT / name).is_file()]


def source_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")


def check_columns_and_length() -> list[str]:
    broken = []
    for path in tracked(".h", ".cc", ".cu"):
        lines = source_lines(path)
        if len(lines) > FILE_LINES_MAX:
            broken.append(f"{path.relative_to(ROOT)}: {len(lines)} lines, at most {FILE_LINES_MAX}")
        formatted = True
        for number, line in enumerate(lines, 1):
            if "clang-format off" in line:
                formatted = False
            elif "clang-format on" in line:
                formatted = True
            has_long_word = re.search(r"\S{60,}", line) is not None  # A URL or a string cannot be broken.
            if formatted and len(line) > COLUMNS_MAX and not has_long_word:
                broken.append(f"{path.relative_to(ROOT)}:{number}: {len(line)} columns, at most {COLUMNS_MAX}")
    return broken


def check_function_length() -> list[str]:
    """A function body is a '{' that closes a line at indent 0 or 2 and ends with '}' at the same indent."""
    broken = []
    opening = re.compile(r"^( {0,2})(?!namespace|struct|class|enum|union|extern|const|constexpr|static const)\S.*\)?.*\{$")
    for path in tracked(".cc", ".cu"):
        if path.name.endswith("_test.cc"):
            continue
        lines = source_lines(path)
        for start, line in enumerate(lines):
            match = opening.match(line)
            if not match or "(" not in line:
                continue
            end = start + 1
            while end < len(lines) and not re.match(rf"^{match.group(1)}\}}", lines[end]):
                end += 1
            if end - start > FUNCTION_LINES_MAX:
                broken.append(
                    f"{path.relative_to(ROOT)}:{start + 1}: function of {end - start} lines, at most {FUNCTION_LINES_MAX}"
                )
    return broken


def check_layers() -> list[str]:
    broken = []
    include = re.compile(r'^#include "([a-z_]+)/([^"]+)"')
    for path in tracked(".h", ".cc", ".cu"):
        name = str(path.relative_to(ROOT))
        layer = name.split("/")[0]
        if layer not in LAYERS or name.endswith("_test.cc"):
            continue
        for number, line in enumerate(source_lines(path), 1):
            match = include.match(line)
            if not match or match.group(1) not in LAYERS or match.group(1) == layer:
                continue
            target = f"{match.group(1)}/{match.group(2)}"
            if match.group(1) not in LAYERS[layer] and (name, target) not in LAYER_EXCEPTIONS:
                broken.append(f"{name}:{number}: {layer} may not include {target}")
    return broken


def check_names() -> list[str]:
    names = [str(p.relative_to(ROOT)) for p in tracked(".h", ".cc", ".cu", ".py", ".rs", ".sh")]
    return [f"{name}: says nothing by its name" for name in names if BANNED_NAMES.search(name)]


def check_words() -> list[str]:
    broken = []
    for path in tracked(".h", ".cc", ".cu", ".rs"):
        name = str(path.relative_to(ROOT))
        for number, line in enumerate(source_lines(path), 1):
            if re.search(r"\bTODO\b(?!\(#\d+\))", line):
                broken.append(f"{name}:{number}: TODO without an issue number")
            if "std::mutex" in line and not name.startswith(("common/metrics", "common/log")):
                broken.append(f"{name}:{number}: threads talk by rings and sockets, not by std::mutex")
            if re.search(r"_clock::now\(\)", line) and name != "common/clock.cc":
                broken.append(f"{name}:{number}: clocks are read in common/clock.cc only")
            if "zmq.hpp" in line and "#include" in line and not name.startswith("common/zmq/"):
                broken.append(f"{name}:{number}: zmq.hpp belongs to common/zmq")
    return broken


def check_pragma_once() -> list[str]:
    return [
        f"{path.relative_to(ROOT)}: no #pragma once"
        for path in tracked(".h")
        if "#pragma once" not in path.read_text(encoding="utf-8") and "extern \"C\"" not in path.read_text(encoding="utf-8")
    ]


def check_format() -> list[str]:
    paths = [str(path) for path in tracked(".h", ".cc", ".cu")]
    result = subprocess.run(
        [CLANG_FORMAT, "--dry-run", "-Werror", *paths], capture_output=True, text=True, check=False
    )
    names = sorted({line.split(":")[0] for line in result.stderr.split("\n") if ": error:" in line})
    return [f"{Path(name).relative_to(ROOT)}: not formatted ({CLANG_FORMAT} -i)" for name in names]


def main() -> int:
    broken = [line for check in CHECKS for line in check()]
    print("\n".join(broken))
    print(f"{len(CHECKS)} checks, {len(broken)} broken rules")
    return 1 if broken else 0


CHECKS = [
    check_columns_and_length,
    check_function_length,
    check_layers,
    check_names,
    check_words,
    check_pragma_once,
    check_format,
]

if __name__ == "__main__":
    sys.exit(main())
