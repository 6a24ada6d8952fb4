"""Line charts as SVG, in plain Python: logarithmic or linear axes, grid, units, and each line's name in a legend."""

import math
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 78, 190, 58, 60
INK, GREY, GRID = "#1f2328", "#57606a", "#d8dee4"
# Told apart by those who see colours otherwise, too (Okabe and Ito).
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]


@dataclass
class Line:
    name: str
    points: list[tuple[float, float]]
    colour: str
    is_dashed: bool = False  # A limit, not a measurement.


@dataclass
class Axis:
    label: str
    is_log: bool = True
    # Where the marks are; none: chosen.
    marks: list[float] | None = None


class Scale:
    def __init__(self, axis: Axis, values: list[float], begin: float, end: float):
        self.axis, self.begin, self.end = axis, begin, end
        self.marks = axis.marks or (log_marks if axis.is_log else linear_marks)(min(values), max(values))
        if axis.is_log:
            low, high = min(min(values), self.marks[0]), max(max(values), self.marks[-1])
        else:
            low, high = 0.0, max(max(values), self.marks[-1])
        self.low, self.high = self._of(low), self._of(high)

    def _of(self, value: float) -> float:
        return math.log10(value) if self.axis.is_log else value

    def __call__(self, value: float) -> float:
        share = (self._of(value) - self.low) / ((self.high - self.low) or 1)
        return self.begin + share * (self.end - self.begin)


def log_marks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, ... around the values; powers of ten only where that is enough."""
    steps = (1, 2, 5) if high / low < 1000 else (1,)
    ladder = [step * 10.0**power for power in range(-3, 13) for step in steps]
    inside = [mark for mark in ladder if low <= mark <= high]
    below = [mark for mark in ladder if mark < low][-1:]
    above = [mark for mark in ladder if mark > high][:1]
    return below + inside + above


def linear_marks(_low: float, high: float) -> list[float]:
    step = 10.0 ** math.floor(math.log10(high))
    for finer in (5, 2):
        if high / step < finer:
            step /= {5: 2, 2: 2}[finer]
    return [step * i for i in range(math.ceil(high / step) + 1)]


def number(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"


def text(x: float, y: float, words: str, size: int = 12, anchor: str = "start", colour: str = INK, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"{more}>{escape(words)}</text>'


def chart(title: str, subtitle: str, x_axis: Axis, y_axis: Axis, lines: list[Line]) -> str:
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    x_of, y_of = Scale(x_axis, xs, LEFT, right), Scale(y_axis, ys, bottom, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"',
        f'font-family="Helvetica, Arial, sans-serif" role="img" aria-label="{escape(title, quote=True)}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        text(LEFT, 24, title, 16, more=' font-weight="bold"'),
        text(LEFT, 43, subtitle, 12, colour=GREY),
    ]
    for mark in y_of.marks:
        parts.append(f'<path d="M{LEFT} {y_of(mark):.1f}H{right}" stroke="{GRID}"/>')
        parts.append(text(LEFT - 8, y_of(mark) + 4, number(mark), anchor="end"))
    for mark in x_of.marks:
        parts.append(f'<path d="M{x_of(mark):.1f} {TOP}V{bottom}" stroke="{GRID}"/>')
        parts.append(text(x_of(mark), bottom + 18, number(mark), anchor="middle"))
    parts.append(f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="{INK}"/>')
    parts.append(text((LEFT + right) / 2, HEIGHT - 16, x_axis.label, 13, "middle"))
    middle = (TOP + bottom) / 2
    parts.append(text(20, middle, y_axis.label, 13, "middle", more=f' transform="rotate(-90 20 {middle:.1f})"'))
    for line in lines:
        parts += drawn(line, x_of, y_of)
    parts += legend(lines, right + 16)
    return "\n".join([*parts, "</svg>"]) + "\n"


def drawn(line: Line, x_of: Scale, y_of: Scale) -> list[str]:
    at = [(x_of(x), y_of(y)) for x, y in sorted(line.points)]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in at)
    dashes = ' stroke-dasharray="6 4" stroke-width="1.5"' if line.is_dashed else ' stroke-width="2.2"'
    dots = [] if line.is_dashed else [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4" fill="{line.colour}"/>' for x, y in at]
    return [f'<path d="{path}" fill="none" stroke="{line.colour}"{dashes}/>', *dots]


def legend(lines: list[Line], x: float) -> list[str]:
    parts = []
    for i, line in enumerate(lines):
        y = TOP + 10 + 20 * i
        dashes = ' stroke-dasharray="6 4" stroke-width="1.5"' if line.is_dashed else ' stroke-width="2.2"'
        parts.append(f'<path d="M{x} {y}h26" stroke="{line.colour}"{dashes}/>')
        if not line.is_dashed:
            parts.append(f'<circle cx="{x + 13}" cy="{y}" r="3.4" fill="{line.colour}"/>')
        parts.append(text(x + 33, y + 4, line.name))
    return parts
