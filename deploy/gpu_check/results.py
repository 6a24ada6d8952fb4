"""The JSON file of gpu-check: what came of each part. It is also where a later run sees what is done already."""

import json
import os
from pathlib import Path
from typing import NamedTuple, Optional

PASSED, REFUSED, FAILED, SKIPPED = "passed", "refused", "failed", "skipped"


class Outcome(NamedTuple):
    status: str
    summary: str  # A line.
    figures: dict = {}


class OtherResults(Exception):
    """The file is there and of something else."""


class Results:
    def __init__(self, path: Path, subject: dict, does_again: bool):
        """subject: which bundle and device; a file of another one is not added to."""
        self.path = path
        self.told = {"subject": subject, "parts": {}}
        if does_again or not path.exists():
            return
        try:
            told = json.loads(path.read_text())
            is_ours = told["subject"] == subject and isinstance(told["parts"], dict)
        except (ValueError, KeyError, TypeError):
            is_ours = False
        if not is_ours:
            raise OtherResults(f"{path} holds results of something else; --again begins it anew, --output names another")
        self.told = told

    def of(self, part: str) -> Optional[Outcome]:
        row = self.told["parts"].get(part)
        return Outcome(row["status"], row["summary"], row["figures"]) if row else None

    def is_done(self, part: str) -> bool:
        outcome = self.of(part)
        return outcome is not None and outcome.status in (PASSED, REFUSED)

    def put(self, part: str, outcome: Outcome, seconds: float, date: str, command: str):
        row = {**outcome._asdict(), "seconds": round(seconds, 1), "date": date, "command": command}
        self.told["parts"][part] = row
        # Whole or not at all.
        new = self.path.with_name(self.path.name + f".{os.getpid()}")
        new.write_text(json.dumps(self.told, indent=1) + "\n")
        new.replace(self.path)

    def table(self, parts: list) -> str:
        rows = [(part, self.told["parts"][part]) for part in parts if part in self.told["parts"]]
        lines = [f"{'part':<10} {'result':<8} {'seconds':>7}  what"]
        for part, row in rows:
            head = f"{part:<10} {row['status']:<8} {row['seconds']:>7.1f}  "
            text = row["summary"].split("\n")
            lines += [head + text[0], *(" " * len(head) + more for more in text[1:])]
        return "\n".join(lines)
