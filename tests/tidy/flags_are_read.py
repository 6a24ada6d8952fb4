#!/usr/bin/env python3
"""A flag that docs/flags.md lists as working is one that somebody reads.

For every working row of common/options/flag_rows.cc: each member of ServeOptions that it stores is read in the product's
sources outside common/options, the comparison of nodes (cluster_config.cc) not counted; a row that stores nothing refuses all values but those that change nothing. Text only: reads
are `group.member`, where `group` is the member of ServeOptions or a local name of it in that file. Run by ctest as `flags_are_read`.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ROOT / "common/options"
PRODUCT = ("api_server", "cli", "common", "coordinator", "engine_core", "proto", "text", "worker")
COMPARED_ONLY = "proto/member/cluster_config.cc"
MEMBER = re.compile(r"\bo\.(\w+)\.(\w+)")


def product_sources() -> list[str]:
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "--", *PRODUCT], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    names = [n for n in listing if re.search(r"\.(cc|h|cu)$", n) and not re.search(r"_test\.cc$|_for_test\.h$", n)]
    names = [n for n in names if not n.startswith("common/options/") and n != COMPARED_ONLY]
    return [(ROOT / n).read_text() for n in names if (ROOT / n).is_file()]


def working_rows(table: str) -> dict[str, str]:
    """Flag -> the text that stores its value."""
    return dict(re.findall(r'^    \{"([\w-]+)", .*?", kWorks, (.*)\},$', table, re.M))


def function_text(table: str, name: str) -> str:
    found = re.search(rf"^Status {name}\(.*?^\}}$", table, re.M | re.S)
    return found.group(0) if found else ""


def stored_text(table: str, storer: str) -> str:
    """With the functions of the table that it calls."""
    text = re.sub(r"STORE\((\w+)\.(\w+)(?:\.\w+)?\)", r"o.\1.\2", storer)
    for name in re.findall(r"\b((?:store|choose)_\w+)", storer):
        text += function_text(table, name) + "".join(
            function_text(table, called) for called in re.findall(r"\b(choose_\w+)\(", function_text(table, name))
        )
    return text


def group_types() -> dict[str, str]:
    whole = re.search(r"struct ServeOptions \{(.*?)\n\n", (OPTIONS / "serve_options.h").read_text(), re.S).group(1)
    return {name: kind for kind, name in re.findall(r"(\w+) (\w+);", whole)}


def is_read(source: str, group: str, kind: str, member: str) -> bool:
    names = {group}
    names |= set(re.findall(rf"\b{kind}& (\w+)", source))
    names |= set(re.findall(rf"(?:auto|{kind})& (\w+) = [\w.\->]*\b{group};", source))
    return re.search(rf"\b(?:{'|'.join(names)})(?:\(\))?\.{member}\b", source) is not None


def broken_rules() -> list[str]:
    table = (OPTIONS / "flag_rows.cc").read_text() + (OPTIONS / "flag_stores.cc").read_text()
    types, sources = group_types(), product_sources()
    rows = working_rows(table)
    broken = [] if len(rows) > 40 else [f"only {len(rows)} working rows found: is the table laid out anew?"]
    for flag, storer in rows.items():
        text = stored_text(table, storer)
        members = set(MEMBER.findall(text))
        if not members and "error(" not in text:
            broken.append(f"--{flag}: takes any value and stores none")
        for group, member in sorted(members):
            if not any(is_read(source, group, types[group], member) for source in sources):
                broken.append(f"--{flag}: nobody reads {group}.{member}")
    return broken


if __name__ == "__main__":
    lines = broken_rules()
    print("\n".join([*lines, f"{len(lines)} broken rules"]))
    sys.exit(1 if lines else 0)
