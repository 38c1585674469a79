"use strict";
// Connects the parts: one state, one method that changes it, and everything is drawn from it.

class Explorer {
  constructor(page) {
    this.page = page;
    page.modelCount = Math.max(1, page.models.length);
    page.imageCount = page.scenes.length / page.modelCount;
    this.colormaps = Object.fromEntries(Object.entries(page.colormaps).map(([name, text]) => [name, bytesOfBase64(text)]));
    this.differenceColors = bytesOfBase64(page.differenceColors);
    this.scene = null;
    this.otherScene = null; // of what is shown beside it
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
    this.sources = new SourceChoice(this);
    this.overview = new Overview(this);
    this.picker = new Picker(this);
    this.compare = new Compare(this);
    this.panels = PANELS.map((panel) => panel.make(this, $(`panel-${panel.view}`)));
    listenToKeys(this);
    this.followButtons();
    const follow = () => this.apply(stateOf(location.hash, page));
    addEventListener("popstate", follow);
    addEventListener("hashchange", follow);
  }

  /** A page without a state in its address shows a detection until something is hovered or selected. */
  async start() {
    await this.apply(this.state);
    const first = location.hash === "" ? this.selection.first() : null;
    if (first) this.hover(first);
    warmUp(this);
  }

  /** Show a state, whose image may have to be decoded first. */
  async apply(state) {
    this.state = state;
    const { image, model, other } = state;
    const [scene, otherScene] = await Promise.all([this.load(image, model), other && this.load(image, other.model)]);
    if (this.state !== state) return; // something else was selected meanwhile
    this.otherScene = otherScene;
    if (scene !== this.scene) {
      this.scene = scene;
      this.hovered = null;
      this.stage.open();
      this.controls.open();
      this.sources.open();
      this.overview.open();
      this.compare.open();
      this.showTabs();
      for (const panel of this.panels) panel.open?.();
    }
    this.draw();
  }

  load(image, model) {
    const number = sceneNumber(this.page, image, model);
    if (!this.loaded.has(number)) this.loaded.set(number, Scene.load(number, this.page.scenes[number], sceneNumber(this.page, image, 0)));
    return this.loaded.get(number);
  }

  /** Tabs of panels that have nothing to say of this image are hidden. */
  showTabs() {
    for (const { view, isShown } of PANELS) {
      $(`tab-${view}`).hidden = isShown !== undefined && !isShown(this);
      if ($(`tab-${view}`).hidden && this.state.view === view) this.state.view = "detections";
    }
  }

  /** Change the state, and the address with it. `replace`: without a new entry in the history. */
  change(changes, { replace = false } = {}) {
    const isNewImage = changes.image !== undefined && changes.image !== this.state.image;
    const state = { ...this.state, ...changes };
    if (isNewImage) Object.assign(state, { query: null, label: null, point: null, object: null, zoom: null });
    else if (changes.model !== undefined && changes.model !== this.state.model) Object.assign(state, this.inModel(changes.model));
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

  /** What changes with the model: the query of the same object, and what it is compared with. */
  inModel(model) {
    const { state } = this;
    const { layers, heads } = this.page.scenes[sceneNumber(this.page, state.image, model)];
    const isSwap = state.other !== null && state.other.model === model;
    const { layer, head } = isSwap ? state.other : { layer: layers - 1, head: "mean" };
    const query = isSwap ? this.compare.otherQuery(state.query) : null;
    const other = isSwap ? { model: state.model, layer: state.layer, head: state.head } : null;
    return { model, query, label: null, layer: Math.min(layer, layers - 1), head: head === "mean" ? head : Math.min(head, heads - 1), level: "all", other };
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
    this.drawSoon();
  }

  /** What is pressed must not be drawn anew before the button is released: the click would be lost. */
  drawSoon() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => (this.isPressed ? (this.isLate = true) : this.draw()));
  }

  followButtons() {
    this.isPressed = this.isLate = false;
    addEventListener("pointerdown", () => (this.isPressed = true), true);
    const release = (event) => {
      if (event.buttons !== 0 || !this.isPressed) return;
      this.isPressed = false;
      if (this.isLate) setTimeout(() => this.drawSoon()); // after the click
      this.isLate = false;
    };
    // A button may be released outside the window, which only the next movement tells.
    for (const type of ["pointerup", "pointercancel", "pointermove"]) addEventListener(type, release, true);
  }

  // --- Derived from the state -----------------------------------------------------------------------------------

  query() {
    return this.selection.query();
  }

  /** The encoder's token at the point. */
  token() {
    return this.scene.encoderToken(this.state.point);
  }

  /** The map of another source than cross-attention, if one is selected and has one of this query. */
  source(query, scene = this.scene, label = this.selection.shown(query)?.label ?? null) {
    const source = this.sources.chosen;
    const row = source && source.row(scene, query, label);
    return row && { ...source, row };
  }

  sourceText(query) {
    const source = this.source(query);
    return source && source.caption(query);
  }

  makeHeatmap() {
    const { state, scene } = this;
    const query = this.query();
    if (this.matrix !== null || (state.view === "links" && scene.selfRows)) return null;
    const source = query === null ? null : this.source(query);
    return source ? heatmapOfSource(source, scene, state.level) : this.heatmapOf(scene, state, query);
  }

  /** Cross-attention of a query in a layer and head, or without one the encoder's attention from the point. */
  heatmapOf(scene, { layer, head }, query) {
    const { view, point, encoder, level } = this.state;
    if (query !== null) {
      const row = scene.crossAttention(layer, head, query);
      const only = scene.metadata.levels[level] ? level : "all";
      return row && new Heatmap(row, scene.metadata.levels, only, "share of the query's attention, per token");
    }
    if (view !== "point" || point === null) return null;
    const row = scene.encoderAttention(scene === this.scene ? encoder : scene.metadata.encoderLayers - 1, scene.encoderToken(point));
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
    return css(this.colors.subarray(index, index + 3));
  }

  /** 256 colors as bytes. */
  get colors() {
    return this.colormaps[this.state.colors];
  }

  modelName() {
    return this.page.models.length ? this.page.models[this.state.model].name : "";
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
    this.sources.draw();
    this.picker.draw();
    this.overview.draw();
    this.stage.draw();
    this.lists.draw();
    this.compare.draw();
    for (const panel of this.panels) panel.draw?.();
    const count = this.page.imageCount;
    $("subtitle").textContent = count > 1 ? `${metadata.name} · ${this.state.image + 1} of ${count}` : metadata.name;
    const model = this.page.models[this.state.model];
    $("model-facts").textContent = model ? [model.name, ...model.facts].join(" · ") : "";
    document.title = `${metadata.name} – attention explorer`;
    drawCaption(this);
  }
}
