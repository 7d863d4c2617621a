"""The report's charts, as inline SVG that takes its colours from the page's style sheet.

Text reaches the markup only through :class:`markupsafe.Markup`'s ``format``, which escapes it: a class may be called
``<b>x`` without becoming a tag. Colours are CSS variables, so that one drawing serves the light and the dark page.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup


class Series(NamedTuple):
    """One line of :func:`lines`; ``style`` is the CSS class that colours it."""

    name: str
    style: str
    points: list[tuple[float, float]]


class Bin(NamedTuple):
    """One bin of a reliability diagram: mean confidence, share correct, and how many images fell in it."""

    confidence: float
    accuracy: float
    images: int


class Frame(NamedTuple):
    """A plotting area in SVG units and the data range it shows; y grows upwards in data, downwards in SVG."""

    left: float
    top: float
    width: float
    height: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        return self.left + self.width * _share(value, self.x_range)

    def y(self, value: float) -> float:
        return self.top + self.height * (1 - _share(value, self.y_range))

    @property
    def bottom(self) -> float:
        return self.top + self.height

    @property
    def right(self) -> float:
        return self.left + self.width


def _share(value: float, limits: tuple[float, float]) -> float:
    low, high = limits
    return (value - low) / (high - low) if high > low else 0.5


def _join(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def _svg(width: float, height: float, title: str, body: Markup, style: str = "", shrink: float = 0) -> Markup:
    """``title`` is the chart's alternative text. The drawing follows a narrow page down to the share ``shrink`` of its
    width, below which the page scrolls it; it never grows."""
    return Markup(
        '<svg class="chart {}" viewBox="0 0 {:.0f} {:.0f}" width="{:.0f}" height="{:.0f}" style="min-width:{:.0f}px"'
        ' role="img" aria-label="{}">{}</svg>'
    ).format(style, width, height, width, height, shrink * width, title, body)


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "middle") -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" class="{}" text-anchor="{}">{}</text>').format(x, y, style, anchor, text)


def _turned(x: float, y: float, degrees: float, text: str, style: str, anchor: str) -> Markup:
    return Markup('<text transform="translate({:.1f} {:.1f}) rotate({})" class="{}" text-anchor="{}">{}</text>').format(
        x, y, degrees, style, anchor, text
    )


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, style)


def _path(points: Iterable[tuple[float, float]], style: str) -> Markup:
    steps = " ".join(f"{'L' if number else 'M'}{x:.1f},{y:.1f}" for number, (x, y) in enumerate(points))
    return Markup('<path d="{}" class="{}"/>').format(steps, style)


def shortened(text: str, limit: int) -> str:
    """At most ``limit`` characters: the middle gives way, since long names of classes tend to differ at their ends."""
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail].rstrip()}…{text[-tail:].lstrip()}"


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values from ``low`` to ``high``: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


# -- intervals in tables -----------------------------------------------------------------------------------------------


def interval_bar(value: float, low: float | None, high: float | None, limits: tuple[float, float] = (0, 1)) -> Markup:
    """A dot with its interval on a line from ``limits[0]`` to ``limits[1]``, as tall as a line of text."""
    frame = Frame(6, 0, 148, 16, limits, (0, 1))
    parts = [_line(frame.left, 8, frame.right, 8, "track")]
    if low is not None and high is not None:
        parts.append(_line(frame.x(low), 8, frame.x(high), 8, "interval"))
    parts.append(Markup('<circle cx="{:.1f}" cy="8" r="3.6" class="estimate"/>').format(frame.x(value)))
    between = f", interval {low:.3f} to {high:.3f}" if low is not None and high is not None else ""
    return _svg(160, 16, f"{value:.3f}{between}", _join(parts), "inline")


def severity_line(values: Sequence[float]) -> Markup:
    """Shares in [0, 1] over severities, as tall as a line of text; the rules are 0 and 1."""
    frame = Frame(4, 3, 84, 20, (0, max(1, len(values) - 1)), (0, 1))
    points = [(frame.x(place), frame.y(value)) for place, value in enumerate(values)]
    parts = [
        _line(frame.left, frame.top, frame.right, frame.top, "grid"),
        _line(frame.left, frame.bottom, frame.right, frame.bottom, "grid"),
        _path(points, "series first"),
        *(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="2.6" class="dot first"/>').format(x, y) for x, y in points),
    ]
    return _svg(92, 26, ", ".join(f"{value:.0%}" for value in values), _join(parts), "inline")


# -- confusion matrix --------------------------------------------------------------------------------------------------

MATRIX_PX = 720
"""A matrix is at most this wide; few classes take less, since no cell exceeds ``CELL_PX``."""

CELL_PX = 44

NAME_PX = 12
"""Names of rows and columns need this much room each; of narrower ones only every n-th is named."""

CHARACTER_PX = 6.6
"""About the width of a character at the size of the names."""

MOST_NUMBERED = 24
"""Up to this many classes every cell carries its count; beyond, the colour and the tooltip do."""

MOST_EXPLAINED = 3000
"""Up to this many cells carry a tooltip; it keeps the matrix of a thousand classes a small file."""


class _Matrix(NamedTuple):
    """Geometry of a confusion matrix."""

    left: float
    top: float
    cell: float
    number: int
    is_slanted: bool
    is_explained: bool

    @property
    def side(self) -> float:
        return self.number * self.cell

    @property
    def every(self) -> int:
        return max(1, math.ceil(NAME_PX / self.cell))


def confusion(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> Markup:
    """A heat map, rows actual and columns predicted; a cell's depth of colour is its share of the row.

    ``counts[a][p]`` images of class ``a`` were called ``p``. Only cells that hold something are drawn.
    """
    names = [shortened(name, 16) for name in classes]
    name_px = CHARACTER_PX * max(map(len, names)) + 12
    cell = min(CELL_PX, MATRIX_PX / len(classes))
    is_slanted = name_px - 8 > cell
    matrix = _Matrix(
        left=name_px + 22,
        top=26 + (0.75 * name_px if is_slanted else 18),
        cell=cell,
        number=len(classes),
        is_slanted=is_slanted,
        is_explained=sum(count > 0 for row in counts for count in row) <= MOST_EXPLAINED,
    )
    cells = [part for actual, row in enumerate(counts) for part in _cells(matrix, classes, actual, row)]
    beyond = 0.5 * name_px if is_slanted else 4  # slanted names lean over the right edge
    return _svg(
        matrix.left + matrix.side + beyond,
        matrix.top + matrix.side + 4,
        f"Confusion matrix of {len(classes)} classes; the table of classes gives its diagonal in figures",
        _join([*_matrix_names(matrix, names), *cells]),
        "confusion",
        shrink=0.7,
    )


def _matrix_names(matrix: _Matrix, names: Sequence[str]) -> Iterable[Markup]:
    left, top, side = matrix.left, matrix.top, matrix.side
    yield _text(left + side / 2, 12, "predicted", "axis")
    yield _turned(12, top + side / 2, -90, "actual", "axis", "middle")
    yield Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="panel"/>').format(
        left, top, side, side
    )
    for index in range(0, matrix.number, matrix.every):
        centre = (index + 0.5) * matrix.cell
        yield _text(left - 8, top + centre + 4, names[index], "tick", "end")
        if matrix.is_slanted:
            yield _turned(left + centre + 3, top - 8, -48, names[index], "tick", "start")
        else:
            yield _text(left + centre, top - 8, names[index], "tick")


def _cells(matrix: _Matrix, classes: Sequence[str], actual: int, row: Sequence[int]) -> Iterable[Markup]:
    has_counts = matrix.number <= MOST_NUMBERED
    gap = 1.0 if matrix.cell > 14 else 0.06 * matrix.cell
    for predicted, count in enumerate(row):
        if not count:
            continue
        x, y = matrix.left + predicted * matrix.cell, matrix.top + actual * matrix.cell
        share, style = count / sum(row), "right" if predicted == actual else "wrong"
        depth = _depth(share, style, has_counts)
        says = f"{classes[actual]} → {classes[predicted]}: {count:,} of {sum(row):,} ({share:.1%})"
        yield Markup(
            '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="{}" fill-opacity="{:.2f}">'
        ).format(x + gap / 2, y + gap / 2, matrix.cell - gap, matrix.cell - gap, style, depth)
        yield Markup("<title>{}</title></rect>").format(says) if matrix.is_explained else Markup("</rect>")
        if has_counts:
            on = "on-deep" if depth > 0.68 else "on-pale"
            yield _text(x + matrix.cell / 2, y + matrix.cell / 2 + 4, f"{count:,}", f"count {on}")


def _depth(share: float, style: str, has_counts: bool) -> float:
    """Opacity of a cell; the square root lifts the few errors of a good model out of the paper's colour."""
    floor = 0.10 if has_counts else 0.35
    return floor + (0.92 - floor) * (share if style == "right" else math.sqrt(share))


