"use strict";
// Attention as a matrix: rows are queries, columns what they attend to. A row is chosen, a column read.

const LARGEST_CELL = 40; // pixels
const LEGIBLE_CELL = 13; // from which on rows and columns are labeled
const LONGEST_LABEL = 150;

/**
 * What is drawn: {rows, columns: labels, valuesOf(row) -> weights, selected: a row or null, marks: [row][column] that are
 * right or null, chooseRow(row), chooseColumn(column) or null, unit, peak, content: what it is of, as text}.
 */
class Matrix {
  constructor(app) {
    this.app = app;
    this.root = $("matrix");
    this.canvas = this.root.querySelector("canvas");
    this.cell = null; // [row, column] under the cursor or the keyboard
    this.root.addEventListener("pointermove", (event) => this.onMove(event));
    this.root.addEventListener("pointerleave", () => this.point(null));
    this.root.addEventListener("click", (event) => this.onClick(event));
    this.root.addEventListener("keydown", (event) => this.onKey(event));
    new ResizeObserver(() => this.shown && this.draw()).observe($("caption"));
  }

  get shown() {
    return this.app.matrix;
  }

  draw() {
    const { shown } = this;
    this.root.hidden = shown === null;
    $("stage").hidden = shown !== null;
    if (shown === null) return;
    if (shown.content !== this.content) this.cell = null;
    this.content = shown.content;
    this.layout();
    const { canvas, cellSize, left, top } = this;
    const ratio = Math.min(2, window.devicePixelRatio || 1);
    const [wide, high] = [left + shown.columns.length * cellSize + 1 + this.overhang, top + shown.rows.length * cellSize + 1];
    canvas.style.width = `${wide}px`;
    canvas.style.height = `${high}px`;
    canvas.width = Math.round(wide * ratio);
    canvas.height = Math.round(high * ratio);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    this.drawCells(context);
    this.drawLabels(context);
    canvas.setAttribute("aria-label", shown.unit);
  }

  layout() {
    const { rows, columns } = this.shown;
    const context = this.canvas.getContext("2d");
    context.font = this.font(600); // the bold one, which is wider
    const width = (labels) => Math.min(LONGEST_LABEL, Math.ceil(Math.max(...labels.map((label) => context.measureText(label).width), 10)));
    const space = $("caption").clientWidth; // as wide as what is below it
    const fit = (left, top) => Math.min(LARGEST_CELL, (space - left - 2) / columns.length, Math.max(260, window.innerHeight - 330 - top) / rows.length);
    const [left, slant] = [width(rows) + 12, width(columns)];
    const top = Math.ceil(slant * Math.SQRT1_2) + 16;
    const size = fit(left, top);
    const isLabeled = size >= LEGIBLE_CELL;
    [this.left, this.top] = isLabeled ? [left, top] : [0, 0];
    this.isLabeled = isLabeled;
    this.overhang = isLabeled ? Math.ceil(slant * Math.SQRT1_2) : 0;
    // Slanted labels of the last columns need space at the right.
    const least = isLabeled ? Math.min(size, (space - left - this.overhang) / columns.length) : fit(0, 0);
    this.cellSize = Math.max(1, least >= 4 ? Math.floor(least) : least);
  }

  font(weight) {
    return `${weight} 13px ${getComputedStyle(document.body).fontFamily}`;
  }

  drawCells(context) {
    const { shown, left, top, cellSize } = this;
    const gap = cellSize >= 8 ? 1 : 0;
    context.imageSmoothingEnabled = false;
    context.drawImage(this.picture(), left, top, shown.columns.length * cellSize, shown.rows.length * cellSize);
    context.fillStyle = this.color("--background");
    if (gap) for (let row = 1; row <= shown.rows.length; row++) context.fillRect(left, top + row * cellSize - 1, shown.columns.length * cellSize, 1);
    if (gap) for (let column = 1; column <= shown.columns.length; column++) context.fillRect(left + column * cellSize - 1, top, 1, shown.rows.length * cellSize);
    const outline = (column, row, columns, color, width) => {
      context.lineWidth = width;
      context.strokeStyle = color;
      context.strokeRect(left + column * cellSize - gap / 2, top + row * cellSize - gap / 2, columns * cellSize, cellSize);
    };
    if (shown.marks)
      shown.marks.forEach((columns, row) =>
        columns.forEach((column) => {
          context.fillStyle = "#000";
          context.beginPath();
          context.arc(left + (column + 0.5) * cellSize, top + (row + 0.5) * cellSize, Math.max(2, cellSize / 7 + 1.5), 0, 7);
          context.fill();
          context.fillStyle = "#00e5ff"; // not one of the heatmap's colors
          context.beginPath();
          context.arc(left + (column + 0.5) * cellSize, top + (row + 0.5) * cellSize, Math.max(1.5, cellSize / 7), 0, 7);
          context.fill();
        }),
      );
    if (shown.selected !== null) {
      outline(0, shown.selected, shown.columns.length, this.color("--card"), 4);
      outline(0, shown.selected, shown.columns.length, this.color("--accent"), 2);
    }
    if (this.cell) {
      outline(this.cell[1], this.cell[0], 1, "#000", 4);
      outline(this.cell[1], this.cell[0], 1, "#fff", 2);
    }
  }

