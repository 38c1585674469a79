"use strict";
// The image: heat over it, boxes with tags, the point, the token under the cursor, lines between queries.

const NEAR = 6; // pixels from a box's edge that still count as the edge
const LINES = 10; // so many of the strongest links are drawn

class Stage {
  constructor(app) {
    this.app = app;
    this.root = $("stage");
    this.cursor = null; // where the mouse is, relative to the image
    this.root.addEventListener("pointermove", (event) => this.onMove(event));
    this.root.addEventListener("pointerleave", () => this.onLeave());
    this.root.addEventListener("click", (event) => this.onClick(event));
    new ResizeObserver(() => app.scene && this.draw()).observe(this.root);
  }

  /** A new image. */
  open() {
    const { facts, picture } = this.app.scene;
    $("picture").src = picture;
    $("picture").alt = facts.name;
    this.root.parentElement.style.setProperty("--aspect", facts.width / facts.height);
  }

  draw() {
    this.drawHeat();
    this.drawBoxes();
    this.drawLinks();
    this.drawPoint();
    this.drawCursor();
  }

  drawHeat() {
    const { heat, links, state, page } = this.app;
    const scaled = heat || links;
    this.root.classList.toggle("heated", scaled !== null);
    $("heat").hidden = heat === null;
    document.querySelector(".legend").classList.toggle("idle", scaled === null);
    if (scaled === null) return;
    $("peak").textContent = percent(scaled.peak);
    $("half").textContent = percent(scaled.peak / 2);
    const whose = this.app.query() === null ? "the point's" : "the query's";
    $("unit").textContent = heat ? `share of ${whose} attention, each token` : "share of the query's attention, each other query";
    if (heat === null) return;
    // As many pixels as are shown, within what is drawn in a moment.
    const sharpness = Math.min(window.devicePixelRatio || 1, 2, 900 / Math.max(this.root.clientWidth, this.root.clientHeight, 1));
    const width = Math.max(1, Math.round(this.root.clientWidth * sharpness));
    const height = Math.max(1, Math.round(this.root.clientHeight * sharpness));
    paint($("heat"), heat.pixels(width, height, state.smooth), width, height, page.colors);
  }

  drawBoxes() {
    const { app } = this;
    const { facts } = app.scene;
    const shown = app.query();
    const children = [];
    if (app.state.truth && facts.truth)
      facts.truth.boxes.forEach((box, number) => {
        const { color } = app.page.classes.find(({ name }) => name === facts.truth.names[number]);
        children.push(this.box(box, { className: "box true", color: css(color) }));
      });
    const visible = app.state.boxes ? app.visible() : [];
    const extra = shown === null ? [] : app.detections().filter((one) => one.query === shown && !visible.includes(one)).slice(0, 1);
    const drawn = [...visible, ...extra];
    // The best on top, and the chosen one above all.
    const boxes = [...drawn].reverse().map((one) => {
      const box = this.box(one.box, { className: "box", color: css(one.rgb) });
      box.classList.toggle("chosen", one.query === shown);
      box.classList.toggle("faint", (shown !== null && one.query !== shown) || (shown === null && app.heat !== null));
      return box;
    });
    $("boxes").replaceChildren(...children, ...this.linkedBoxes(), ...boxes);
    this.drawTags(drawn, shown);
  }

  box([x0, y0, x1, y1], properties) {
    const { width, height } = this.app.scene.facts;
    const made = element("div", properties);
    made.style.left = `${(100 * x0) / width}%`;
    made.style.top = `${(100 * y0) / height}%`;
    made.style.width = `${(100 * (x1 - x0)) / width}%`;
    made.style.height = `${(100 * (y1 - y0)) / height}%`;
    return made;
  }