# -- reliability -------------------------------------------------------------------------------------------------------


def reliability(bins: Sequence[Bin]) -> Markup:
    """Share correct over confidence, against the diagonal of perfect calibration; below it, where the images lie.

    Every bin holds at least one image.
    """
    frame = Frame(48, 28, 300, 270, (0, 1), (0, 1))
    below = Frame(48, 312, 300, 44, (0, 1), (0, max((entry.images for entry in bins), default=1)))
    quarters = [0, 0.25, 0.5, 0.75, 1]
    parts = [
        *_grid(frame, [], quarters, is_share=True),
        _line(frame.x(0), frame.y(0), frame.x(1), frame.y(1), "diagonal"),
        *(_gap(frame, entry) for entry in bins),
        _path([(frame.x(entry.confidence), frame.y(entry.accuracy)) for entry in bins], "series first"),
        *(_bin_dot(frame, entry) for entry in bins),
        *(_bin_bar(below, entry) for entry in bins),
        _line(below.left, below.bottom, below.right, below.bottom, "base"),
        *(_text(below.x(tick), below.bottom + 16, f"{tick:.0%}", "tick") for tick in quarters),
        _text(below.left + 150, below.bottom + 34, "confidence of the top class", "axis"),
        _text(below.left - 8, below.bottom - 2, "images", "tick", "end"),
        _text(frame.left, frame.top - 14, "share correct", "axis", "start"),
    ]
    return _svg(364, below.bottom + 42, "Reliability diagram: share correct over confidence", _join(parts))


