"use strict";
// The image with the heatmap, the sampled points, the point, and the token under the cursor.

const EDGE_PIXELS = 6; // from a box's edge that still count as the edge
const DOT_RADIUS = 1 / 110; // of the image's width, of the sampled point of the most weight; areas are in proportion to weights

/** Where an event is, relative to a picture. */
function positionIn(world, { clientX, clientY }) {
  const { left, top, width, height } = world.getBoundingClientRect();
  const within = (value) => Math.min(1, Math.max(0, value));
  return [within((clientX - left) / width), within((clientY - top) / height)];
}

class Stage {
  constructor(app) {
    this.app = app;
    this.root = $("stage");
    this.world = $("world"); // the whole image, of which a part may be in sight
    this.boxes = new Boxes(app, this.world);
    this.zoom = new Zoom(app, this.root);
    this.matrix = new Matrix(app);
    this.cursor = null; // [x, y] of the mouse, relative to the image
    this.linked = null; // the query under the cursor that the selected one attends to
    this.root.addEventListener("pointermove", (event) => this.onMove(event));
    this.root.addEventListener("pointerleave", () => this.onLeave());
    this.root.addEventListener("click", (event) => this.onClick(event));
    new ResizeObserver(() => app.scene && this.draw()).observe(this.root);
  }

  /** Show another image. */
  open() {
    const { metadata, picture } = this.app.scene;
    $("picture").hidden = picture === null;
    if (picture !== null) $("picture").src = picture;
    $("picture").alt = metadata.name;
    this.root.closest(".view").style.setProperty("--aspect", this.app.scene.isText ? 2 : metadata.width / metadata.height);
  }

  draw() {
    this.zoom.draw();
    this.drawHeatmap();
    this.drawSamples();
    this.boxes.draw();
    this.drawPoint();
    this.drawCursor();
  }

  drawHeatmap() {
    const { heatmap, links, matrix, state, colors } = this.app;
    this.matrix.draw();
    const scaled = matrix || heatmap || links;
    const isOverlay = state.mode === "overlay" || heatmap === null;
    this.root.classList.toggle("dimmed", scaled !== null && isOverlay);
    this.root.classList.toggle("bare", state.mode === "bare" && heatmap !== null);
    $("heatmap").hidden = heatmap === null;
    document.querySelector(".legend").classList.toggle("idle", scaled === null);
    if (scaled === null) return;
    if (matrix) this.drawScale(matrix, 0, "opaque"); // its cells are opaque
    else this.drawScale(scaled, heatmap ? 0 : WEAKEST_LINK, heatmap && state.mode === "overlay" ? 60 : "opaque");
    $("unit").textContent = scaled.unit;
    if (heatmap === null) return;
    // As many pixels as are displayed, up to what is drawn without a delay; smooth maps lose nothing with fewer.
    const most = state.smooth && state.mode !== "contour" ? 480 : 900;
    const scale = Math.min(window.devicePixelRatio || 1, 2, most / Math.max(this.world.clientWidth, this.world.clientHeight, 1));
    const width = Math.max(1, Math.round(this.world.clientWidth * scale));
    const height = Math.max(1, Math.round(this.world.clientHeight * scale));
    paintAs(state.mode, $("heatmap"), heatmap.pixels(width, height, state.smooth), width, height, colors);
  }

  /** The color bar, whose ramp begins at a share of the color map; over a gray background, as over the image. */
  drawScale(scaled, first, background) {
    const { peak } = scaled;
    for (const [id, value] of [["zero", 0], ["half", peak / 2], ["peak", peak]]) $(id).textContent = valueText(scaled, value);
    const { colors } = this.app.state;
    if (this.scale === `${first} ${background} ${colors}`) return;
    this.scale = `${first} ${background} ${colors}`;
    paint($("colorbar"), Float32Array.from({ length: 256 }, (_, i) => first + ((1 - first) * i) / 255), 256, 1, this.app.colors, background);
  }

  /** A dot for each sampled point inside the image, the strongest on top. */
  drawSamples() {
    const { samples, state } = this.app;
    const svg = $("samples");
    svg.replaceChildren();
    if (samples === null || !state.samples) return;
    const [wide, high] = [this.world.clientWidth, this.world.clientHeight];
    svg.setAttribute("viewBox", `0 0 ${wide} ${high}`);
    const isShown = ({ x, y, level }) => x >= 0 && x <= 1 && y >= 0 && y <= 1 && (state.level === "all" || level === state.level);
    const shown = samples.points.filter(isShown).sort((a, b) => a.weight - b.weight);
    const peak = shown.length ? shown[shown.length - 1].weight : 0;
    for (const { x, y, weight } of shown) {
      if (weight === 0) continue;
      svg.append(shape("circle", { cx: x * wide, cy: y * high, r: Math.max(1, DOT_RADIUS * wide * Math.sqrt(weight / peak)) }));
    }
  }

  drawPoint() {
    const { point } = this.app.state;
    $("point").hidden = point === null;
    if (point === null) return;
    $("point").style.left = `${100 * point[0]}%`;
    $("point").style.top = `${100 * point[1]}%`;
  }