  /** A tag for each box where there is room, the chosen one's first; none lies on another. */
  drawTags(drawn, shown) {
    const { width, height } = this.app.scene.facts;
    const [wide, high] = [this.root.clientWidth, this.root.clientHeight];
    const first = drawn.filter((one) => one.query === shown).slice(0, 1);
    const others = shown === null && this.app.heat === null ? drawn : [];
    const taken = [];
    for (const one of [...first, ...others]) {
      const tag = element("div", { className: "tag", textContent: `${one.name} ${one.score.toFixed(2)}`, color: css(one.rgb) });
      tag.style.color = inkOn(one.rgb);
      tag.dataset.query = one.query;
      $("boxes").append(tag);
      const size = [tag.offsetWidth, tag.offsetHeight];
      const [left, top, right, bottom] = one.box.map((side, index) => (side / (index % 2 ? height : width)) * (index % 2 ? high : wide));
      const places = [];
      for (const y of [top - size[1], top, bottom, bottom - size[1]]) for (const x of [left, right - size[0]]) places.push([x, y]);
      const inside = places
        .map(([x, y]) => [Math.max(0, Math.min(x, wide - size[0])), y])
        .filter(([, y]) => y >= 0 && y + size[1] <= high);
      const free = inside.find(([x, y]) => !taken.some((other) => x < other[2] && other[0] < x + size[0] && y < other[3] && other[1] < y + size[1]));
      const place = free || (first.includes(one) ? inside[0] || [0, 0] : null);
      if (place === null) {
        tag.remove(); // its name is in the list
        continue;
      }
      tag.style.left = `${place[0]}px`;
      tag.style.top = `${place[1]}px`;
      taken.push([place[0], place[1], place[0] + size[0], place[1] + size[1]]);
    }
  }

  /** The boxes of the queries that the chosen one attends to, filled with the colour of their weights. */
  linkedBoxes() {
    const { links } = this.app;
    if (links === null) return [];
    return links.ends.slice(0, LINES).reverse().map((query) => {
      const box = this.box(this.app.boxOf(query), { className: "box linked", color: this.app.colorOf(links.weights[query] / links.peak) });
      box.dataset.query = query;
      return box;
    });
  }

  /** Lines to them. */
  drawLinks() {
    const { app } = this;
    const svg = $("links");
    svg.replaceChildren();
    const start = app.links && app.boxOf(app.links.query);
    if (!start) return;
    const { facts } = app.scene;
    svg.setAttribute("viewBox", `0 0 ${facts.width} ${facts.height}`);
    const middle = ([x0, y0, x1, y1]) => [(x0 + x1) / 2, (y0 + y1) / 2];
    const add = (tag, attributes) => {
      const made = document.createElementNS(svg.namespaceURI, tag);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
      svg.append(made);
    };
    const unit = facts.width / Math.max(1, this.root.clientWidth); // a pixel of the screen
    for (const other of app.links.ends.slice(0, LINES).reverse()) {
      const [[x1, y1], [x2, y2]] = [middle(start), middle(app.boxOf(other))];
      const part = app.links.weights[other] / app.links.peak;
      const color = app.colorOf(0.25 + 0.75 * part); // never as dark as the image
      add("line", { x1, y1, x2, y2, stroke: "#000", "stroke-width": 3 + 3 * part, opacity: 0.6 });
      add("line", { x1, y1, x2, y2, stroke: color, "stroke-width": 1 + 3 * part });
      add("circle", { cx: x2, cy: y2, r: unit * (3 + 2 * part), fill: color, stroke: "#000" });
    }
  }

  drawPoint() {
    const { point } = this.app.state;
    $("point").hidden = point === null;
    if (point === null) return;
    $("point").style.left = `${100 * point[0]}%`;
    $("point").style.top = `${100 * point[1]}%`;
  }

  /** The weight under the cursor (or at the point, where the cursor is elsewhere) as a number. */
  drawCursor() {
    const { app } = this;
    if (app.links !== null) return this.drawLinkedWeight();
    const at = this.cursor || app.state.point;
    const [number, unit] = $("weight").children;
    const isShown = app.heat !== null && at !== null;
    $("cell").hidden = !isShown;
    $("needle").hidden = !isShown || app.heat.peak === 0;
    if (!isShown) {
      number.textContent = "";
      unit.textContent = app.heat === null ? "" : "Touch or point at the image to read weights.";
      return;
    }
    const value = app.heat.at(at);
    const { width, height, spanWidth, spanHeight } = app.heat.finest;
    const column = Math.min(width - 1, Math.floor(at[0] * spanWidth + 1e-9));
    const row = Math.min(height - 1, Math.floor(at[1] * spanHeight + 1e-9));
    number.textContent = percent(value);
    unit.textContent = `of its attention is ${this.cursor ? "here" : "at the point"}`;
    $("needle").style.left = `${Math.min(100, (100 * value) / (app.heat.peak || 1))}%`;
    const cell = $("cell").style;
    cell.left = `${(100 * column) / spanWidth}%`;
    cell.top = `${(100 * row) / spanHeight}%`;
    cell.width = `${100 / spanWidth}%`;
    cell.height = `${100 / spanHeight}%`;
  }

