"use strict";
// The levels of a model apart: a map of each one's tokens, its share of the attention, and of deformable models its points.

addPanel({
  view: "levels",
  title: "Levels",
  key: "u",
  isAboutAttention: true,
  isShown: (app) => app.scene.metadata.levels.length > 1,
  make: (app, root) => new Levels(app, root),
});

class Levels {
  constructor(app, root) {
    this.app = app;
    this.note = element("p", { className: "note" });
    this.grid = element("div", { className: "levels" });
    root.append(this.note, this.grid);
  }

  open() {
    const { metadata } = this.app.scene;
    this.cells = metadata.levels.map(({ width, height }, number) => {
      const canvas = element("canvas");
      const dots = shape("svg", { preserveAspectRatio: "none", "aria-hidden": true });
      const text = element("span", { textContent: `${width} × ${height}` });
      const button = element("button", { type: "button" }, element("span", { className: "level" }, canvas, dots), text);
      button.addEventListener("click", () => this.app.change({ level: this.app.state.level === number ? "all" : number }));
      return { number, size: `${width} × ${height}`, canvas, dots, text, button };
    });
    this.grid.style.setProperty("--aspect", metadata.width / metadata.height);
    this.grid.style.setProperty("--thumbnail", `url("${metadata.thumbnail}")`);
    this.grid.replaceChildren(...this.cells.map(({ button }) => button));
  }

  draw() {
    const { app } = this;
    const { state, scene } = app;
    if (state.view !== "levels") return;
    const query = app.query();
    const row = query === null ? null : scene.crossAttention(state.layer, state.head, query);
    this.note.textContent = row ? `Query ${query}, decoder ${app.decoderLabel()}. Choose a level to see it alone.` : "Select a detection to see its attention level by level.";
    this.grid.hidden = !row;
    if (!row) return;
    const samples = scene.samples(state.layer, state.head, query);
    let first = 0;
    const total = row.reduce((sum, value) => sum + value, 0);
    for (const cell of this.cells) {
      const { width, height } = scene.metadata.levels[cell.number];
      let share = 0;
      for (let token = first; token < first + width * height; token++) share += row[token];
      first += width * height;
      const heatmap = new Heatmap(row, scene.metadata.levels, cell.number);
      const high = Math.round((160 * scene.metadata.height) / scene.metadata.width);
      paint(cell.canvas, heatmap.pixels(160, high, state.smooth), 160, high, app.colors);
      const points = samples ? samples.points.filter(({ level }) => level === cell.number) : [];
      this.drawPoints(cell.dots, points, high);
      const count = points.length ? `, ${points.length} points` : "";
      cell.text.textContent = `${cell.size}: ${percent(total > 0 ? share / total : 0)}${count}`;
      cell.button.setAttribute("aria-pressed", String(state.level === cell.number));
    }
  }

  drawPoints(svg, points, high) {
    svg.setAttribute("viewBox", `0 0 160 ${high}`);
    const peak = points.reduce((most, { weight }) => Math.max(most, weight), 0);
    const inside = points.filter(({ x, y, weight }) => weight > 0 && x >= 0 && x <= 1 && y >= 0 && y <= 1);
    svg.replaceChildren(...inside.map(({ x, y, weight }) => shape("circle", { cx: 160 * x, cy: high * y, r: Math.max(0.8, 3 * Math.sqrt(weight / peak)) })));
  }
}
