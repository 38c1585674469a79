"use strict";
// The view as a file: an SVG, and the PNG that a browser makes of it.

const SAVED_WIDTH = 1200; // pixels of a saved picture
const SAVED_FOOT = 84; // below it: caption and color bar
const DIMMED = "filter: grayscale(1) brightness(.55)"; // as the page dims a picture under an overlay

/** What is shown: one view, or two that are compared. */
function svgOf(app) {
  return isComparing() ? svgOfComparison(app) : svgOfView(app);
}

const isComparing = () => document.body.classList.contains("comparing");

/** The image with its heat map, boxes, lines, points and links, and below it the caption and the color bar. */
function svgOfView(app) {
  const { metadata } = app.scene;
  const isMatrix = app.matrix !== null;
  const canvas = isMatrix ? document.querySelector("#matrix canvas") : $("stage");
  const width = SAVED_WIDTH;
  const height = Math.round((width * canvas.clientHeight) / canvas.clientWidth);
  const svg = shape("svg", { xmlns: $("links").namespaceURI, width, height: height + SAVED_FOOT, viewBox: `0 0 ${width} ${height + SAVED_FOOT}` });
  svg.append(shape("rect", { width, height: height + SAVED_FOOT, fill: "#fff" }));
  if (isMatrix) svg.append(shape("image", { width, height, href: canvas.toDataURL() }));
  else {
    const view = shape("svg", { width, height, viewBox: viewBoxOf(app), overflow: "hidden" });
    view.append(...layersOf(app, metadata.width / SAVED_WIDTH / app.stage.zoom.window.scale));
    svg.append(view);
  }
  svg.append(...footOf(app, width, height));
  return svg;
}

function viewBoxOf(app) {
  const { width, height } = app.scene.metadata;
  const { x, y, scale } = app.stage.zoom.window;
  return `${x * width} ${y * height} ${width / scale} ${height / scale}`;
}

/** In pixels of the image; `unit` is a pixel of the file. */
function layersOf(app, unit) {
  const { scene, state } = app;
  const { width, height } = scene.metadata;
  const whole = { width, height, preserveAspectRatio: "none" };
  const layers = [shape("rect", { width, height, fill: "#000" })];
  if (state.mode !== "bare" || !app.heatmap) layers.push(shape("image", { ...whole, href: scene.picture, style: $("stage").classList.contains("dimmed") ? DIMMED : "" }));
  if (app.heatmap) layers.push(shape("image", { ...whole, href: $("heatmap").toDataURL() }));
  for (const id of ["lines", "links"]) layers.push(...[...$(id).children].map((one) => styledCopy(one, unit)));
  for (const box of $("boxes").querySelectorAll(".box")) layers.push(...savedBox(app, box, unit));
  const world = $("world").getBoundingClientRect();
  const perPixel = width / world.width;
  for (const dot of $("samples").children) layers.push(shape("circle", { cx: dot.getAttribute("cx") * perPixel, cy: dot.getAttribute("cy") * perPixel, r: dot.getAttribute("r") * perPixel, fill: "#00e5ff", "fill-opacity": 0.75, stroke: "#000", "stroke-width": unit }));
  for (const tag of $("boxes").querySelectorAll(".tag")) layers.push(...tagOf(tag, perPixel, unit));
  if (state.point) layers.push(savedPoint(app, unit));
  return layers;
}

/** A box of the page with a dark casing. */
function savedBox(app, box, unit) {
  const { width, height } = app.scene.metadata;
  const [left, top, wide, high] = ["left", "top", "width", "height"].map((side) => parseFloat(box.style[side]) / 100);
  const { borderTopColor, borderTopStyle } = getComputedStyle(box);
  const place = { x: left * width, y: top * height, width: wide * width, height: high * height, fill: "none" };
  return [
    shape("rect", { ...place, stroke: "#000", "stroke-width": 5 * unit, opacity: 0.5 }),
    shape("rect", { ...place, stroke: borderTopColor, "stroke-width": 3 * unit, "stroke-dasharray": borderTopStyle === "dashed" ? `${8 * unit} ${6 * unit}` : "none" }),
  ];
}

function savedPoint({ state, scene }, unit) {
  const { width, height } = scene.metadata;
  return shape("circle", { cx: state.point[0] * width, cy: state.point[1] * height, r: 10 * unit, fill: "none", stroke: "#fff", "stroke-width": 3 * unit });
}

function styledCopy(element, unit) {
  const { stroke, strokeWidth, strokeDasharray, fill, opacity } = getComputedStyle(element);
  const copy = element.cloneNode();
  copy.removeAttribute("class");
  for (const [key, value] of Object.entries({ stroke, "stroke-width": parseFloat(strokeWidth) * unit * 1.4, "stroke-dasharray": strokeDasharray, fill, opacity })) copy.setAttribute(key, value);
  return copy;
}

function tagOf(tag, perPixel, unit) {
  const [left, top] = [parseFloat(tag.style.left) * perPixel, parseFloat(tag.style.top) * perPixel];
  const size = 18 * unit;
  const text = shape("text", { x: left + 6 * unit, y: top + size, "font-size": size, "font-family": "sans-serif", "font-weight": 600, fill: tag.style.color });
  text.textContent = tag.textContent;
  return [shape("rect", { x: left, y: top, width: tag.offsetWidth * 1.45 * unit, height: 26 * unit, fill: getComputedStyle(tag).backgroundColor }), text];
}

function footOf(app, width, height) {
  const line = (x, y, ...more) => textAt(x, height + y, ...more);
  const { title, text } = captionOf(app);
  const foot = [line(8, 30, 20, "#111", `${title}: ${text}`), line(8, 62, 15, "#555", nameOfView(app))];
  const scaled = app.matrix || app.heatmap || app.links;
  if (!scaled) return foot;
  foot.push(shape("image", { x: width - 330, y: height + 44, width: 240, height: 12, preserveAspectRatio: "none", href: $("colorbar").toDataURL() }));
  foot.push(line(width - 338, 55, 15, "#555", valueText(scaled, 0), "end"), line(width - 82, 55, 15, "#555", valueText(scaled, scaled.peak)), line(width - 210, 74, 13, "#555", scaled.unit, "middle"));
  return foot;
}

function textAt(x, y, size, fill, content, anchor = "start") {
  const text = shape("text", { x, y, "font-size": size, "font-family": "sans-serif", fill, "text-anchor": anchor });
  text.textContent = content;
  return text;
}

/** The model, if the page names it, and the image. */
const nameOfView = (app) => [app.modelName(), app.scene.metadata.name].filter(Boolean).join(" · ");

function textOfSvg(app) {
  return new XMLSerializer().serializeToString(svgOf(app));
}

async function pngOf(app) {
  const picture = new Image();
  picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(textOfSvg(app))}`;
  await picture.decode();
  const canvas = element("canvas", { width: picture.naturalWidth, height: picture.naturalHeight });
  canvas.getContext("2d").drawImage(picture, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

async function saveView(app, type) {
  const blob = type === "png" ? await pngOf(app) : new Blob([textOfSvg(app)], { type: "image/svg+xml" });
  const { query, layer, head, source } = app.state;
  const map = app.sources.shown ? source : `layer${layer}_head-${head}`;
  const stem = app.scene.metadata.name.split("/").pop().replace(/\.\w+$/, "").replace(/[^\p{L}\p{N}._-]+/gu, "_") || "view";
  const url = URL.createObjectURL(blob);
  element("a", { href: url, download: `${stem}${query === null ? "" : `_query${query}`}_${map}${isComparing() ? "_compared" : ""}.${type}` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
