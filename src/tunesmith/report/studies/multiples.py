"""One line a method: together where colours tell them apart, else a small drawing each, the others in grey."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from tunesmith.report.charts import NUM_COLOURS, colour_of
from tunesmith.report.studies.plane import PlaneAxis, PlaneLine, PlaneMark, draw_lines, draw_plane


@dataclass(frozen=True, slots=True)
class Track:
    """All that is drawn of one method."""

    name: str
    lines: Sequence[PlaneLine]
    marks: Sequence[PlaneMark] = ()
    says: str = ""
    """What is to be seen, in words."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A small drawing with the name above it."""

    name: str
    chart: Markup


@dataclass(frozen=True, slots=True)
class Multiples:
    """One drawing with a legend, or one for every method."""

    together: Markup
    panels: Sequence[Panel]
    x_name: str
    y_name: str


def colour_at(place: int, num_tracks: int) -> int:
    """Return the colour of the method at ``place``: its own where they are drawn together, else the first."""
    return place if num_tracks <= NUM_COLOURS else 0


def multiples_of(tracks: Sequence[Track], x_axis: PlaneAxis, y_axis: PlaneAxis, *, title: str, key: str) -> Multiples:
    """Draw the tracks; ``key`` is the anchor of what panels share, one of its kind on the page."""
    if len(tracks) <= NUM_COLOURS:
        chart = draw_plane(
            x_axis,
            y_axis,
            [line for track in tracks for line in track.lines],
            [mark for track in tracks for mark in track.marks],
            title=title,
            description=" ".join(f"{track.name}: {track.says}." for track in tracks if track.says),
            shape="tall",
        )
        return Multiples(_legend([track.name for track in tracks]) + chart, (), x_axis.label, y_axis.label)
    y_axis = replace(y_axis, ticks=_few(y_axis.ticks, 4))
    x_axis = replace(x_axis, ticks=_few(x_axis.ticks, 5), minor=())
    context = [PlaneLine(line.points, -1, "thin") for track in tracks for line in track.lines if line.style == "line"]
    shared = Markup('<g id="{}" class="context">{}</g>').format(key, draw_lines(x_axis, y_axis, context))
    panels = []
    for place, track in enumerate(tracks):
        chart = draw_plane(
            x_axis,
            y_axis,
            track.lines,
            track.marks,
            title=f"{title}: {track.name}",
            description=f"{track.says}." if track.says else "",
            shape="small",
            behind=shared if place == 0 else Markup('<use href="#{}"/>').format(key),
            names_axes=False,
        )
        panels.append(Panel(track.name, chart))
    return Multiples(Markup(""), panels, x_axis.label, y_axis.label)


def _few(ticks: Sequence[tuple[float, str]], most: int) -> Sequence[tuple[float, str]]:
    return ticks[:: math.ceil(len(ticks) / most)] if len(ticks) > most else ticks


def _legend(names: Sequence[str]) -> Markup:
    if len(names) < 2:
        return Markup("")
    items = Markup("").join(
        Markup('<li><span class="key" style="--key:{}"></span><bdi>{}</bdi></li>').format(colour_of(place), name)
        for place, name in enumerate(names)
    )
    return Markup('<ul class="legend">{}</ul>').format(items)
