"use strict";
// Connects the parts: one state, one method that changes it, and everything is drawn from it.

class Explorer {
  constructor(page) {
    this.page = page;
    this.page.colors = bytesOfBase64(page.colormap);
    this.scene = null;
    this.loaded = new Map(); // image number -> promise of its scene
    this.hovered = null; // the query under the cursor
    this.heatmap = null; // what is drawn over the image: attention to tokens ...
    this.links = null; // ... or between queries
    this.samples = null; // the points of which the heatmap is made, in deformable models
    this.state = stateOf(location.hash, page);
    this.lastPush = 0;
    this.stage = new Stage(this);
    this.lists = new Lists(this);
    this.controls = new Controls(this);
    listenToKeys(this);
    const follow = () => this.apply(stateOf(location.hash, page));
    addEventListener("popstate", follow);
    addEventListener("hashchange", follow);
    paint($("colorbar"), Float32Array.from({ length: 256 }, (_, i) => i / 255), 256, 1, this.page.colors, 60);
  }

  /** A page without a state in its address shows the best detection until something is hovered or selected. */
  async start() {
    await this.apply(this.state);
    if (location.hash === "") {
      const [best] = this.visible();
      if (best) this.hover(best.query);
    }
  }

  /** Show a state, whose image may have to be decoded first. */
  async apply(state) {
    this.state = state;
    const number = state.image;
    if (!this.loaded.has(number)) this.loaded.set(number, Scene.load(number, this.page.scenes[number]));
    const scene = await this.loaded.get(number);
    if (number !== this.state.image) return; // another image was selected meanwhile
    if (scene !== this.scene) {
      this.scene = scene;
      this.hovered = null;
      this.cached = null;
      this.controls.overviewContent = null;
      this.stage.open();
      this.controls.open();
    }
    this.draw();
  }

  /** Change the state, and the address with it. `replace`: without a new entry in the history. */
  change(changes, { replace = false } = {}) {
    const isNewImage = changes.image !== undefined && changes.image !== this.state.image;
    const state = { ...this.state, ...changes };
    if (isNewImage) Object.assign(state, { query: null, point: null });
    const next = stateOf(hashOf(state), this.page); // exactly what the address says
    if (hashOf(next) === hashOf(this.state)) return;
    this.hovered = null;
    const isRepeat = Date.now() - this.lastPush < 400; // moving quickly through a list is one entry of the history
    if (replace || isRepeat) history.replaceState(null, "", hashOf(next));
    else history.pushState(null, "", hashOf(next));
    if (!replace) this.lastPush = Date.now();
    this.apply(next);
  }

  selectQuery(query) {
    this.change({ query, view: this.state.view === "links" ? "links" : "detections" });
  }

  selectPoint(point, options) {
    this.change({ point, query: null, view: "point" }, options);
  }

  showView(view) {
    this.change(view === "point" && this.state.point ? { view, query: null } : { view });
  }

  clearSelection() {
    if (this.state.view === "point" && this.state.query !== null) this.change({ query: null });
    else if (this.state.point !== null) this.change({ point: null });
    else this.change({ query: null });
  }

