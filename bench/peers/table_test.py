"""What the table says of rows that were asked for and not reached; no measurement."""

import importlib.util
import unittest
from importlib.machinery import SourceFileLoader
from pathlib import Path

LOADER = SourceFileLoader("table", str(Path(__file__).with_name("table")))
table = importlib.util.module_from_spec(importlib.util.spec_from_loader("table", LOADER))
LOADER.exec_module(table)

ROWS = [row for row in table.all_rows() if row.name in ("start", "memory-q")]
TOLD_OF = {"machine": "a machine", "date": "today", "commit": "abc", "command": "bench/peers/table --row start --row memory-q"}


def run_of(row: str, side: str, **result) -> dict:
    limits = {"read_gb_s": 30.0}
    before = {"load_average": 1.0, "is_quiet": True}
    return {"row": row, "side": side, "before": before, "limits_before": limits, "limits_after": limits, **result}


def lines(runs: list[dict], **more) -> dict[str, str]:
    """The lines of the table by row, and the rest as one."""
    told_of = TOLD_OF | more
    text = table.markdown(table.summary(ROWS, runs, table.asked_of(told_of)), told_of)
    named = {row.name: line for row in ROWS for line in text.split("\n") if line.startswith(f"| {row.title} |")}
    return named | {"text": text}


class NotReached(unittest.TestCase):
    def test_a_side_that_was_asked_for_is_no_empty_cell(self):
        found = lines([run_of("start", "ours", value=0.7), run_of("start", "vllm", value=100.0), run_of("start", "llama", value=2.0)])
        self.assertNotIn("not reached", found["start"])
        self.assertEqual(found["memory-q"].count("not reached: the run ended before it"), 2)

    def test_a_side_that_failed_says_why_in_short_and_in_full(self):
        why = "TimeoutError: not up after 900 s | " + 100 * "x"
        found = lines([run_of("start", "ours", value=0.7), run_of("start", "vllm", error=why + "\nmore lines")])
        self.assertIn("| not reached: TimeoutError: not up after 900 s / xxx", found["start"])
        self.assertIn("x… |", found["start"])
        self.assertIn(f"vLLM: {why}\n", found["text"])
        self.assertNotIn("more lines", found["text"])

    def test_a_row_of_which_every_side_failed_is_there(self):
        found = lines([run_of("memory-q", side, error="OSError: no model") for side in ("ours", "vllm")])
        self.assertEqual(found["memory-q"].count("not reached: OSError: no model"), 2)

    def test_what_was_not_asked_for_is_empty_or_left_out(self):
        found = lines([run_of("start", "ours", value=0.7)], command="bench/peers/table --row start --side ours")
        self.assertNotIn("not reached", found["text"])
        self.assertNotIn("memory-q", found)

    def test_a_table_of_earlier_ones_asks_what_all_of_them_asked(self):
        sources = [{"commit": "a", "command": "bench/peers/table --row start --side ours"},
                   {"commit": "b", "command": "bench/peers/table --row start --side vllm"}]  # fmt: skip
        found = lines([run_of("start", "ours", value=0.7)], sources=sources, command="bench/peers/table --from a.json b.json")
        self.assertEqual(found["start"].count("not reached: the run ended before it"), 1)

    def test_a_second_try_that_works_is_a_figure(self):
        found = lines([run_of("start", "vllm", error="OSError: busy"), run_of("start", "vllm", value=100.0)])
        self.assertNotIn("OSError", found["text"])


if __name__ == "__main__":
    unittest.main()
