"use strict";
// Lines over the image, for tasks whose queries predict lines instead of boxes.

const LINE_PIXELS = 9; // from a line that still count as the line

/** An SVG of lines in the image's pixels: [{line, color, className}]. */
function drawLines(svg, { width, height }, lines) {
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren(
    ...lines.flatMap(({ line, color, className }) => {
      const points = line.map((point) => point.join(",")).join(" ");
      return [shape("polyline", { points, class: `casing ${className}` }), shape("polyline", { points, class: className, stroke: color })];
    }),
  );
}

/** The distance of a point from a line, all in the same unit. */
function distanceToLine([x, y], line) {
  let least = Infinity;
  for (let i = 1; i < line.length; i++) {
    const [[x0, y0], [x1, y1]] = [line[i - 1], line[i]];
    const [dx, dy] = [x1 - x0, y1 - y0];
    const squared = dx * dx + dy * dy;
    const t = squared === 0 ? 0 : Math.min(1, Math.max(0, ((x - x0) * dx + (y - y0) * dy) / squared));
    least = Math.min(least, Math.hypot(x - x0 - t * dx, y - y0 - t * dy));
  }
  return least;
}

/** A point on the line in the middle of its points. */
const middleOf = (line) => line[Math.floor(line.length / 2)];
