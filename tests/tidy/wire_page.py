#!/usr/bin/env python3
"""docs/wire.md from the headers of proto/: every message with its number, versions and fields in wire order.

Run by ctest as `wire_page` (the page must equal the headers); --rewrite writes it anew.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/wire.md"
HEADERS = ["membership.h", "add_request.h", "engine_outputs.h", "utility.h", "step.h", "expert_table.h", "step_agreement.h", "worker_group.h", "sampling_params.h"]
INTRODUCTION = """# Messages

Made from the headers in `proto/`; a test keeps the two equal. On the wire a message is a msgpack array
`[kind, version, compat, field, …]`: `version` is what the sender wrote, `compat` the oldest decoder that may read it. Fields
are only ever appended; a decoder ignores a tail it does not know and leaves what it did not get at its default. Lists of
int32, uint32, uint8 and float are `bin`, little-endian; a struct is an array of its fields; an absent optional is nil. Decoding is
bounded by the bytes received and by a nesting depth of 8; garbage is counted and dropped. The exact bytes of an example of every
message are in `tests/golden/wire/`.
"""
CHANNELS = {
    "membership.h": "Control channel (members ⇄ coordinator)",
    "add_request.h": "Requests channel, api-server → engine",
    "engine_outputs.h": "Requests channel, engine → api-server",
    "utility.h": "Administrative calls on the requests channel",
    "step.h": "Steps and results (engine ⇄ workers)",
    "expert_table.h": "Load of experts (worker → engine → api-server)",
    "step_agreement.h": "Steps of a lockstep group (engine ⇄ engine of another node)",
    "worker_group.h": "Workers on several nodes (engine ⇄ those who start its workers elsewhere)",
    "sampling_params.h": "Shared structs",
}


def kinds() -> dict[str, int]:
    text = (ROOT / "proto/kind.h").read_text()
    return {name: int(number) for name, number in re.findall(r"(k\w+) = (\d+),", text)}


def comment_above(lines: list[str], index: int) -> str:
    collected = []
    while index > 0 and lines[index - 1].startswith("//"):
        index -= 1
        collected.insert(0, lines[index].removeprefix("//").strip())
    prose = [line for line in collected if not line.startswith("|")]
    return " ".join(prose)


def field_rows(body: list[str]) -> dict[str, tuple[str, str, str]]:
    """name -> (type, default, note), from the member declarations."""
    rows, note = {}, []
    declaration = re.compile(r"^  ([\w:<>]+(?:, \w+>)?) (\w+)(?: = ([^;]+)|(\{\}))?;(?:\s*// (.*))?$")
    last = None
    # clang-format may put a long declaration's type on a line of its own.
    text = re.sub(r"(?m)^(  [\w:<>]+)\n {6}(\w+[; ])", r"\1 \2", "\n".join(body))
    for line in text.split("\n"):
        if match := declaration.match(line):
            kind, name, default, _, trailing = match.groups()
            rows[name] = (kind, default or "", " ".join([*note, trailing or ""]).strip())
            note, last = [], name
        elif line.startswith("  // "):
            note.append(line.strip().removeprefix("// "))
        elif re.match(r"^ {3,}\s*// ", line) and last:
            kind, default, text = rows[last]
            rows[last] = (kind, default, f"{text} {line.strip().removeprefix('// ')}".strip())
        else:
            note = []
    return rows


def structs(header: str):
    lines = (ROOT / "proto" / header).read_text().split("\n")
    for index, line in enumerate(lines):
        match = re.match(r"^struct (\w+) \{$", line)
        if not match:
            continue
        end = next(i for i in range(index, len(lines)) if lines[i] == "};")
        body = lines[index + 1 : end]
        joined = " ".join(body)
        order = re.search(r"std::tie\(([^)]*)\)", joined)
        names = [name.strip().removeprefix("m.") for name in order.group(1).split(",")]
        constants = dict(re.findall(r"static constexpr \w+ (k\w+) = (?:MessageKind::)?(\w+);", joined))
        yield match.group(1), comment_above(lines, index), constants, names, field_rows(body)


def page() -> str:
    numbers, text = kinds(), [INTRODUCTION]
    for header in HEADERS:
        text.append(f"## {CHANNELS[header]}\n")
        for name, comment, constants, order, rows in structs(header):
            if "kKind" in constants:
                head = f"### {name}: kind {numbers[constants['kKind']]}, version {constants['kVersion']}, compat {constants['kCompat']}"
            else:
                head = f"### {name} (struct)"
            text.append(head + "\n")
            if comment:
                text.append(comment + "\n")
            text.append("| # | field | type | default | note |\n| --- | --- | --- | --- | --- |")
            first = 3 if "kKind" in constants else 0
            for position, field in enumerate(order, first):
                kind, default, note = rows[field]
                text.append(f"| {position} | {field} | `{kind}` | {default} | {note.replace('|', chr(92) + '|')} |")
            text.append("")
    return "\n".join(text)


def main() -> int:
    if "--rewrite" in sys.argv:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    print("docs/wire.md is not what the headers say: python3 tests/tidy/wire_page.py --rewrite, and review the diff")
    return 1


if __name__ == "__main__":
    sys.exit(main())
