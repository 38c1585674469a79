"use strict";
// Zoom and pan of the image: with the wheel, two fingers, by dragging, and with keys.

const LARGEST_ZOOM = 24;
const OBJECT_SHARE = 0.4; // of the window's side, that a chosen object takes
const KEY_SHARE = 0.125; // of the window's side, that a key moves it
const DRAG_PIXELS = 4; // from which on a press is no click

class Zoom {
  constructor(app, root) {
    this.app = app;
    this.root = root;
    this.pointers = new Map(); // by id: [x, y] in pixels
    this.isDragging = false;
    root.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    root.addEventListener("pointerdown", (event) => this.onDown(event));
    root.addEventListener("pointermove", (event) => this.onDrag(event));
    for (const type of ["pointerup", "pointercancel", "pointerleave"]) root.addEventListener(type, (event) => this.pointers.delete(event.pointerId));
    // A drag ends in a click, which selects nothing.
    root.addEventListener("click", (event) => this.isDragging && event.stopImmediatePropagation(), true);
    for (const [id, act] of [["zoom-in", () => this.step(1.6)], ["zoom-out", () => this.step(1 / 1.6)], ["zoom-object", () => this.toObject()], ["zoom-all", () => this.set(null)]])
      $(id).addEventListener("click", act);
  }

  /** {x, y, scale}: the window's left top corner relative to the image, and how many times it is magnified. */
  get window() {
    const [x, y, scale] = this.app.state.zoom || [0, 0, 1];
    return { x, y, scale };
  }

  set(zoom) {
    this.app.change({ zoom }, { replace: true });
  }

  show(x, y, scale) {
    const most = 1 - 1 / scale;
    const clamp = (value) => Math.min(most, Math.max(0, value));
    this.set(scale <= 1.001 ? null : [clamp(x), clamp(y), scale]);
  }

  /** Magnify by a factor; the point `at`, relative to the image, stays where it is. */
  by(factor, [px, py]) {
    const { x, y, scale } = this.window;
    const next = Math.min(LARGEST_ZOOM, Math.max(1, scale * factor));
    this.show(px - ((px - x) * scale) / next, py - ((py - y) * scale) / next, next);
  }

  /** From a button or key: around what is chosen, if it is in sight, else the middle. */
  step(factor) {
    const { x, y, scale } = this.window;
    const [cx, cy] = this.chosen() || [];
    const isInSight = cx >= x && cx <= x + 1 / scale && cy >= y && cy <= y + 1 / scale;
    this.by(factor, isInSight ? [cx, cy] : [x + 0.5 / scale, y + 0.5 / scale]);
  }

  box() {
    const query = this.app.query();
    return query === null ? null : this.app.selection.boxOf(query);
  }

  /** The middle of the chosen object, or the point. */
  chosen() {
    const box = this.box();
    if (!box) return this.app.state.point;
    const { width, height } = this.app.scene.metadata;
    return [(box[0] + box[2]) / 2 / width, (box[1] + box[3]) / 2 / height];
  }

  /** A crop around the chosen object; the whole image, if that is what is shown. */
  toObject() {
    const box = this.box();
    if (!box) return;
    const { width, height } = this.app.scene.metadata;
    const largest = Math.max((box[2] - box[0]) / width, (box[3] - box[1]) / height, 1 / LARGEST_ZOOM);
    const scale = Math.min(LARGEST_ZOOM, Math.max(1, OBJECT_SHARE / largest));
    const [cx, cy] = this.chosen();
    const before = String(this.app.state.zoom);
    const query = this.app.query();
    this.app.change({ query, label: this.app.selection.shown(query)?.label ?? null }, { replace: true }); // what was hovered stays chosen
    this.show(cx - 0.5 / scale, cy - 0.5 / scale, scale);
    if (String(this.app.state.zoom) === before) this.set(null);
  }

  /** Move the magnified window by a part of its size: [1, 0] to the right. */
  pan([across, down]) {
    const { x, y, scale } = this.window;
    if (scale > 1) this.show(x + (across * KEY_SHARE) / scale, y + (down * KEY_SHARE) / scale, scale);
  }

  /** Move the window so that a point is in it. */
  reveal([px, py]) {
    const { x, y, scale } = this.window;
    const margin = 0.1 / scale;
    const fit = (start, p) => Math.min(p - margin, Math.max(p - 1 / scale + margin, start));
    if (scale > 1) this.show(fit(x, px), fit(y, py), scale);
  }

  /** Where the world of a window of the page is to be, so that this part of the image is in it. */
  place(world) {
    const { x, y, scale } = this.window;
    Object.assign(world.style, { left: `${-100 * x * scale}%`, top: `${-100 * y * scale}%`, width: `${100 * scale}%`, height: `${100 * scale}%` });
  }

  draw() {
    const { scale } = this.window;
    this.place($("world"));
    this.root.classList.toggle("zoomed", scale > 1);
    $("zoom-out").disabled = $("zoom-all").disabled = scale <= 1;
    $("zoom-in").disabled = scale >= LARGEST_ZOOM;
    $("zoom-object").disabled = this.box() === null;
    $("zoom-value").textContent = scale > 1 ? `${scale.toFixed(1)} ×` : "";
  }

  onWheel(event) {
    const factor = Math.exp(-Math.max(-60, Math.min(60, event.deltaY)) / 240);
    if (factor < 1 && this.window.scale === 1) return; // the page scrolls
    event.preventDefault();
    this.by(factor, this.app.stage.positionOf(event));
  }

  onDown(event) {
    this.isDragging = false;
    if (event.pointerType === "mouse" && event.button !== 0) return;
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
  }

  /** With one pointer the window moves, with two it is magnified, too. */
  onDrag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = [event.clientX, event.clientY];
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    if (!this.isDragging && Math.hypot(dx, dy) < DRAG_PIXELS) return;
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    this.pointers.set(event.pointerId, now);
    if (!others.length && this.window.scale === 1) return;
    this.isDragging = true;
    const { x, y, scale } = this.window;
    const { clientWidth, clientHeight } = this.root;
    if (!others.length) return this.show(x - dx / clientWidth / scale, y - dy / clientHeight / scale, scale);
    const apart = (place) => Math.max(10, Math.hypot(place[0] - others[0][0], place[1] - others[0][1]));
    const middle = { clientX: (now[0] + others[0][0]) / 2, clientY: (now[1] + others[0][1]) / 2 };
    this.by(apart(now) / apart(before), this.app.stage.positionOf(middle));
  }
}
