"use strict";
// A small chart of curves over shares of the image, with a label at each curve.

const CHART = { width: 340, height: 172, left: 30, right: 8, top: 8, bottom: 36 };
const SHARES = [0.01, 0.05, 0.25, 0.5, 1]; // marked on the axis
const LABEL_HEIGHT = 13;
const LETTER_WIDTH = 7; // of the labels, on average
const FARTHEST_LABEL = 14; // from its curve

/**
 * `lines` are {name, label, values, isChosen, choose: a function or null}, the most important ones first. The horizontal
 * axis is a square root, so that the first few percent can be seen.
 */
function curveChart(fractions, lines, { xTitle, label }) {
  const { width, height, left, right, top, bottom } = CHART;
  const most = Math.max(1, Math.ceil(4 * Math.max(...lines.flatMap(({ values }) => values)) - 0.2) / 4);
  const x = (share) => left + Math.sqrt(share) * (width - left - right);
  const y = (value) => height - bottom - (value / most) * (height - top - bottom);
  const text = (content, attributes) => {
    const created = shape("text", attributes);
    created.textContent = content;
    return created;
  };
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (const value of [0, 0.5, 1]) {
    svg.append(shape("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }));
    svg.append(text(value === 0.5 ? "½" : value, { class: "tick", x: left - 6, y: y(value) + 4, "text-anchor": "end" }));
  }
  for (const share of SHARES) {
    svg.append(shape("line", { class: "grid", x1: x(share), x2: x(share), y1: height - bottom, y2: height - bottom + 4 }));
    svg.append(text(`${100 * share} %`, { class: "tick", x: x(share), y: height - bottom + 15, "text-anchor": share === 1 ? "end" : "middle" }));
  }
  svg.append(text(xTitle, { class: "tick", x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }));
  const drawn = lines.map((line) => ({ ...line, points: line.values.map((value, i) => [x(fractions[i]), y(value)]) }));
  for (const line of [...drawn].reverse()) svg.append(...polylinesOf(line));
  svg.append(...labelsOf(drawn).map(({ line, place }) => chosenBy(line, text(line.label, { class: `label ${line.name}${line.isChosen ? " chosen" : ""}`, ...place }))));
  return svg;
}

/** The curve, and a wide invisible one that is easy to hit. */
function polylinesOf(line) {
  const points = line.points.map((point) => point.map((side) => side.toFixed(1)).join(",")).join(" ");
  const seen = shape("polyline", { points, class: `curve ${line.name}${line.isChosen ? " chosen" : ""}` });
  return line.choose ? [seen, chosenBy(line, shape("polyline", { points, class: "hit" }))] : [seen];
}

function chosenBy(line, drawn) {
  if (line.choose === null) return drawn;
  drawn.classList.add("choosable");
  drawn.addEventListener("click", line.choose);
  return drawn;
}

/** Places along a curve, about 4 pixels apart. */
function placesAlong(points) {
  return points.slice(1).flatMap(([x1, y1], i) => {
    const [x0, y0] = points[i];
    const steps = Math.max(1, Math.ceil(Math.hypot(x1 - x0, y1 - y0) / 4));
    return range(steps).map((step) => [x0 + ((x1 - x0) * step) / steps, y0 + ((y1 - y0) * step) / steps]);
  });
}

/** How far the nearest of some places is from a rectangle; 0 inside it. */
function distanceTo([x0, y0, x1, y1], places) {
  return places.reduce((least, [x, y]) => Math.min(least, Math.hypot(Math.max(x0 - x, 0, x - x1), Math.max(y0 - y, 0, y - y1))), Infinity);
}

/** Each label beside its curve, where it covers no other label, least of the curves, and no other curve is as near. */
function labelsOf(lines) {
  const { width, height, left, right, top, bottom } = CHART;
  const taken = [];
  const curves = lines.map(({ points }) => placesAlong(points));
  return lines.map((line, number) => {
    const wide = LETTER_WIDTH * line.label.length;
    let best = { cost: Infinity, rectangle: [left, top, left + wide, top + LABEL_HEIGHT] };
    for (let x0 = left + 3; x0 + wide <= width - right; x0 += 5)
      for (let y0 = top - 4; y0 + LABEL_HEIGHT <= height - bottom; y0 += 4) {
        const rectangle = [x0, y0, x0 + wide, y0 + LABEL_HEIGHT];
        const own = distanceTo(rectangle, curves[number]);
        if (own > FARTHEST_LABEL) continue;
        const others = curves.filter((_, other) => other !== number).map((places) => distanceTo(rectangle, places));
        const covered = taken.filter(([tx0, ty0, tx1, ty1]) => x0 < tx1 && x0 + wide > tx0 && y0 < ty1 && y0 + LABEL_HEIGHT > ty0).length;
        const crossed = others.filter((distance) => distance < 2).length + (own < 2 ? 1 : 0);
        const nearest = Math.min(...others);
        const cost = 200 * covered + 20 * crossed + own + 2 * Math.max(0, own + 8 - nearest) + (nearest <= own ? 20 : 0);
        if (cost < best.cost) best = { cost, rectangle };
      }
    taken.push(best.rectangle);
    return { line, place: { x: best.rectangle[0], y: best.rectangle[3] - 3 } };
  });
}
