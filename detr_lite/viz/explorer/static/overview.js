"use strict";
// A thumbnail of the heatmap for every layer and head: rows are layers, columns the mean and the heads.

const THUMBNAIL_WIDTH = 56; // pixels

class Overview {
  constructor(app) {
    this.app = app;
    this.cells = [];
    this.content = null; // what the thumbnails show
  }

  open() {
    const { metadata } = this.app.scene;
    const heads = metadata.heads > 1 ? ["mean", ...range(metadata.heads)] : [0];
    const overview = $("overview");
    overview.style.setProperty("--columns", heads.length);
    overview.style.setProperty("--aspect", metadata.width / metadata.height);
    overview.style.setProperty("--thumbnail", metadata.thumbnail ? `url("${metadata.thumbnail}")` : "none");
    overview.classList.toggle("matrices", this.app.scene.isText);
    const children = [element("span", { className: "corner" }), ...heads.map((head) => element("span", { className: "column", textContent: head }))];
    this.cells = [];
    for (let layer = 0; layer < metadata.layers; layer++) {
      children.push(element("span", { className: "row", textContent: layer }));
      for (const head of heads) {
        const canvas = element("canvas");
        const button = element("button", { type: "button", "aria-label": `Layer ${layer}, ${head === "mean" ? "mean of heads" : `head ${head}`}` }, canvas);
        button.addEventListener("click", () => this.app.change({ layer, head, source: ATTENTION }));
        this.cells.push({ layer, head, button, canvas });
        children.push(button);
      }
    }
    overview.replaceChildren(...children);
    overview.hidden = this.cells.length < 2;
    this.content = null;
  }

  draw() {
    const { state, scene } = this.app;
    const source = this.app.sources.shown;
    for (const { layer, head, button } of this.cells) {
      const isSelected = layer === state.layer && (head === state.head || scene.metadata.heads === 1);
      button.setAttribute("aria-pressed", String(isSelected && source === null)); // the thumbnails are of attention
      button.tabIndex = isSelected ? 0 : -1;
      if (isSelected && $("overview").contains(document.activeElement) && document.activeElement !== button) button.focus();
    }
    const query = this.app.query();
    const content = JSON.stringify([state.image, state.model, scene.isText || query, state.level, state.colors]);
    if (content === this.content) return;
    this.content = content;
    clearTimeout(this.timer);
    const shown = scene.isText ? 0 : query !== null && scene.has(query) ? query : null;
    this.timer = setTimeout(() => this.paint(0, shown)); // after the image itself
  }

  /** A few at a time, so that hovering through a list stays fluid. */
  paint(first, query) {
    const end = performance.now() + 6;
    let next = first;
    while (next < this.cells.length && performance.now() < end) this.paintCell(this.cells[next++], query);
    if (next < this.cells.length) this.timer = setTimeout(() => this.paint(next, query));
  }

  /** A pixel for each weight. */
  paintMatrix(canvas, { rows, columns, valuesOf, peak }) {
    const values = rows.flatMap((_, row) => [...valuesOf(row)].map((value) => (peak > 0 ? value / peak : 0)));
    paint(canvas, values, columns.length, rows.length, this.app.colors, "opaque");
  }

  paintCell({ layer, head, canvas }, query) {
    const { scene, state, colors } = this.app;
    canvas.width = query === null ? 0 : 1; // clears it
    if (query === null) return;
    if (scene.isText) return this.paintMatrix(canvas, crossMatrix(this.app, layer, head));
    const heatmap = new Heatmap(scene.crossAttention(layer, head, query), scene.metadata.levels, state.level);
    const height = Math.max(1, Math.round((THUMBNAIL_WIDTH * scene.metadata.height) / scene.metadata.width));
    paint(canvas, heatmap.pixels(THUMBNAIL_WIDTH, height, true), THUMBNAIL_WIDTH, height, colors);
  }
}
