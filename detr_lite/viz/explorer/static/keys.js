"use strict";
// The keyboard. A list, a slider and the tabs answer to arrows themselves and pass the rest on.

const TOKENS_AT_ONCE = 4;

function listenToKeys(app) {
  const clamp = (value, most) => Math.min(most, Math.max(0, value));
  const layer = (step) => app.change({ layer: clamp(app.state.layer + step, app.scene.facts.layers - 1) }, { replace: true });
  const head = (step) => {
    const now = app.state.head === "mean" ? -1 : app.state.head;
    const next = Math.min(app.scene.facts.heads - 1, Math.max(-1, now + step));
    app.change({ head: next < 0 ? "mean" : next }, { replace: true });
  };
  const detection = (step) => {
    const visible = app.visible();
    if (!visible.length) return;
    const place = visible.findIndex((one) => one.query === app.state.query);
    app.chooseQuery(visible[place < 0 ? (step > 0 ? 0 : visible.length - 1) : (place + step + visible.length) % visible.length].query);
  };
  const flip = (key) => app.change({ [key]: !app.state[key] });
  const actions = {
    ArrowUp: () => layer(-1), // as in the atlas, whose first row is layer 0
    ArrowDown: () => layer(1),
    ArrowLeft: () => head(-1),
    ArrowRight: () => head(1),
    "[": () => layer(-1),
    "]": () => layer(1),
    m: () => app.change({ head: "mean" }, { replace: true }),
    n: () => detection(1),
    p: () => detection(-1),
    i: () => $("stage").focus(),
    o: () => app.show("objects"),
    f: () => app.show("point"),
    q: () => app.show("links"),
    b: () => flip("boxes"),
    t: () => app.scene.facts.truth && flip("truth"),
    s: () => flip("smooth"),
    d: () => $("theme").click(),
    ",": () => app.change({ image: clamp(app.state.image - 1, app.page.scenes.length - 1) }),
    ".": () => app.change({ image: clamp(app.state.image + 1, app.page.scenes.length - 1) }),
    "?": () => $("help").showModal(),
    Escape: () => app.letGo(),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("help").open || !app.scene) return;
    const isArrow = event.key.startsWith("Arrow");
    if (isArrow && event.target.matches("input, select")) return;
    if (event.target.matches("select")) return; // letters choose there
    if (isArrow && event.target === $("stage")) {
      movePoint(app, event);
      event.preventDefault();
      return;
    }
    const digit = /^\d$/.test(event.key) ? Number(event.key) : null;
    if (digit !== null && digit < app.scene.facts.heads) app.change({ head: digit }, { replace: true });
    else if (Object.hasOwn(actions, event.key)) actions[event.key]();
    else return;
    event.preventDefault();
  });
}

/** By one token of the encoder's grid (of the finest level where there is no encoder), to the token's middle. */
function movePoint(app, event) {
  const { facts } = app.scene;
  const { width, height, spanWidth, spanHeight } = finestOf(facts.encoderLayers ? facts.encoderLevels : facts.levels);
  const by = event.shiftKey ? TOKENS_AT_ONCE : 1;
  const [x, y] = app.state.point || [0.5, 0.5];
  const isFirst = app.state.point === null; // begins in the middle
  const across = isFirst ? 0 : by * ({ ArrowLeft: -1, ArrowRight: 1 }[event.key] || 0);
  const down = isFirst ? 0 : by * ({ ArrowUp: -1, ArrowDown: 1 }[event.key] || 0);
  const middle = (place, step, count, span) => Math.min(1, (Math.min(count - 1, Math.max(0, Math.floor(place * span + 1e-9) + step)) + 0.5) / span);
  app.choosePoint([middle(x, across, width, spanWidth), middle(y, down, height, spanHeight)], { replace: !isFirst });
}
