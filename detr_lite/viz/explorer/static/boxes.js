"use strict";
// Over the image: boxes with tags, ground truth, and links between queries.

const MAX_LINKS = 10; // the strongest links that are drawn
const WEAKEST_LINK = 0.55; // where the color map's ramp begins for links: bright on any picture

class Boxes {
  constructor(app, root) {
    this.app = app;
    this.root = root; // the stage
    this.sizes = new Map(); // of tags, by their texts
    addEventListener("resize", () => this.sizes.clear()); // narrow pages may have other letters
  }

  draw() {
    const { app } = this;
    const { selection } = app;
    const shown = selection.query();
    const visible = app.state.boxes ? selection.visibleBoxes() : [];
    const extra = shown === null || visible.some(({ query }) => query === shown) ? null : selection.shown(shown);
    const drawn = extra && extra.box !== null ? [...visible, extra] : visible;
    const order = [...drawn].reverse(); // higher scores on top of lower ones, by its style the selected one on top of all
    const boxes = order.filter(({ line }) => !line).map((detection) => {
      const box = this.boxOfDetection(detection);
      box.classList.toggle("selected", detection.query === shown);
      box.classList.toggle("guess", selection.isBelow(detection));
      box.classList.toggle("faint", this.isFaint(detection));
      return box;
    });
    this.replace([...this.trueBoxes(), ...OVERLAYS.flatMap((overlay) => overlay(app)), ...this.linkedBoxes(), ...boxes]);
    drawLines($("lines"), app.scene.metadata, [...this.trueLines(), ...[...order].sort((a, b) => (a.query === shown) - (b.query === shown)).filter(({ line }) => line).map((detection) => this.styled(detection))]);
    this.drawTags(drawn, shown);
    this.drawLinks();
  }

  /** Hundreds of boxes stay where they are while only their styles change. */
  replace(children) {
    for (const tag of $("boxes").querySelectorAll(".tag")) tag.remove();
    const root = $("boxes");
    const kept = new Set(children);
    for (const child of [...root.children]) if (!kept.has(child)) child.remove();
    let next = root.firstChild;
    for (const child of children) {
      if (child === next) next = next.nextSibling;
      else root.insertBefore(child, next);
    }
  }

  /** Made once for each detection of an image. */
  boxOfDetection(detection) {
    if (this.scene !== this.app.scene) this.made = new Map();
    this.scene = this.app.scene;
    if (!this.made.has(detection)) this.made.set(detection, this.box(detection.box, { className: "box", color: css(detection.rgb) }));
    return this.made.get(detection);
  }

  isFaint({ query }) {
    const shown = this.app.query();
    return shown === null ? this.app.heatmap !== null : query !== shown;
  }

  styled(detection) {
    const state = detection.query === this.app.query() ? "selected" : this.isFaint(detection) ? "faint" : "";
    return { line: detection.line, color: css(detection.rgb), className: `${state} ${this.app.selection.isBelow(detection) ? "guess" : ""}` };
  }

  colorOfTruth(number) {
    const { scene, page } = this.app;
    return css(page.classes.find(({ name }) => name === scene.metadata.truth.names[number]).color);
  }

  trueLines() {
    const { state, scene } = this.app;
    const lines = (state.truth && scene.metadata.truth?.lines) || [];
    return lines.map((line, number) => ({ line, color: this.colorOfTruth(number), className: "true" }));
  }

  trueBoxes() {
    const { state, scene } = this.app;
    if (!state.truth || !scene.metadata.truth || scene.metadata.truth.lines) return [];
    const objects = scene.metadata.truth.boxes.map((box, number) => this.box(box, { className: "box true", color: this.colorOfTruth(number) }));
    return state.view === "why" ? objects : [...this.crowdBoxes(), ...objects]; // that view has them anyway
  }

  /** Regions that are annotated as crowds, which are no objects. */
  crowdBoxes() {
    const { boxes, names } = this.app.scene.metadata.crowds || { boxes: [], names: [] };
    return boxes.map((box, number) => {
      const { color } = this.app.page.classes.find(({ name }) => name === names[number]);
      const region = this.box(box, { className: "box true crowd", color: css(color) });
      region.append(element("span", { className: "name", textContent: `crowd: ${names[number]}` }));
      return region;
    });
  }

