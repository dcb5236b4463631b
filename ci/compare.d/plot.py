"""A plot as SVG: lines over two logarithmic axes, labelled at their ends."""

import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 380, 60, 250, 40, 40
COLOURS = ("#c0392b", "#2c6fbb", "#d68910", "#7d3c98", "#239b56", "#5d6d7e")


def ticks(low, high):
    """Return the powers of ten from below the one to above the other."""
    return [10.0**n for n in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


def spread(places, distance):
    """Move places apart, downwards, until none is nearer to the next than that."""
    moved = []
    for place in sorted(places):
        moved.append(max(place, moved[-1] + distance) if moved else place)
    return dict(zip(sorted(range(len(places)), key=places.__getitem__), moved, strict=True))


def plot(lines, title):
    """Return the picture of lines, by name as lists of (x, y); promring's are the thick ones."""
    xs = sorted({x for points in lines.values() for x, _ in points})
    ys = ticks(min(y for p in lines.values() for _, y in p), max(y for p in lines.values() for _, y in p))

    def at(value, low, high, start, end):
        share = (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
        return round(start + share * (end - start), 1)

    def x_of(x):
        return at(x, xs[0], xs[-1], LEFT, WIDTH - RIGHT)

    def y_of(y):
        return at(y, ys[0], ys[-1], HEIGHT - BOTTOM, TOP)

    size = f'viewBox="0 0 {WIDTH} {HEIGHT}"'
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="14">{escape(title)}</text>',
    ]
    for y in ys:
        out.append(f'<path d="M{LEFT} {y_of(y)}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y_of(y) + 4}" text-anchor="end">{y:g}</text>')
    for x in xs:
        out.append(f'<text x="{x_of(x)}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{x}</text>')
    labels = spread([y_of(points[-1][1]) for points in lines.values()], 15)
    for i, (name, points) in enumerate(lines.items()):
        colour, width = COLOURS[i % len(COLOURS)], 3 if name.startswith("promring") else 1.5
        path = " ".join(f"{x_of(x)},{y_of(y)}" for x, y in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>')
        out.append(f'<text x="{WIDTH - RIGHT + 8}" y="{labels[i] + 4}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*out, "</svg>\n"])
