"use strict";
// Side by side: another model, layer or head (B) beside the one that is shown (A), and their difference.

const LEAST_IOU = 0.1; // of the box of another model's query with the chosen one

function iouOf([ax0, ay0, ax1, ay1], [bx0, by0, bx1, by1]) {
  const inter = Math.max(0, Math.min(ax1, bx1) - Math.max(ax0, bx0)) * Math.max(0, Math.min(ay1, by1) - Math.max(ay0, by0));
  const union = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - inter;
  return union > 0 ? inter / union : 0;
}

/** A picture with a heat map, the chosen box, and the cursor that all pictures share. */
class Pane {
  constructor(app, root) {
    this.app = app;
    this.root = root;
    [this.world, this.label] = [root.querySelector(".world"), root.querySelector(".pane-label")];
    [this.picture, this.canvas, this.box, this.cross] = ["img", "canvas", ".box", ".cross"].map((one) => root.querySelector(one));
    root.addEventListener("pointermove", (event) => event.pointerType === "mouse" && app.stage.pointAt(this.positionOf(event)));
    root.addEventListener("pointerleave", () => app.stage.onLeave());
    root.addEventListener("click", (event) => app.stage.selectAt(event, this.positionOf(event)));
  }

  positionOf(event) {
    return positionIn(this.world, event);
  }

  drawBox(box) {
    this.box.hidden = !box;
    if (!box) return;
    const { width, height } = this.app.scene.metadata;
    const [x0, y0, x1, y1] = box;
    Object.assign(this.box.style, { left: `${(100 * x0) / width}%`, top: `${(100 * y0) / height}%`, width: `${(100 * (x1 - x0)) / width}%`, height: `${(100 * (y1 - y0)) / height}%` });
  }

  drawCursor(at) {
    this.cross.hidden = at === null;
    if (at !== null) Object.assign(this.cross.style, { left: `${100 * at[0]}%`, top: `${100 * at[1]}%` });
  }
}

class Compare {
  constructor(app) {
    this.app = app;
    this.pane = new Pane(app, $("pane-b"));
    this.difference = new Pane(app, $("pane-difference"));
    const choose = (changes) => app.change({ other: { ...app.state.other, ...changes } }, { replace: true });
    $("compare").addEventListener("change", () => this.choose($("compare").value));
    $("layer-b").addEventListener("input", () => choose({ layer: Number($("layer-b").value) }));
    $("head-b").addEventListener("input", () => choose({ head: Number($("head-b").value) < 0 ? "mean" : Number($("head-b").value) }));
    $("model").addEventListener("change", () => app.change({ model: Number($("model").value) }));
  }

  /** The next choice of what to compare with. */
  next() {
    const values = [...$("compare").options].map(({ value }) => value);
    this.choose(values[(values.indexOf($("compare").value) + 1) % values.length]);
  }

  choose(value) {
    const { state, page } = this.app;
    if (value === "none") return this.app.change({ other: null });
    const model = value === "self" ? state.model : Number(value);
    const { layers } = page.scenes[sceneNumber(page, state.image, model)];
    const layer = Math.min(layers - 1, value === "self" ? Math.max(0, state.layer - 1) : state.layer);
    const head = value === "self" && layer === state.layer && state.head === "mean" ? 0 : "mean";
    return this.app.change({ other: { model, layer, head } });
  }

  open() {
    const { page, scene, state } = this.app;
    const name = (model) => page.models[model].name;
    const models = range(page.modelCount).filter((model) => model !== state.model);
    const options = [["none", "nothing"], ["self", "another layer or head"], ...models.map((model) => [String(model), name(model)])];
    $("compare").replaceChildren(...options.map(([value, textContent]) => element("option", { value, textContent })));
    $("compare-row").hidden = scene.metadata.kind === "words";
    $("model-row").hidden = page.modelCount < 2;
    $("model").replaceChildren(...(page.modelCount > 1 ? range(page.modelCount).map((model) => element("option", { value: model, textContent: name(model) })) : []));
    for (const { picture } of [this.pane, this.difference]) if (scene.picture) picture.src = scene.picture;
  }

