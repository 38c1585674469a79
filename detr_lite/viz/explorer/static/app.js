"use strict";
// Connects the parts: one state, one method that changes it, and everything is drawn from it.

class Explorer {
  constructor(page) {
    this.page = page;
    this.page.colors = bytesOfBase64(page.colormap);
    this.scene = null;
    this.loaded = new Map(); // image number -> promise of its scene
    this.hovered = null; // {query, label} under the cursor; label null: the best class
    this.heatmap = null; // what is drawn over the image: attention to tokens ...
    this.links = null; // ... or between queries
    this.matrix = null; // ... or as a matrix, which takes the image's place
    this.matrices = new Map(); // those made so far
    this.samples = null; // the points of which the heatmap is made, in deformable models
    this.state = stateOf(location.hash, page);
    this.lastPush = 0;
    this.selection = new Selection(this);
    this.stage = new Stage(this);
    this.lists = new Lists(this);
    this.controls = new Controls(this);
    this.overview = new Overview(this);
    this.picker = new Picker(this);
    this.panels = PANELS.map((panel) => panel.make(this, $(`panel-${panel.view}`)));
    listenToKeys(this);
    const follow = () => this.apply(stateOf(location.hash, page));
    addEventListener("popstate", follow);
    addEventListener("hashchange", follow);
  }

  /** A page without a state in its address shows a detection until something is hovered or selected. */
  async start() {
    await this.apply(this.state);
    const first = location.hash === "" ? this.selection.first() : null;
    if (first) this.hover(first);
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
      this.stage.open();
      this.controls.open();
      this.overview.open();
      for (const panel of this.panels) panel.open?.();
    }
    this.draw();
  }

  /** Change the state, and the address with it. `replace`: without a new entry in the history. */
  change(changes, { replace = false } = {}) {
    const isNewImage = changes.image !== undefined && changes.image !== this.state.image;
    const state = { ...this.state, ...changes };
    if (isNewImage) Object.assign(state, { query: null, label: null, point: null });
    else if (changes.query !== undefined && changes.label === undefined) state.label = null;
    const next = stateOf(hashOf(state), this.page); // exactly what the address says
    if (hashOf(next) === hashOf(this.state)) return;
    this.hovered = null;
    const isRepeat = Date.now() - this.lastPush < 400; // moving quickly through a list is one entry of the history
    if (replace || isRepeat) history.replaceState(null, "", hashOf(next));
    else history.pushState(null, "", hashOf(next));
    if (!replace) this.lastPush = Date.now();
    this.apply(next);
  }

  /** Select a query as one of its classes. */
  selectDetection({ query, label }) {
    this.change({ query, label, view: this.state.view === "point" ? "detections" : this.state.view });
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

  /** Show a detection, or {query, label: null}, until the mouse is elsewhere. */
  hover(detection) {
    const [query, label] = detection ? [detection.query, detection.label ?? null] : [null, null];
    if (this.hovered === null ? query === null : query === this.hovered.query && label === this.hovered.label) return;
    this.hovered = query === null ? null : { query, label };
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.draw());
  }

  // --- Derived from the state -----------------------------------------------------------------------------------

  query() {
    return this.selection.query();
  }

  /** The encoder's token at the point. */
  token() {
    const positions = this.scene.tokensAt(this.scene.metadata.encoderLevels, this.state.point);
    const finest = finestOf(this.scene.metadata.encoderLevels);
    return positions.find(({ level }) => level === finest).token;
  }

  /** The map of another source than cross-attention, if one is selected and has one of this query. */
  source(query) {
    const source = SOURCES.get(this.state.source);
    const row = source ? source.row(this, query) : null;
    return row && { ...source, row };
  }

  sourceText(query) {
    const source = this.source(query);
    return source && `${source.title} of query ${query}`;
  }

  makeHeatmap() {
    const { state, scene } = this;
    const query = this.query();
    if (this.matrix !== null || (state.view === "links" && scene.selfRows)) return null;
    if (query !== null) {
      const source = this.source(query);
      const row = source ? source.row : scene.crossAttention(state.layer, state.head, query);
      return row && new Heatmap(row, scene.metadata.levels, state.level, source ? source.unit : "share of the query's attention, per token");
    }
    if (state.view !== "point" || state.point === null) return null;
    const row = scene.encoderAttention(state.encoder, this.token());
    return row && new Heatmap(row, scene.metadata.encoderLevels, "all", "share of the point's attention, per token");
  }

  /** Self-attention of the query: {query, weights, ends: the other queries by weight, peak: their largest weight}. */
  makeLinks() {
    const { state, scene } = this;
    const query = this.query();
    const weights = state.view === "links" && query !== null ? scene.selfAttention(state.layer, state.head, query) : null;
    if (weights === null) return null;
    const ends = [...weights.keys()].filter((other) => other !== query && weights[other] > 0);
    ends.sort((a, b) => weights[b] - weights[a]);
    return { query, weights, ends, peak: ends.length ? weights[ends[0]] : 0, unit: "share of the query's self-attention" };
  }

  makeSamples() {
    const { state, scene } = this;
    const query = this.query();
    return query === null || this.heatmap === null || this.source(query) ? null : scene.samples(state.layer, state.head, query);
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

  draw() {
    const { metadata } = this.scene;
    this.matrix = matrixOf(this);
    this.heatmap = this.makeHeatmap();
    this.links = this.makeLinks();
    this.samples = this.makeSamples();
    this.controls.draw();
    this.picker.draw();
    this.overview.draw();
    this.stage.draw();
    this.lists.draw();
    for (const panel of this.panels) panel.draw?.();
    const count = this.page.scenes.length;
    $("subtitle").textContent = count > 1 ? `${metadata.name} · ${this.state.image + 1} of ${count}` : metadata.name;
    document.title = `${metadata.name} – attention explorer`;
    drawCaption(this);
  }
}