  hover(query) {
    if (query === this.hovered) return;
    this.hovered = query;
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.draw());
  }

  // --- Derived from the state -----------------------------------------------------------------------------------

  /** All detections of the image, in descending order of scores. */
  detections() {
    if (this.cached) return this.cached;
    const { boxes, scores, labels, queries } = this.scene.metadata.detections;
    this.cached = boxes.map((box, i) => {
      const { name, color } = this.page.classes[labels[i]];
      return { box, score: scores[i], label: labels[i], query: queries[i], name, rgb: color };
    });
    return this.cached;
  }

  /** Detections of the selected classes that reach the score threshold. */
  visible() {
    const { score, classes } = this.state;
    return this.detections().filter((detection) => detection.score >= score && (!classes.length || classes.includes(detection.label)));
  }

  /** The best detection of a query, if it has one. */
  best(query) {
    const isOfQuery = (detection) => detection.query === query;
    return this.visible().find(isOfQuery) || this.detections().find(isOfQuery);
  }

  boxOf(query) {
    const best = this.best(query);
    return best ? best.box : null;
  }

  /** The query whose attention is shown. */
  query() {
    return this.hovered !== null ? this.hovered : this.state.query;
  }

  /** The encoder's token at the point. */
  token() {
    const positions = this.scene.tokensAt(this.scene.metadata.encoderLevels, this.state.point);
    const finest = finestOf(this.scene.metadata.encoderLevels);
    return positions.find(({ level }) => level === finest).token;
  }

  makeHeatmap() {
    const { state, scene } = this;
    const query = this.query();
    if (state.view === "links" && scene.selfRows) return null;
    if (query !== null) {
      const row = scene.crossAttention(state.layer, state.head, query);
      return row && new Heatmap(row, scene.metadata.levels, state.level);
    }
    if (state.view !== "point" || state.point === null) return null;
    const row = scene.encoderAttention(state.encoder, this.token());
    return row && new Heatmap(row, scene.metadata.encoderLevels);
  }

  /** Self-attention of the query: {query, weights, ends: other queries with a box, by weight, peak: their largest weight}. */
  makeLinks() {
    const { state, scene } = this;
    const query = this.query();
    const weights = state.view === "links" && query !== null ? scene.selfAttention(state.layer, state.head, query) : null;
    if (weights === null) return null;
    const ends = [...weights.keys()].filter((other) => other !== query && this.boxOf(other) && weights[other] > 0);
    ends.sort((a, b) => weights[b] - weights[a]);
    return { query, weights, ends, peak: ends.length ? weights[ends[0]] : 0 };
  }

  makeSamples() {
    const { state, scene } = this;
    const query = this.query();
    return query === null || this.heatmap === null ? null : scene.samples(state.layer, state.head, query);
  }

  /** The color of a value from 0 to 1. */
  colorOf(value) {
    const index = 3 * Math.round(255 * value);
    return css(this.page.colors.subarray(index, index + 3));
  }

  /** Of the head whose self-attention is shown; the page may include the mean alone. */
  selfAttentionLabel() {
    const { heads, selfHeads, selfAttentionHeads } = this.scene.metadata;
    return this.decoderLabel(heads === selfHeads && heads === selfAttentionHeads ? this.state.head : "mean", selfHeads);
  }

  decoderLabel(head = this.state.head, heads = this.scene.metadata.heads) {
    const { layers } = this.scene.metadata;
    const layer = layers > 1 ? `layer ${this.state.layer}` : "layer 0, the only one";
    return `${layer}, ${heads === 1 ? "one head" : head === "mean" ? `mean of ${heads} heads` : `head ${head}`}`;
  }

  // --- Drawing --------------------------------------------------------------------------------------------------

  draw() {
    const { metadata } = this.scene;
    this.heatmap = this.makeHeatmap();
    this.links = this.makeLinks();
    this.samples = this.makeSamples();
    this.controls.draw();
    this.stage.draw();
    this.lists.draw();
    const count = this.page.scenes.length;
    $("subtitle").textContent = count > 1 ? `${metadata.name} · ${this.state.image + 1} of ${count}` : metadata.name;
    document.title = `${metadata.name} – attention explorer`;
    this.drawCaption();
  }

  drawCaption() {
    const { state, scene } = this;
    const { metadata } = scene;
    const query = this.query();
    const caption = $("caption");
    let parts;
    if (query !== null) {
      const best = this.best(query);
      const name = best ? `${best.name} ${best.score.toFixed(2)}` : "No detection";
      const dot = element("i", { className: "dot", color: best ? css(best.rgb) : "transparent" });
      const where = this.links
        ? `self-attention of query ${query}, decoder ${this.selfAttentionLabel()}`
        : scene.has(query)
          ? `cross-attention of query ${query}, decoder ${this.decoderLabel()}`
          : `the cross-attention of query ${query} was left out of this page`;
      parts = [dot, element("b", { textContent: name }), element("span", { textContent: where })];
    } else if (state.view === "point" && state.point !== null) {
      const dot = element("i", { className: "dot", color: "var(--accent)" });
      const where = this.heatmap
        ? `encoder self-attention, layer ${state.encoder}, mean of heads`
        : metadata.encoderLayers
          ? `encoder layer ${state.encoder} was left out of this page; the list has the queries that attend here`
          : `${scene.noEncoder}; the list has the queries that attend here`;
      parts = [dot, element("b", { textContent: "From this point" }), element("span", { textContent: where })];
    } else {
      const count = this.visible().length;
      const what = count ? `${count} detection${count === 1 ? "" : "s"}` : "No detections";
      const hint = state.view === "point" ? "click any point of the image" : count ? "hover a box, or click anywhere" : "lower the score, or click anywhere";
      parts = [element("b", { textContent: what }), element("span", { textContent: hint })];
    }
    caption.replaceChildren(...parts);
    $("samples-note").textContent = this.samples ? samplesNote(this.samples) : "";
    // Announced when it is selected, not while it is hovered.
    const announcement = `${caption.innerText} ${$("samples-note").textContent}`.replace(/\s+/g, " ").trim();
    if (this.hovered === null && $("live").textContent !== announcement) $("live").textContent = announcement;
  }
}

/** "96 sampled points; 12 % of the weight fell outside the image" */
function samplesNote({ points, outside }) {
  const share = outside === 0 ? "none" : outside < 0.005 ? "less than 1 %" : `${Math.round(100 * outside)} %`;
  return `${points.length} sampled points; ${share} of the weight fell outside the image.`;
}

function showError(text) {
  $("error-message").textContent = text;
  $("error-message").hidden = false;
  document.querySelector("main").hidden = true;
}

if (typeof DecompressionStream === "undefined") {
  showError("This browser cannot decompress the page's data: it lacks DecompressionStream. Browsers since 2023 have it (Chrome 80, Firefox 113, Safari 16.4).");
} else {
  const explorer = new Explorer(JSON.parse($("metadata").textContent));
  // What is drawn, read-only, for tests and for the browser's console.
  window.explorer = Object.freeze({
    state: () => structuredClone(explorer.state),
    heatmap: () => explorer.heatmap && { width: explorer.heatmap.width, height: explorer.heatmap.height, peak: explorer.heatmap.peak, values: [...explorer.heatmap.values] },
    queriesAt: () => explorer.scene.queriesAt(explorer.state.layer, explorer.state.head, explorer.state.point, explorer.state.level),
    selfAttention: () => [...explorer.scene.selfAttention(explorer.state.layer, explorer.state.head, explorer.query())],
    samples: () => structuredClone(explorer.samples),
    ready: explorer.start().catch((error) => {
      showError(`This page's data cannot be read (${error.message}); the file may be incomplete. Create it again.`);
      throw error;
    }),
  });
}