  /** A rectangle over the image; the corners are in its pixels. */
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
    const first = drawn.filter(({ query }) => query === shown);
    const others = shown === null && this.app.heatmap === null ? drawn : [];
    const tags = [...first, ...others].map((detection) => {
      const tag = element("div", { className: "tag", textContent: titleOf(detection), color: css(detection.rgb) });
      tag.style.color = textColorOn(detection.rgb);
      tag.dataset.query = detection.query;
      return { detection, tag };
    });
    $("boxes").append(...tags.map(({ tag }) => tag));
    const unknown = tags.filter(({ tag }) => !this.sizes.has(tag.textContent));
    for (const { tag } of unknown) if (tag.offsetWidth) this.sizes.set(tag.textContent, [tag.offsetWidth, tag.offsetHeight]); // read together: one layout of the page
    const sizes = tags.map(({ tag }) => this.sizes.get(tag.textContent) ?? [0, 0]);
    const occupied = [];
    tags.forEach(({ detection, tag }, number) => {
      const size = sizes[number];
      const [tagX, tagY] = detection.line ? middleOf(detection.line) : [];
      const [left, top, right, bottom] = (detection.line ? [tagX, tagY, tagX, tagY] : detection.box).map((side, index) => (side / (index % 2 ? height : width)) * (index % 2 ? high : wide));
      const positions = [];
      for (const y of [top - size[1], top, bottom, bottom - size[1]]) for (const x of [left, right - size[0]]) positions.push([x, y]);
      const inside = positions
        .map(([x, y]) => [Math.max(0, Math.min(x, wide - size[0])), y])
        .filter(([, y]) => y >= 0 && y + size[1] <= high);
      const free = inside.find(([x, y]) => !occupied.some((other) => x < other[2] && other[0] < x + size[0] && y < other[3] && other[1] < y + size[1]));
      const position = free || (first.includes(detection) ? inside[0] || [0, 0] : null);
      if (position === null) {
        tag.remove(); // the list has it, too
        return;
      }
      tag.style.left = `${position[0]}px`;
      tag.style.top = `${position[1]}px`;
      occupied.push([position[0], position[1], position[0] + size[0], position[1] + size[1]]);
    });
  }

  /** The queries that the selected one attends to most, the weakest first. */
  linkedQueries() {
    const { links, selection } = this.app;
    return links === null ? [] : links.ends.filter((query) => selection.boxOf(query)).slice(0, MAX_LINKS).reverse();
  }

  linkColor(query) {
    const { links } = this.app;
    return this.app.colorOf(WEAKEST_LINK + (1 - WEAKEST_LINK) * (links.weights[query] / links.peak));
  }

  /** The boxes of these queries, filled with the color of their weights. */
  linkedBoxes() {
    return this.linkedQueries().filter((query) => !this.app.selection.own(query).line).map((query) => {
      const box = this.box(this.app.selection.boxOf(query), { className: "box linked", color: this.linkColor(query) });
      box.dataset.query = query;
      return box;
    });
  }

  /** Lines to these boxes. */
  drawLinks() {
    const { app } = this;
    const svg = $("links");
    svg.replaceChildren();
    const start = app.links && app.matrix === null && app.selection.own(app.links.query);
    if (!start) return;
    const { metadata } = app.scene;
    svg.setAttribute("viewBox", `0 0 ${metadata.width} ${metadata.height}`);
    const center = ({ line, box: [x0, y0, x1, y1] }) => (line ? middleOf(line) : [(x0 + x1) / 2, (y0 + y1) / 2]);
    const unit = metadata.width / Math.max(1, this.root.clientWidth); // a pixel on the screen
    for (const other of this.linkedQueries()) {
      const [[x1, y1], [x2, y2]] = [center(start), center(app.selection.own(other))];
      const share = app.links.weights[other] / app.links.peak;
      const color = this.linkColor(other);
      svg.append(shape("line", { x1, y1, x2, y2, stroke: "#000", "stroke-width": 3.5 + 3 * share, opacity: 0.6 }));
      svg.append(shape("line", { x1, y1, x2, y2, stroke: color, "stroke-width": 1.5 + 3 * share }));
      svg.append(shape("circle", { cx: x2, cy: y2, r: unit * (3.5 + 2 * share), fill: color, stroke: "#000" }));
    }
  }

  /** The smallest box at a point of a query that the selected one attends to. */
  linkedQueryAt([x, y]) {
    const { width, height } = this.app.scene.metadata;
    const boxOf = (query) => this.app.selection.boxOf(query);
    const area = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);
    const candidates = this.linkedQueries().filter((query) => {
      const [x0, y0, x1, y1] = boxOf(query);
      return x * width >= x0 && x * width <= x1 && y * height >= y0 && y * height <= y1;
    });
    return candidates.sort((a, b) => area(boxOf(a)) - area(boxOf(b)))[0] ?? null;
  }
}