  /** Between queries: the weight of the box under the cursor. */
  drawLinkedWeight() {
    const { links } = this.app;
    const [number, unit] = $("weight").children;
    const query = this.linked === undefined ? null : this.linked;
    $("cell").hidden = true;
    $("needle").hidden = query === null;
    number.textContent = query === null ? "" : percent(links.weights[query]);
    unit.textContent = query === null ? "Point at a coloured box to read its weight." : `of query ${links.query}'s attention goes to query ${query}`;
    if (query !== null) $("needle").style.left = `${Math.min(100, (100 * links.weights[query]) / links.peak)}%`;
  }

  /** The smallest box under the cursor of a query that the chosen one attends to. */
  linkedAt([x, y]) {
    const { app } = this;
    const { width, height } = app.scene.facts;
    const area = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);
    const around = app.links.ends.slice(0, LINES).filter((query) => {
      const [x0, y0, x1, y1] = app.boxOf(query);
      return x * width >= x0 && x * width <= x1 && y * height >= y0 && y * height <= y1;
    });
    return around.sort((a, b) => area(app.boxOf(a)) - area(app.boxOf(b)))[0];
  }

  placeOf(event) {
    const { left, top, width, height } = this.root.getBoundingClientRect();
    const within = (value) => Math.min(1, Math.max(0, value));
    return [within((event.clientX - left) / width), within((event.clientY - top) / height)];
  }

  /** The detection under the cursor: {one, edge}, by its tag, by an edge, or as the smallest box around. */
  hit(event) {
    const tag = event.target.closest && event.target.closest(".tag");
    const visible = this.app.state.boxes ? this.app.visible() : [];
    if (tag) return { one: this.app.detections().find(({ query }) => query === Number(tag.dataset.query)), edge: true };
    if (this.app.state.view === "point") return null; // there, all of the image is for points
    const { facts } = this.app.scene;
    const [x, y] = this.placeOf(event);
    const [px, py] = [x * facts.width, y * facts.height];
    const near = (NEAR * facts.width) / this.root.clientWidth;
    const area = ({ box: [x0, y0, x1, y1] }) => (x1 - x0) * (y1 - y0);
    const around = visible.filter(({ box: [x0, y0, x1, y1] }) => px >= x0 - near && px <= x1 + near && py >= y0 - near && py <= y1 + near);
    const distance = ({ box: [x0, y0, x1, y1] }) => Math.min(Math.abs(px - x0), Math.abs(px - x1), Math.abs(py - y0), Math.abs(py - y1));
    around.sort((a, b) => area(a) - area(b));
    const edge = around.find((one) => distance(one) <= near && Math.min(one.box[2] - one.box[0], one.box[3] - one.box[1]) > 3 * near);
    if (edge) return { one: edge, edge: true };
    return around.length ? { one: around[0], edge: false } : null;
  }

  onMove(event) {
    if (event.pointerType !== "mouse" || !this.app.scene) return;
    this.cursor = this.placeOf(event);
    const hit = this.hit(event);
    const { state } = this.app;
    this.root.style.cursor = hit && (hit.edge || hit.one.query !== state.query) ? "pointer" : "crosshair";
    // Once a query is held, only edges and tags of other boxes show theirs: the rest is for reading weights.
    this.app.hover(hit && (hit.edge || state.query === null) ? hit.one.query : null);
    this.linked = this.app.links === null ? undefined : this.linkedAt(this.cursor);
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
    if (hit && (hit.edge || hit.one.query !== app.state.query)) app.chooseQuery(hit.one.query);
    else app.choosePoint(this.placeOf(event));
  }
}