  /** The weight under the cursor, or at the point if the cursor is elsewhere. */
  drawCursor() {
    const { app } = this;
    if (app.state.other !== null) app.compare.drawCursor();
    if (app.matrix !== null) return this.drawReadout(this.matrix.readout(), app.matrix.peak, "Point at a cell to read its weight.");
    if (app.links !== null) return this.drawReadout(this.linkedReadout(), app.links.peak, "Hover or tap a colored box to read its weight.");
    const at = this.cursor || app.state.point;
    const [number, unit] = $("weight").children;
    const isShown = app.heatmap !== null && at !== null;
    $("cell").hidden = !isShown;
    $("colorbar-marker").hidden = !isShown || app.heatmap.peak === 0;
    if (!isShown) {
      number.textContent = "";
      unit.textContent = app.heatmap === null ? "" : `Hover or tap the image to read ${app.sources.shown ? "values" : "weights"}.`;
      return;
    }
    const value = app.heatmap.at(at);
    const { width, height, spanWidth, spanHeight } = app.heatmap.finest;
    const column = Math.min(width - 1, Math.floor(at[0] * spanWidth + 1e-9));
    const row = Math.min(height - 1, Math.floor(at[1] * spanHeight + 1e-9));
    number.textContent = valueText(app.heatmap, value);
    const beside = app.state.other !== null && app.compare.heatmap ? ` · in B ${valueText(app.compare.heatmap, app.compare.heatmap.at(at))}` : "";
    unit.textContent = `${app.heatmap.reading || `of its attention is ${this.cursor ? "here" : "at the point"}`}${beside}`;
    $("colorbar-marker").style.left = `${Math.min(100, (100 * value) / (app.heatmap.peak || 1))}%`;
    const cell = $("cell").style;
    cell.left = `${(100 * column) / spanWidth}%`;
    cell.top = `${(100 * row) / spanHeight}%`;
    cell.width = `${100 / spanWidth}%`;
    cell.height = `${100 / spanHeight}%`;
  }

  /** The self-attention weight of the box under the cursor. */
  linkedReadout() {
    const { links } = this.app;
    return this.linked === null ? null : { weight: links.weights[this.linked], text: `of query ${links.query}'s attention is on query ${this.linked}` };
  }

  drawReadout(read, peak, hint) {
    const [number, unit] = $("weight").children;
    $("cell").hidden = true;
    $("colorbar-marker").hidden = read === null || peak === 0;
    number.textContent = read === null ? "" : percent(read.weight);
    unit.textContent = read === null ? hint : read.text;
    if (read !== null && peak > 0) $("colorbar-marker").style.left = `${Math.min(100, (100 * read.weight) / peak)}%`;
  }

  positionOf(event) {
    return positionIn(this.world, event);
  }

  /** The detection under the cursor, {detection, isEdge}: by its tag, by an edge, or the smallest box that contains it. */
  hit(event, [x, y]) {
    const tag = event.target.closest && event.target.closest(".tag");
    const visible = this.app.state.boxes ? this.app.selection.visibleBoxes() : [];
    if (tag) return { detection: this.app.selection.shown(Number(tag.dataset.query)), isEdge: true };
    if (this.app.state.view === "point") return null; // where a click anywhere selects a point
    const { metadata } = this.app.scene;
    const [px, py] = [x * metadata.width, y * metadata.height];
    const near = (EDGE_PIXELS * metadata.width) / this.world.clientWidth;
    const area = ({ box: [x0, y0, x1, y1] }) => (x1 - x0) * (y1 - y0);
    const lines = visible.filter(({ line }) => line).map((detection) => [detection, distanceToLine([px, py], detection.line)]);
    const [nearest] = lines.sort((a, b) => a[1] - b[1]);
    if (lines.length) return nearest[1] <= (near * LINE_PIXELS) / EDGE_PIXELS ? { detection: nearest[0], isEdge: true } : null;
    const candidates = visible.filter(({ box: [x0, y0, x1, y1] }) => px >= x0 - near && px <= x1 + near && py >= y0 - near && py <= y1 + near);
    const distance = ({ box: [x0, y0, x1, y1] }) => Math.min(Math.abs(px - x0), Math.abs(px - x1), Math.abs(py - y0), Math.abs(py - y1));
    candidates.sort((a, b) => area(a) - area(b));
    const isLarge = ({ box: [x0, y0, x1, y1] }) => Math.min(x1 - x0, y1 - y0) > 3 * near;
    const edge = candidates.find((detection) => distance(detection) <= near && isLarge(detection));
    if (edge) return { detection: edge, isEdge: true };
    return candidates.length ? { detection: candidates[0], isEdge: false } : null;
  }

  onMove(event) {
    if (event.pointerType !== "mouse" || !this.app.scene) return;
    this.cursor = this.positionOf(event);
    const hit = this.hit(event, this.cursor);
    const { state } = this.app;
    this.root.style.cursor = hit && (hit.isEdge || hit.detection.query !== state.query) ? "pointer" : "crosshair";
    // While a query is selected, only edges and tags of other boxes react: elsewhere the cursor reads weights.
    this.app.hover(hit && (hit.isEdge || state.query === null) ? hit.detection : null);
    this.linked = this.app.links === null ? null : this.boxes.linkedQueryAt(this.cursor);
    this.drawCursor();
  }

  onLeave() {
    this.cursor = null;
    this.linked = null;
    this.app.hover(null);
    this.drawCursor();
  }

  onClick(event) {
    if (this.app.scene) this.selectAt(event, this.positionOf(event));
  }

  /** The mouse is at a point of the image, in this picture or in one beside it. */
  pointAt(position) {
    this.cursor = position;
    this.drawCursor();
  }

  selectAt(event, position) {
    const { app } = this;
    for (const target of TARGETS) {
      const found = target(app, event, position);
      if (found) return found.select();
    }
    const hit = this.hit(event, position);
    if (hit && (hit.isEdge || hit.detection.query !== app.state.query)) app.selectDetection(hit.detection);
    else app.selectPoint(position);
  }
}