def _gap(frame: Frame, entry: Bin) -> Markup:
    x = frame.x(entry.confidence)
    return _line(x, frame.y(entry.confidence), x, frame.y(entry.accuracy), "gap")


def _bin_dot(frame: Frame, entry: Bin) -> Markup:
    says = f"{entry.images:,} images: confidence {entry.confidence:.1%}, correct {entry.accuracy:.1%}"
    return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4" class="dot first"><title>{}</title></circle>').format(
        frame.x(entry.confidence), frame.y(entry.accuracy), says
    )


def _bin_bar(frame: Frame, entry: Bin) -> Markup:
    height = max(1.0, frame.bottom - frame.y(entry.images))
    return Markup('<rect x="{:.1f}" y="{:.1f}" width="12" height="{:.1f}" class="histogram"/>').format(
        frame.x(entry.confidence) - 6, frame.bottom - height, height
    )


# -- curves ------------------------------------------------------------------------------------------------------------


def lines(title: str, series: Sequence[Series], marks: Sequence[tuple[float, str]], *, is_share: bool) -> Markup:
    """Lines over epochs with a rule and a name at the start of each phase (``marks``)."""
    points = [point for one in series for point in one.points if math.isfinite(point[1])]
    if not points:
        return Markup("")
    x_high = max(max(x for x, _ in points), min(x for x, _ in points) + 1)
    frame = Frame(48, 34, 380, 190, (min(x for x, _ in points), x_high), _y_range(points, is_share))
    x_ticks = [tick for tick in ticks(*frame.x_range, about=6) if tick == int(tick)]
    parts = [_text(0, 12, title, "heading", "start")]
    parts += _grid(frame, x_ticks, ticks(*frame.y_range, about=4), is_share=is_share)
    for start, name in marks:
        parts.append(_line(frame.x(start), frame.top, frame.x(start), frame.bottom, "phase"))
        parts.append(_text(frame.x(start) + 5, frame.top - 5, shortened(name, 18), "tick", "start"))
    for one in series:
        drawn = [(frame.x(x), frame.y(y)) for x, y in one.points if math.isfinite(y)]
        if drawn:
            parts.append(_path(drawn, f"series {one.style}"))
            parts.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3" class="dot {}"/>').format(*drawn[-1], one.style))
    parts.append(_text(frame.left + frame.width / 2, frame.bottom + 34, "epoch", "axis"))
    parts += _legend(series, frame.right)
    return _svg(440, frame.bottom + 42, f"{title} by epoch", _join(parts))


def _y_range(points: list[tuple[float, float]], is_share: bool) -> tuple[float, float]:
    low, high = min(y for _, y in points), max(y for _, y in points)
    room = 0.06 * (high - low) or 0.05
    if is_share:
        return max(0.0, low - room), min(1.0, high + room)
    return max(0.0, low - room), high + room


def _legend(series: Sequence[Series], right: float) -> Iterable[Markup]:
    x = right
    for one in reversed(series):
        yield _text(x, 12, one.name, "tick", "end")
        x -= 5.5 * len(one.name) + 8
        yield _line(x - 14, 8, x, 8, f"series {one.style}")
        x -= 28


