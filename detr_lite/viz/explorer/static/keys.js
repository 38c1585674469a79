"use strict";
// Keyboard shortcuts. Lists, sliders and tabs handle arrow keys themselves.

const TOKENS_WITH_SHIFT = 4;
const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function listenToKeys(app) {
  const clamp = (value, max) => Math.min(max, Math.max(0, value));
  const isFixed = () => app.sources.shown !== null; // the map has no layers and heads
  const layer = (step) => isFixed() || app.change({ layer: clamp(app.state.layer + step, app.scene.metadata.layers - 1) }, { replace: true });
  const head = (step) => {
    if (isFixed()) return;
    const current = app.state.head === "mean" ? -1 : app.state.head;
    const next = Math.min(app.scene.metadata.heads - 1, Math.max(-1, current + step));
    app.change({ head: next < 0 ? "mean" : next }, { replace: true });
  };
  const detection = (step) => {
    const visible = app.selection.visible();
    if (!visible.length) return;
    const shown = app.state.query === null ? null : app.selection.shown(app.state.query);
    const index = shown ? visible.findIndex(({ query, label }) => query === shown.query && label === shown.label) : -1;
    const next = index < 0 ? (step > 0 ? 0 : visible.length - 1) : (index + step + visible.length) % visible.length;
    app.selectDetection(visible[next]);
  };
  const cycle = (id) => {
    const values = [...$(id).options].map(({ value }) => value);
    app.change({ [id]: values[(values.indexOf(app.state[id]) + 1) % values.length] });
  };
  const toggle = (key) => app.change({ [key]: !app.state[key] });
  const actions = {
    ArrowUp: () => layer(-1), // as in the overview, whose first row is layer 0
    ArrowDown: () => layer(1),
    ArrowLeft: () => head(-1),
    ArrowRight: () => head(1),
    "[": () => layer(-1),
    "]": () => layer(1),
    m: () => isFixed() || app.change({ head: "mean" }, { replace: true }),
    n: () => detection(1),
    p: () => detection(-1),
    i: () => $("stage").focus(),
    o: () => app.showView("detections"),
    f: () => app.showView("point"),
    q: () => app.showView("links"),
    b: () => toggle("boxes"),
    t: () => !$("truth-label").hidden && toggle("truth"),
    r: () => !$("matrix-label").hidden && toggle("matrix"),
    s: () => toggle("smooth"),
    x: () => app.scene.isSampled && toggle("samples"),
    d: () => $("theme").click(),
    v: () => cycle("mode"),
    g: () => cycle("colors"),
    e: () => !$("source-label").hidden && !$("source").disabled && app.sources.next(),
    z: () => app.stage.zoom.toObject(),
    "+": () => app.stage.zoom.step(1.6),
    "=": () => app.stage.zoom.step(1.6),
    "-": () => app.stage.zoom.step(1 / 1.6),
    c: () => !$("compare-row").hidden && app.compare.next(),
    l: () => isFixed() || app.controls.player.toggle(),
    ",": () => app.change({ image: clamp(app.state.image - 1, app.page.imageCount - 1) }),
    ".": () => app.change({ image: clamp(app.state.image + 1, app.page.imageCount - 1) }),
    "?": () => $("help").showModal(),
    Escape: () => app.clearSelection(),
    ...Object.fromEntries(PANELS.filter(({ key }) => key).map(({ key, view }) => [key, () => $(`tab-${view}`).hidden || app.showView(view)])),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("help").open || !app.scene) return;
    const isArrow = event.key.startsWith("Arrow");
    if (isArrow && event.target.matches("input, select")) return;
    if (event.target.matches("select")) return; // where letters select an option
    if (isArrow && event.target === $("stage")) {
      movePoint(app, event);
      event.preventDefault();
      return;
    }
    if (isArrow && event.shiftKey) {
      app.stage.zoom.pan(DIRECTIONS[event.key]);
      event.preventDefault();
      return;
    }
    const digit = /^\d$/.test(event.key) ? Number(event.key) : null;
    if (digit !== null && digit < app.scene.metadata.heads) isFixed() || app.change({ head: digit }, { replace: true });
    else if (Object.hasOwn(actions, event.key)) actions[event.key]();
    else return;
    event.preventDefault();
  });
}

/** To the center of the next token of the encoder's grid, or of the finest level without an encoder. */
function movePoint(app, event) {
  const { metadata } = app.scene;
  const { width, height, spanWidth, spanHeight } = finestOf(metadata.encoderLayers ? metadata.encoderLevels : metadata.levels);
  const by = event.shiftKey ? TOKENS_WITH_SHIFT : 1;
  const [x, y] = app.state.point || [0.5, 0.5];
  const isFirst = app.state.point === null; // starts in the center
  const [across, down] = DIRECTIONS[event.key].map((direction) => (isFirst ? 0 : by * direction));
  const center = (position, step, count, span) => Math.min(1, (Math.min(count - 1, Math.max(0, Math.floor(position * span + 1e-9) + step)) + 0.5) / span);
  const next = [center(x, across, width, spanWidth), center(y, down, height, spanHeight)];
  app.selectPoint(next, { replace: !isFirst });
  app.stage.zoom.reveal(next);
}
