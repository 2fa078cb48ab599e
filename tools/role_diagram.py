# ruff: noqa: INP001 - tools are no package
"""The role machine as a picture: an SVG of boxes and arrows, which carry the numbers of what moves a role."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Point = tuple[float, float]

WIDTH, HEIGHT = 720, 400
BOX = (110, 44)
PLACES: Mapping[str, Point] = {"init": (80, 200), "master": (420, 60), "backup": (620, 320), "fault": (260, 330)}
BESIDE = 11.0
"""How far an arrow is from the straight line between two boxes, so that there and back are two."""
STYLE = """<style>
  .box { fill: #3f51b5; }
  .name { fill: #fff; font: bold 16px sans-serif; text-anchor: middle; dominant-baseline: central; }
  .edge { stroke: #888; stroke-width: 1.6; marker-end: url(#tip); } .tip { fill: #888; }
  .dot { fill: #888; } .plate { fill: #f4f4f4; stroke: #888; }
  .why { fill: #222; font: 13px sans-serif; text-anchor: middle; dominant-baseline: central; }
</style>
<marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto-start-reverse">
  <path class="tip" d="M 0 0 L 10 5 L 0 10 z"/>
</marker>
"""


def draw(edges: Mapping[tuple[str, str], Sequence[int]], first: str) -> str:
    """The picture.

    Args:
        edges: (role before, role after) → the numbers of what moves it.
        first: the role that everything begins in.
    """
    parts = [_arrow(PLACES[old], PLACES[new], numbers) for (old, new), numbers in sorted(edges.items())]
    parts += [_box(name, place) for name, place in PLACES.items()]
    x, y = PLACES[first]
    start = f'<circle class="dot" cx="{x}" cy="{y - 70:g}" r="6"/>\n'
    start += f'<line class="edge" x1="{x}" y1="{y - 64:g}" x2="{x}" y2="{y - BOX[1] / 2:g}"/>\n'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">\n'
    )
    return f"{head}{STYLE}{start}{''.join(parts)}</svg>\n"


def _box(name: str, place: Point) -> str:
    x, y = place
    left, top = x - BOX[0] / 2, y - BOX[1] / 2
    shape = f'<rect class="box" x="{left:g}" y="{top:g}" width="{BOX[0]}" height="{BOX[1]}" rx="6"/>'
    return f'{shape}\n<text class="name" x="{x:g}" y="{y:g}">{name}</text>\n'


def _arrow(old: Point, new: Point, numbers: Sequence[int]) -> str:
    """From the edge of one box to that of another, to the right of the straight line, with a plate that has numbers."""
    angle = math.atan2(new[1] - old[1], new[0] - old[0])
    aside = (-math.sin(angle) * BESIDE, math.cos(angle) * BESIDE)
    begin, end = _moved(_border(old, angle), aside), _moved(_border(new, angle + math.pi), aside)
    text = ", ".join(map(str, numbers))
    x, y = (begin[0] * 0.56 + end[0] * 0.44, begin[1] * 0.56 + end[1] * 0.44)
    half = 7 + 3.6 * len(text)
    return (
        f'<line class="edge" x1="{begin[0]:.1f}" y1="{begin[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"/>\n'
        f'<rect class="plate" x="{x - half:.1f}" y="{y - 10:.1f}" width="{2 * half:.1f}" height="20" rx="10"/>\n'
        f'<text class="why" x="{x:.1f}" y="{y:.1f}">{text}</text>\n'
    )


def _border(centre: Point, angle: float) -> Point:
    """Where a ray from the centre leaves the box."""
    across, down = math.cos(angle), math.sin(angle)
    reach = min(
        BOX[0] / 2 / abs(across) if across else math.inf,
        BOX[1] / 2 / abs(down) if down else math.inf,
    )
    return centre[0] + across * reach, centre[1] + down * reach


def _moved(point: Point, by: Point) -> Point:
    return point[0] + by[0], point[1] + by[1]
