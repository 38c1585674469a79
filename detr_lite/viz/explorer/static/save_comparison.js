"use strict";
// Two pictures that are compared and their difference as one SVG: side by side, each with its name and its own scale.

const COMPARED_WIDTH = 640; // pixels of each of the three pictures in a file
const COMPARED_GAP = 16; // between them
const COMPARED_HEAD = 34; // above them: what each is
const COMPARED_SCALE = 44; // below them: their color bars
const COMPARED_FOOT = 88; // caption, what the comparison says, and names

function svgOfComparison(app) {
  const { metadata } = app.scene;
  const { pane, difference, heatmap } = app.compare;
  const height = Math.round((COMPARED_WIDTH * $("stage").clientHeight) / $("stage").clientWidth);
  const width = 3 * COMPARED_WIDTH + 2 * COMPARED_GAP;
  const whole = COMPARED_HEAD + height + COMPARED_SCALE + COMPARED_FOOT;
  const unit = metadata.width / COMPARED_WIDTH / app.stage.zoom.window.scale;
  const svg = shape("svg", { xmlns: $("links").namespaceURI, width, height: whole, viewBox: `0 0 ${width} ${whole}` });
  svg.append(shape("rect", { width, height: whole, fill: "#fff" }));
  const colors = $("colorbar").toDataURL();
  const scaleOf = (map) => map && { bar: colors, less: valueText(map, 0), more: valueText(map, map.peak) };
  const ofDifference = $("difference-scale").hidden ? null : { bar: $("difference-bar").toDataURL(), less: $("difference-less").textContent, more: $("difference-more").textContent };
  const pictures = [
    [$("label-a").textContent, layersOf(app, unit), scaleOf(app.heatmap)],
    [pane.label.textContent, layersOfPane(app, pane, unit), scaleOf(heatmap)],
    [difference.label.textContent, layersOfPane(app, difference, unit), ofDifference],
  ];
  pictures.forEach(([name, layers, scale], number) => {
    const part = shape("svg", { x: number * (COMPARED_WIDTH + COMPARED_GAP), width: COMPARED_WIDTH, height: whole - COMPARED_FOOT, overflow: "hidden" });
    const view = shape("svg", { y: COMPARED_HEAD, width: COMPARED_WIDTH, height, viewBox: viewBoxOf(app), overflow: "hidden" });
    view.append(...layers);
    part.append(textAt(4, 23, 18, "#111", name), view, ...(scale ? scaleUnder(scale, COMPARED_HEAD + height) : []));
    svg.append(part);
  });
  const { title, text } = captionOf(app);
  const foot = [[18, "#111", `${title}: ${text}`], [15, "#333", $("comparison-text").textContent], [15, "#555", nameOfView(app)]];
  foot.forEach(([size, fill, content], number) => svg.append(textAt(4, whole - COMPARED_FOOT + 22 + 27 * number, size, fill, content)));
  return svg;
}

/** The picture of a pane with its map, the chosen box and the point. */
function layersOfPane(app, pane, unit) {
  const { width, height } = app.scene.metadata;
  const whole = { width, height, preserveAspectRatio: "none" };
  const layers = [shape("image", { ...whole, href: app.scene.picture, style: getComputedStyle(pane.picture).filter === "none" ? "" : DIMMED })];
  if (!pane.canvas.hidden) layers.push(shape("image", { ...whole, href: pane.canvas.toDataURL() }));
  if (!pane.box.hidden) layers.push(...savedBox(app, pane.box, unit));
  if (app.state.point) layers.push(savedPoint(app, unit));
  return layers;
}

function scaleUnder({ bar, less, more }, top) {
  const image = shape("image", { x: 4, y: top + 8, width: COMPARED_WIDTH - 8, height: 10, preserveAspectRatio: "none", href: bar });
  return [image, textAt(4, top + 36, 14, "#555", less), textAt(COMPARED_WIDTH - 4, top + 36, 14, "#555", more, "end")];
}