  /** The query of the other model whose box is the chosen one's. */
  otherQuery(query) {
    const { state, selection, otherScene } = this.app;
    if (query === null || state.other.model === state.model) return query;
    const box = selection.boxOf(query);
    let [best, most] = [null, LEAST_IOU];
    if (box)
      otherScene.metadata.querySummaries.forEach((own, other) => {
        // Of boxes that overlap about equally, the one of the higher score.
        const value = own ? iouOf(box, own.box) * (0.5 + 0.5 * own.score) : 0;
        if (own && iouOf(box, own.box) >= LEAST_IOU && value > most * 0.5 && (best === null || value > most)) [best, most] = [other, value];
      });
    return best;
  }

  draw() {
    const { app } = this;
    const { state, otherScene } = app;
    const isOn = state.other !== null && otherScene !== null && app.matrix === null;
    document.body.classList.toggle("comparing", isOn);
    for (const id of ["pane-b", "pane-difference", "comparison", "label-a", "other-row"]) $(id).hidden = !isOn;
    $("model").value = String(state.model);
    $("compare").options[1].textContent = app.sources.shown ? "its attention in a layer and head" : "another layer or head";
    $("compare").value = state.other === null ? "none" : state.other.model === state.model ? "self" : String(state.other.model);
    this.heatmap = null;
    if (!isOn) return;
    const query = app.query();
    const other = this.otherQuery(query);
    this.source = this.sourceOfOther();
    this.drawSliders();
    this.heatmap = query !== null && other === null ? null : this.makeHeatmap(other);
    const nameOf = (source, model, scene, layer, head) => [app.page.modelCount > 1 ? app.page.models[model].name : null, ...(source ? [source.title] : [`layer ${layer}`, headName(scene, head)])].filter(Boolean).join(" · ");
    $("label-a").textContent = `A: ${nameOf(app.sources.shown, state.model, app.scene, state.layer, state.head)}`;
    this.pane.label.textContent = `B: ${this.isBesideAttention ? `${ATTENTION} · ` : ""}${nameOf(this.source, state.other.model, otherScene, state.other.layer, state.other.head)}`;
    this.difference.label.textContent = "B − A";
    for (const pane of [this.pane, this.difference]) {
      app.stage.zoom.place(pane.world);
      pane.root.classList.toggle("dimmed", app.heatmap !== null);
    }
    this.pane.drawBox(other === null ? null : otherScene.metadata.querySummaries[other]?.box);
    this.difference.drawBox(query === null ? null : app.selection.boxOf(query));
    this.drawMaps(query, other);
    this.drawCursor();
  }

  /** Another map than attention, with which attention of the same model is compared. */
  get isBesideAttention() {
    const { state, sources } = this.app;
    return state.other !== null && sources.shown !== null && state.other.model === state.model;
  }

  /** Of another model the map is of the same kind; null for attention. */
  sourceOfOther() {
    return this.isBesideAttention ? null : this.app.sources.shown;
  }

  makeHeatmap(other) {
    const { app } = this;
    const { state, otherScene } = app;
    if (this.source === null) return app.heatmapOf(otherScene, state.other, other);
    const source = other === null || !otherScene.metadata.attribution ? null : app.source(other, otherScene, null);
    return source && heatmapOfSource(source, otherScene, state.level);
  }

  drawSliders() {
    const { state, otherScene } = this.app;
    for (const id of ["layer-b", "head-b"]) {
      $(id).disabled = this.source !== null;
      $(id).title = this.source ? this.source.note : "";
    }
    const { layers, heads } = otherScene.metadata;
    const { layer, head } = state.other;
    $("layer-b").max = layers - 1;
    $("head-b").max = heads - 1;
    $("head-b").min = heads === 1 ? 0 : -1;
    $("layer-b").value = layer;
    $("head-b").value = head === "mean" ? -1 : head;
    $("layer-b-value").textContent = this.source ? this.source.extent : `${layer} of 0–${layers - 1}`;
    $("head-b-value").textContent = this.source ? this.source.headExtent : head === "mean" ? `mean of ${heads}` : `${head} of 0–${heads - 1}`;
  }

