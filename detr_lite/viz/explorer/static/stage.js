"use strict";
// The image with the heatmap, boxes with tags, the point, the token under the cursor, and links between queries.

const EDGE_PIXELS = 6; // from a box's edge that still count as the edge
const MAX_LINKS = 10; // the strongest links that are drawn
const DOT_RADIUS = 1 / 110; // of the image's width, of the sampled point of the most weight; areas are in proportion to weights

class Stage {
  constructor(app) {
    this.app = app;
    this.root = $("stage");
    this.cursor = null; // [x, y] of the mouse, relative to the image
    this.root.addEventListener("pointermove", (event) => this.onMove(event));
    this.root.addEventListener("pointerleave", () => this.onLeave());
    this.root.addEventListener("click", (event) => this.onClick(event));
    new ResizeObserver(() => app.scene && this.draw()).observe(this.root);
  }

  /** Show another image. */
  open() {
    const { metadata, picture } = this.app.scene;
    $("picture").src = picture;
    $("picture").alt = metadata.name;
    this.root.parentElement.style.setProperty("--aspect", metadata.width / metadata.height);
  }

  draw() {
    this.drawHeatmap();
    this.drawSamples();
    this.drawBoxes();
    this.drawLinks();
    this.drawPoint();
    this.drawCursor();
  }

  drawHeatmap() {
    const { heatmap, links, state, page } = this.app;
    const scaled = heatmap || links;
    this.root.classList.toggle("dimmed", scaled !== null);
    $("heatmap").hidden = heatmap === null;
    document.querySelector(".legend").classList.toggle("idle", scaled === null);
    if (scaled === null) return;
    $("peak").textContent = percent(scaled.peak);
    $("half").textContent = percent(scaled.peak / 2);
    const whose = this.app.query() === null ? "the point's" : "the query's";
    $("unit").textContent = heatmap ? `share of ${whose} attention, per token` : "share of the query's self-attention";
    if (heatmap === null) return;
    // As many pixels as are displayed, up to what is drawn without a delay.
    const scale = Math.min(window.devicePixelRatio || 1, 2, 900 / Math.max(this.root.clientWidth, this.root.clientHeight, 1));
    const width = Math.max(1, Math.round(this.root.clientWidth * scale));
    const height = Math.max(1, Math.round(this.root.clientHeight * scale));
    paint($("heatmap"), heatmap.pixels(width, height, state.smooth), width, height, page.colors);
  }

  /** A dot for each sampled point inside the image, the strongest on top. */
  drawSamples() {
    const { samples, state } = this.app;
    const svg = $("samples");
    svg.replaceChildren();
    if (samples === null || !state.samples) return;
    const [wide, high] = [this.root.clientWidth, this.root.clientHeight];
    svg.setAttribute("viewBox", `0 0 ${wide} ${high}`);
    const isShown = ({ x, y, level }) => x >= 0 && x <= 1 && y >= 0 && y <= 1 && (state.level === "all" || level === state.level);
    const shown = samples.points.filter(isShown).sort((a, b) => a.weight - b.weight);
    const peak = shown.length ? shown[shown.length - 1].weight : 0;
    for (const { x, y, weight } of shown) {
      if (weight === 0) continue;
      const dot = document.createElementNS(svg.namespaceURI, "circle");
      dot.setAttribute("cx", x * wide);
      dot.setAttribute("cy", y * high);
      dot.setAttribute("r", Math.max(1, DOT_RADIUS * wide * Math.sqrt(weight / peak)));
      svg.append(dot);
    }
  }

  drawBoxes() {
    const { app } = this;
    const { metadata } = app.scene;
    const shown = app.query();
    const children = [];
    if (app.state.truth && metadata.truth)
      metadata.truth.boxes.forEach((box, number) => {
        const { color } = app.page.classes.find(({ name }) => name === metadata.truth.names[number]);
        children.push(this.box(box, { className: "box true", color: css(color) }));
      });
    const visible = app.state.boxes ? app.visible() : [];
    const extra = shown === null ? [] : app.detections().filter((detection) => detection.query === shown && !visible.includes(detection)).slice(0, 1);
    const drawn = [...visible, ...extra];
    // Higher scores on top of lower ones.
    const boxes = [...drawn].reverse().map((detection) => {
      const box = this.box(detection.box, { className: "box", color: css(detection.rgb) });
      box.classList.toggle("selected", detection.query === shown);
      box.classList.toggle("faint", (shown !== null && detection.query !== shown) || (shown === null && app.heatmap !== null));
      return box;
    });
    $("boxes").replaceChildren(...children, ...this.linkedBoxes(), ...boxes);
    this.drawTags(drawn, shown);
  }