def _grid(frame: Frame, xs: Sequence[float], ys: Sequence[float], *, is_share: bool) -> Iterable[Markup]:
    """Horizontal rules with their values (``is_share``: as per cent), and the values below."""
    for value in ys:
        yield _line(frame.left, frame.y(value), frame.right, frame.y(value), "grid")
        yield _text(frame.left - 8, frame.y(value) + 4, f"{value:.0%}" if is_share else f"{value:g}", "tick", "end")
    for value in xs:
        yield _text(frame.x(value), frame.bottom + 17, f"{value:g}", "tick")


# -- domains -----------------------------------------------------------------------------------------------------------


class Point(NamedTuple):
    """A dot of :func:`scatter`; ``says`` is its tooltip."""

    x: float
    y: float
    style: str
    says: str


def scatter(
    points: Sequence[Point], legend: Sequence[tuple[str, str]], names: Sequence[tuple[float, float, str]] = ()
) -> Markup:
    """Marks on a plane whose axes mean nothing, in the order given. ``legend`` is (name, style), ``names`` are written
    over the dots: (x, y, text)."""
    frame = Frame(10, 34, 540, 400, _limits([point.x for point in points]), _limits([point.y for point in points]))
    parts = [
        Markup('<rect x="{:.0f}" y="{:.0f}" width="{:.0f}" height="{:.0f}" class="panel"/>').format(
            0, frame.top - 10, 560, frame.height + 20
        ),
        *_dot_legend(legend),
        *(_marker(frame.x(point.x), frame.y(point.y), 3, point.style, point.says) for point in points),
        *(_text(frame.x(x), frame.y(y) + 4, shortened(name, 16), "place") for x, y, name in names),
    ]
    domains = " and ".join(name for name, _ in legend)
    return _svg(560, frame.bottom + 12, f"Map of the features of {domains}", _join(parts), shrink=0.6)


def _marker(x: float, y: float, radius: float, style: str, says: str = "") -> Markup:
    """A disc, or a diamond for ``second``: the shape tells where the colour does not."""
    if style == "second":
        side = 1.25 * radius
        shape = Markup('path d="M{:.1f},{:.1f}l{:.2f},{:.2f} {:.2f},{:.2f} {:.2f},{:.2f}z"').format(
            x, y - side, side, side, -side, side, -side, -side
        )
    else:
        shape = Markup('circle cx="{:.1f}" cy="{:.1f}" r="{:g}"').format(x, y, radius)
    title = Markup("<title>{}</title>").format(says) if says else Markup("")
    return Markup('<{} class="point {}">{}</{}>').format(shape, style, title, shape.split(" ")[0])


def _limits(values: Sequence[float]) -> tuple[float, float]:
    return min(values, default=0.0), max(values, default=1.0)


def _dot_legend(legend: Sequence[tuple[str, str]]) -> Iterable[Markup]:
    x = 6.0
    for name, style in legend:
        yield _marker(x, 8, 4.5, style)
        yield _text(x + 10, 12, name, "tick", "start")
        x += CHARACTER_PX * len(name) + 40


class Shares(NamedTuple):
    """One row of :func:`paired_shares`: two shares in [0, 1], the second with its interval."""

    name: str
    first: float
    second: float
    low: float
    high: float


def paired_shares(rows: Sequence[Shares], names: tuple[str, str]) -> Markup:
    """Two bars per row, one above the other; the lower one carries its interval."""
    left = CHARACTER_PX * max(len(shortened(row.name, 18)) for row in rows) + 14
    highest = max(max(row.first, row.second, row.high) for row in rows)
    frame = Frame(left, 28, 300, 27.0 * len(rows), (0, highest), (0, 1))
    parts = [*_dot_legend([(names[0], "first"), (names[1], "second")])]
    for value in ticks(0, highest, about=4):
        parts.append(_line(frame.x(value), frame.top, frame.x(value), frame.bottom, "grid"))
        parts.append(_text(frame.x(value), frame.bottom + 15, f"{value:.0%}", "tick"))
    for number, row in enumerate(rows):
        parts += _share_bars(frame, row, frame.top + 27 * number + 5, names)
    return _svg(frame.right + 40, frame.bottom + 22, "Shares of the classes in both domains", _join(parts))


def _share_bars(frame: Frame, row: Shares, top: float, names: tuple[str, str]) -> Iterable[Markup]:
    yield _text(frame.left - 8, top + 12, shortened(row.name, 18), "tick", "end")
    bars = ((top, row.first, "first", names[0]), (top + 9, row.second, "second", names[1]))
    for y, share, style, domain in bars:
        yield Markup(
            '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="7" class="share {}"><title>{}</title></rect>'
        ).format(
            frame.left, y, max(0.5, frame.x(share) - frame.left), style, f"{row.name}: {share:.1%} of the {domain}"
        )
    yield _line(frame.x(row.low), top + 12.5, frame.x(row.high), top + 12.5, "whisker")