  drawMaps(query, other) {
    const { app, heatmap } = this;
    const { clientWidth, clientHeight } = this.pane.world;
    const scale = Math.min(window.devicePixelRatio || 1, 2, 400 / Math.max(clientWidth, clientHeight, 1));
    const [width, height] = [Math.max(1, Math.round(clientWidth * scale)), Math.max(1, Math.round(clientHeight * scale))];
    this.pane.canvas.hidden = heatmap === null;
    this.difference.canvas.hidden = heatmap === null || app.heatmap === null;
    const pixels = heatmap && heatmap.pixels(width, height, app.state.smooth);
    if (heatmap !== null) paintAs(app.state.mode, this.pane.canvas, pixels, width, height, app.colors);
    const text = $("comparison-text");
    if (this.difference.canvas.hidden) {
      const nothing = query !== null && other === null ? "No query of B has a box here." : query !== null && this.source ? `The page has no ${this.source.title} of this detection of B.` : null;
      text.textContent = nothing ?? "Select a detection or a point to compare its attention.";
      $("difference-scale").hidden = true;
      return;
    }
    const { values, peak, moved } = differenceOf(app.heatmap, app.heatmap.pixels(width, height, app.state.smooth), heatmap, pixels);
    paintDifference(this.difference.canvas, values, width, height, app.differenceColors);
    $("difference-scale").hidden = false;
    paint($("difference-bar"), Float32Array.from({ length: 256 }, (_, i) => i / 255), 256, 1, app.differenceColors, "opaque");
    $("difference-less").textContent = `A more: ${peak.toFixed(1)} ×`;
    $("difference-more").textContent = `B more: ${peak.toFixed(1)} ×`;
    const boxes = query !== null && other !== null && other !== query ? ` Query ${query} of A, query ${other} of B.` : "";
    const share = `${Math.round(100 * moved)} %`;
    text.textContent = app.heatmap.reading
      ? `${share} of the map lies elsewhere in B.${boxes} The difference is in multiples of an even map, both maps scaled to the same sum.`
      : `${share} of the attention lies elsewhere in B. Peak: ${percent(app.heatmap.peak)} in A, ${percent(heatmap.peak)} in B.${boxes} The difference is in multiples of evenly spread attention.`;
  }

  /** The cursor of the image, in all pictures. */
  drawCursor() {
    const at = this.app.stage.cursor || this.app.state.point;
    for (const pane of [this.pane, this.difference]) pane.drawCursor(at);
  }
}

const headName = ({ metadata }, head) => (metadata.heads === 1 ? "one head" : head === "mean" ? `mean of ${metadata.heads} heads` : `head ${head}`);

/**
 * B's attention minus A's, of two maps and their pixels, in multiples of evenly spread attention: {values from -1 to 1, relative to the
 * largest one, which is `peak`, moved: the share of the attention that would have to move}. Other maps are made shares first.
 */
function differenceOf(a, ofA, b, ofB) {
  const areShares = !a.reading && !b.reading;
  const factorOf = ({ peak, finest }, pixels) => {
    if (areShares) return peak * finest.spanWidth * finest.spanHeight;
    let sum = 0;
    for (const value of pixels) sum += value;
    return sum > 0 ? pixels.length / sum : 0;
  };
  const [factorA, factorB] = [factorOf(a, ofA), factorOf(b, ofB)];
  const values = new Float32Array(ofA.length);
  let [peak, whole] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    values[i] = ofB[i] * factorB - ofA[i] * factorA;
    const size = Math.abs(values[i]);
    whole += size;
    if (size > peak) peak = size;
  }
  if (peak > 0) for (let i = 0; i < values.length; i++) values[i] /= peak;
  return { values, peak, moved: Math.min(1, whole / (2 * values.length)) };
}

/** The color of each of 2049 values from -1 to 1, as 32 bits. */
function differenceTable(colors) {
  const table = new Uint8ClampedArray(4 * 2049);
  for (let i = 0; i < 2049; i++) {
    const value = (i - 1024) / 1024;
    const color = 3 * Math.round(127.5 * (value + 1));
    for (let channel = 0; channel < 3; channel++) table[4 * i + channel] = colors[color + channel];
    table[4 * i + 3] = Math.round(255 * opacity(Math.abs(value)));
  }
  return new Uint32Array(table.buffer);
}

/** Values from -1 to 1; where there is no difference the picture is seen. */
function paintDifference(canvas, values, width, height, colors) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const pixels = new Uint32Array(picture.data.buffer);
  const table = differenceTable(colors);
  for (let i = 0; i < values.length; i++) pixels[i] = table[(1024 * values[i] + 1024.5) | 0];
  context.putImageData(picture, 0, 0);
}