  box([x0, y0, x1, y1], properties) {
    const { width, height } = this.app.scene.metadata;
    const created = element("div", properties);
    created.style.left = `${(100 * x0) / width}%`;
    created.style.top = `${(100 * y0) / height}%`;
    created.style.width = `${(100 * (x1 - x0)) / width}%`;
    created.style.height = `${(100 * (y1 - y0)) / height}%`;
    return created;
  }

  /** A tag for each box where there is space, the selected one's first; tags do not overlap. */
  drawTags(drawn, shown) {
    const { width, height } = this.app.scene.metadata;
    const [wide, high] = [this.root.clientWidth, this.root.clientHeight];
    const first = drawn.filter(({ query }) => query === shown).slice(0, 1);
    const others = shown === null && this.app.heatmap === null ? drawn : [];
    const occupied = [];
    for (const detection of [...first, ...others]) {
      const tag = element("div", { className: "tag", textContent: `${detection.name} ${detection.score.toFixed(2)}`, color: css(detection.rgb) });
      tag.style.color = textColorOn(detection.rgb);
      tag.dataset.query = detection.query;
      $("boxes").append(tag);
      const size = [tag.offsetWidth, tag.offsetHeight];
      const [left, top, right, bottom] = detection.box.map((side, index) => (side / (index % 2 ? height : width)) * (index % 2 ? high : wide));
      const positions = [];
      for (const y of [top - size[1], top, bottom, bottom - size[1]]) for (const x of [left, right - size[0]]) positions.push([x, y]);
      const inside = positions
        .map(([x, y]) => [Math.max(0, Math.min(x, wide - size[0])), y])
        .filter(([, y]) => y >= 0 && y + size[1] <= high);
      const free = inside.find(([x, y]) => !occupied.some((other) => x < other[2] && other[0] < x + size[0] && y < other[3] && other[1] < y + size[1]));
      const position = free || (first.includes(detection) ? inside[0] || [0, 0] : null);
      if (position === null) {
        tag.remove(); // the list has it, too
        continue;
      }
      tag.style.left = `${position[0]}px`;
      tag.style.top = `${position[1]}px`;
      occupied.push([position[0], position[1], position[0] + size[0], position[1] + size[1]]);
    }
  }

  /** The boxes of the queries that the selected one attends to, filled with the color of their weights. */
  linkedBoxes() {
    const { links } = this.app;
    if (links === null) return [];
    return links.ends.slice(0, MAX_LINKS).reverse().map((query) => {
      const box = this.box(this.app.boxOf(query), { className: "box linked", color: this.app.colorOf(links.weights[query] / links.peak) });
      box.dataset.query = query;
      return box;
    });
  }