  /** A pixel for each weight; made once. */
  picture() {
    const { app, shown } = this;
    const content = `${shown.content} ${app.state.colors}`;
    if (content === this.pictured) return this.made;
    this.pictured = content;
    this.made = element("canvas");
    const values = new Float32Array(shown.rows.length * shown.columns.length);
    if (shown.peak > 0) shown.rows.forEach((_, row) => values.set(shown.valuesOf(row).map((value) => Math.min(1, value / shown.peak)), row * shown.columns.length));
    paint(this.made, values, shown.columns.length, shown.rows.length, app.colors, "opaque");
    return this.made;
  }

  color(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name);
  }

  drawLabels(context) {
    if (!this.isLabeled) return;
    const { shown, left, top, cellSize } = this;
    const cut = (text) => {
      let short = text;
      while (short.length > 1 && context.measureText(short).width > LONGEST_LABEL) short = `${short.slice(0, -2)}…`;
      return short;
    };
    const write = (label, isStrong) => {
      context.font = this.font(isStrong ? 600 : 400);
      context.fillStyle = this.color(isStrong ? "--text" : "--muted");
      context.fillText(cut(label), 0, 0);
    };
    context.textBaseline = "middle";
    context.textAlign = "right";
    shown.rows.forEach((label, row) => {
      context.save();
      context.translate(left - 8, top + (row + 0.5) * cellSize);
      write(label, row === shown.selected || (this.cell && row === this.cell[0]));
      context.restore();
    });
    context.textAlign = "left";
    shown.columns.forEach((label, column) => {
      context.save();
      context.translate(left + (column + 0.5) * cellSize, top - 6);
      context.rotate(-Math.PI / 4);
      write(label, this.cell && column === this.cell[1]);
      context.restore();
    });
  }

  /** [row, column] of a mouse event; a row of -1 is the heading of a column, a column of -1 that of a row. */
  cellAt(event) {
    const { left, top } = this.canvas.getBoundingClientRect();
    const row = Math.floor((event.clientY - top - this.top) / this.cellSize);
    const column = Math.floor((event.clientX - left - this.left) / this.cellSize);
    const { rows, columns } = this.shown;
    return row < rows.length && column < columns.length && (row >= 0 || column >= 0) ? [Math.max(-1, row), Math.max(-1, column)] : null;
  }

  point(cell) {
    if (!this.shown || String(cell) === String(this.cell)) return;
    this.cell = cell;
    this.draw();
    this.app.stage.drawCursor();
  }

  onMove(event) {
    if (event.pointerType !== "mouse" || !this.shown) return;
    const cell = this.cellAt(event);
    const isHeading = cell && (cell[0] < 0 || cell[1] < 0);
    this.root.style.cursor = cell && (!isHeading || cell[0] >= 0 || this.shown.chooseColumn) ? "pointer" : "default";
    this.point(cell && !isHeading ? cell : null);
  }

  onClick(event) {
    const cell = this.shown && this.cellAt(event);
    if (!cell) return;
    if (cell[0] < 0) this.shown.chooseColumn?.(cell[1]);
    else this.shown.chooseRow(cell[0]);
    if (cell[0] >= 0 && cell[1] >= 0) this.point(cell);
  }

  /** Up and down choose a row, left and right read a column, Enter chooses it. */
  onKey(event) {
    const { shown } = this;
    const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] || [];
    if (!shown || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "Enter" && this.cell) shown.chooseColumn?.(this.cell[1]);
    else if (down === undefined) return;
    else {
      const clamp = (value, count) => Math.min(count - 1, Math.max(0, value));
      const row = clamp(shown.selected === null ? 0 : shown.selected + down, shown.rows.length);
      const column = clamp(this.cell ? this.cell[1] + right : 0, shown.columns.length);
      if (down) shown.chooseRow(row);
      this.point([row, column]);
    }
    event.preventDefault();
    event.stopPropagation();
  }

  /** The weight of the cell under the cursor, in the words of the legend. */
  readout() {
    if (!this.cell) return null;
    const { rows, columns, valuesOf } = this.shown;
    const [row, column] = this.cell;
    const weight = valuesOf(row)[column];
    return { weight, text: `of the attention of ${rows[row]} is on ${columns[column]}` };
  }
}