  /** Lines to the boxes of these queries. */
  drawLinks() {
    const { app } = this;
    const svg = $("links");
    svg.replaceChildren();
    const start = app.links && app.boxOf(app.links.query);
    if (!start) return;
    const { metadata } = app.scene;
    svg.setAttribute("viewBox", `0 0 ${metadata.width} ${metadata.height}`);
    const center = ([x0, y0, x1, y1]) => [(x0 + x1) / 2, (y0 + y1) / 2];
    const add = (tag, attributes) => {
      const created = document.createElementNS(svg.namespaceURI, tag);
      for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
      svg.append(created);
    };
    const unit = metadata.width / Math.max(1, this.root.clientWidth); // a pixel on the screen
    for (const other of app.links.ends.slice(0, MAX_LINKS).reverse()) {
      const [[x1, y1], [x2, y2]] = [center(start), center(app.boxOf(other))];
      const share = app.links.weights[other] / app.links.peak;
      const color = app.colorOf(0.25 + 0.75 * share); // brighter than the dimmed image
      add("line", { x1, y1, x2, y2, stroke: "#000", "stroke-width": 3 + 3 * share, opacity: 0.6 });
      add("line", { x1, y1, x2, y2, stroke: color, "stroke-width": 1 + 3 * share });
      add("circle", { cx: x2, cy: y2, r: unit * (3 + 2 * share), fill: color, stroke: "#000" });
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
    if (app.links !== null) return this.drawLinkedWeight();
    const at = this.cursor || app.state.point;
    const [number, unit] = $("weight").children;
    const isShown = app.heatmap !== null && at !== null;
    $("cell").hidden = !isShown;
    $("colorbar-marker").hidden = !isShown || app.heatmap.peak === 0;
    if (!isShown) {
      number.textContent = "";
      unit.textContent = app.heatmap === null ? "" : "Hover or tap the image to read weights.";
      return;
    }
    const value = app.heatmap.at(at);
    const { width, height, spanWidth, spanHeight } = app.heatmap.finest;
    const column = Math.min(width - 1, Math.floor(at[0] * spanWidth + 1e-9));
    const row = Math.min(height - 1, Math.floor(at[1] * spanHeight + 1e-9));
    number.textContent = percent(value);
    unit.textContent = `of its attention is ${this.cursor ? "here" : "at the point"}`;
    $("colorbar-marker").style.left = `${Math.min(100, (100 * value) / (app.heatmap.peak || 1))}%`;
    const cell = $("cell").style;
    cell.left = `${(100 * column) / spanWidth}%`;
    cell.top = `${(100 * row) / spanHeight}%`;
    cell.width = `${100 / spanWidth}%`;
    cell.height = `${100 / spanHeight}%`;
  }

  /** The self-attention weight of the box under the cursor. */
  drawLinkedWeight() {
    const { links } = this.app;
    const [number, unit] = $("weight").children;
    const query = this.linked ?? null;
    $("cell").hidden = true;
    $("colorbar-marker").hidden = query === null;
    number.textContent = query === null ? "" : percent(links.weights[query]);
    unit.textContent = query === null ? "Hover a colored box to read its weight." : `of query ${links.query}'s attention is on query ${query}`;
    if (query !== null) $("colorbar-marker").style.left = `${Math.min(100, (100 * links.weights[query]) / links.peak)}%`;
  }

  /** The smallest box under the cursor of a query that the selected one attends to. */
  linkedQueryAt([x, y]) {
    const { app } = this;
    const { width, height } = app.scene.metadata;
    const area = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);
    const candidates = app.links.ends.slice(0, MAX_LINKS).filter((query) => {
      const [x0, y0, x1, y1] = app.boxOf(query);
      return x * width >= x0 && x * width <= x1 && y * height >= y0 && y * height <= y1;
    });
    return candidates.sort((a, b) => area(app.boxOf(a)) - area(app.boxOf(b)))[0];
  }

  positionOf(event) {
    const { left, top, width, height } = this.root.getBoundingClientRect();
    const within = (value) => Math.min(1, Math.max(0, value));
    return [within((event.clientX - left) / width), within((event.clientY - top) / height)];
  }

  /** The detection under the cursor, {detection, isEdge}: by its tag, by an edge, or the smallest box that contains it. */
  hit(event) {
    const tag = event.target.closest && event.target.closest(".tag");
    const visible = this.app.state.boxes ? this.app.visible() : [];
    if (tag) return { detection: this.app.detections().find(({ query }) => query === Number(tag.dataset.query)), isEdge: true };
    if (this.app.state.view === "point") return null; // where a click anywhere selects a point
    const { metadata } = this.app.scene;
    const [x, y] = this.positionOf(event);
    const [px, py] = [x * metadata.width, y * metadata.height];
    const near = (EDGE_PIXELS * metadata.width) / this.root.clientWidth;
    const area = ({ box: [x0, y0, x1, y1] }) => (x1 - x0) * (y1 - y0);
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
    const hit = this.hit(event);
    const { state } = this.app;
    this.root.style.cursor = hit && (hit.isEdge || hit.detection.query !== state.query) ? "pointer" : "crosshair";
    // While a query is selected, only edges and tags of other boxes react: elsewhere the cursor reads weights.
    this.app.hover(hit && (hit.isEdge || state.query === null) ? hit.detection.query : null);
    this.linked = this.app.links === null ? undefined : this.linkedQueryAt(this.cursor);
    this.drawCursor();
  }

  onLeave() {
    this.cursor = null;
    this.linked = undefined;
    this.app.hover(null);
    this.drawCursor();
  }

  onClick(event) {
    const { app } = this;
    if (!app.scene) return;
    const hit = this.hit(event);
    if (hit && (hit.isEdge || hit.detection.query !== app.state.query)) app.selectQuery(hit.detection.query);
    else app.selectPoint(this.positionOf(event));
  }
}
