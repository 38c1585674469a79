"use strict";
// Puts the parts together: one state, one way to change it, and everything drawn from it.

class Explorer {
  constructor(page) {
    this.page = page;
    this.page.colors = bytesOfBase64(page.colormap);
    this.scene = null;
    this.loaded = new Map(); // number of an image -> its scene, being decoded or ready
    this.hovered = null; // a query that is looked at in passing
    this.heat = null; // what is drawn over the image: attention to the image ...
    this.links = null; // ... or between queries
    this.state = stateOf(location.hash, page);
    this.lastPush = 0;
    this.stage = new Stage(this);
    this.lists = new Lists(this);
    this.controls = new Controls(this);
    listenToKeys(this);
    const follow = () => this.go(stateOf(location.hash, page));
    addEventListener("popstate", follow);
    addEventListener("hashchange", follow);
    paint($("ramp"), Float32Array.from({ length: 256 }, (_, i) => i / 255), 256, 1, this.page.colors, 60);
  }

  /** Begin: without an address of its own the page shows the best detection, until the visitor points at something. */
  async start() {
    await this.go(this.state);
    if (location.hash === "") {
      const [best] = this.visible();
      if (best) this.hover(best.query);
    }
  }

  /** Show a state, whose image may have to be decoded first. */
  async go(state) {
    this.state = state;
    const number = state.image;
    if (!this.loaded.has(number)) this.loaded.set(number, Scene.load(number, this.page.scenes[number]));
    const scene = await this.loaded.get(number);
    if (number !== this.state.image) return; // another image was asked for meanwhile
    if (scene !== this.scene) {
      this.scene = scene;
      this.hovered = null;
      this.found = null;
      this.controls.atlasContent = null;
      this.stage.open();
      this.controls.open();
    }
    this.draw();
  }

  /** The one way to change what is shown. `replace`: no step of its own for the Back button. */
  change(changes, { replace = false } = {}) {
    const isNewImage = changes.image !== undefined && changes.image !== this.state.image;
    const state = { ...this.state, ...changes };
    if (isNewImage) Object.assign(state, { query: null, point: null });
    const next = stateOf(hashOf(state), this.page); // what the address says, and nothing else
    if (hashOf(next) === hashOf(this.state)) return;
    this.hovered = null;
    const isRun = Date.now() - this.lastPush < 400; // a run through a list is one step
    if (replace || isRun) history.replaceState(null, "", hashOf(next));
    else history.pushState(null, "", hashOf(next));
    if (!replace) this.lastPush = Date.now();
    this.go(next);
  }

  chooseQuery(query) {
    this.change({ query, view: this.state.view === "links" ? "links" : "objects" });
  }

  choosePoint(point, options) {
    this.change({ point, query: null, view: "point" }, options);
  }

  show(view) {
    this.change(view === "point" && this.state.point ? { view, query: null } : { view });
  }

  letGo() {
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

  // --- What the state means -------------------------------------------------------------------------------------

  /** All detections of the image, best first. */
  detections() {
    if (this.found) return this.found;
    const { boxes, scores, labels, queries } = this.scene.facts.found;
    this.found = boxes.map((box, i) => {
      const { name, color } = this.page.classes[labels[i]];
      return { box, score: scores[i], label: labels[i], query: queries[i], name, rgb: color };
    });
    return this.found;
  }

  /** Those that score and class let through. */
  visible() {
    const { score, classes } = this.state;
    return this.detections().filter((one) => one.score >= score && (!classes.length || classes.includes(one.label)));
  }

  /** The best detection of a query, if it has one. */
  best(query) {
    return this.visible().find((one) => one.query === query) || this.detections().find((one) => one.query === query);
  }

  boxOf(query) {
    const one = this.best(query);
    return one ? one.box : null;
  }

  /** The query whose attention is shown now. */
  query() {
    return this.hovered !== null ? this.hovered : this.state.query;
  }

  /** The encoder's token at the point. */
  token() {
    const places = this.scene.tokensAt(this.scene.facts.encoderLevels, this.state.point);
    const finest = finestOf(this.scene.facts.encoderLevels);
    return places.find(({ level }) => level === finest).token;
  }

  makeHeat() {
    const { state, scene } = this;
    const query = this.query();
    if (state.view === "links" && scene.among) return null;
    if (query !== null) {
      const row = scene.crossRow(state.layer, state.head, query);
      return row && new Heat(row, scene.facts.levels, state.level);
    }
    if (state.view !== "point" || state.point === null) return null;
    const row = scene.encoderRow(state.encoder, this.token());
    return row && new Heat(row, scene.facts.encoderLevels);
  }

  /** Whom the chosen query attends to: {query, weights, ends: others that have a box, most first, peak: of these}. */
  makeLinks() {
    const { state, scene } = this;
    const query = this.query();
    const weights = state.view === "links" && query !== null ? scene.peers(state.layer, state.head, query) : null;
    if (weights === null) return null;
    const ends = [...weights.keys()].filter((other) => other !== query && this.boxOf(other) && weights[other] > 0);
    ends.sort((a, b) => weights[b] - weights[a]);
    return { query, weights, ends, peak: ends.length ? weights[ends[0]] : 0 };
  }

  /** The colour of a value from 0 to 1. */
  colorOf(value) {
    const place = 3 * Math.round(255 * value);
    return css(this.page.colors.subarray(place, place + 3));
  }

  decoderWords(head = this.state.head) {
    const { heads, layers } = this.scene.facts;
    const layer = layers > 1 ? `layer ${this.state.layer}` : "layer 0, the only one";
    return `${layer}, ${heads === 1 ? "one head" : head === "mean" ? `mean of ${heads} heads` : `head ${head}`}`;
  }

  // --- Drawing --------------------------------------------------------------------------------------------------

  draw() {
    const { facts } = this.scene;
    this.heat = this.makeHeat();
    this.links = this.makeLinks();
    this.controls.draw();
    this.stage.draw();
    this.lists.draw();
    const count = this.page.scenes.length;
    $("subtitle").textContent = count > 1 ? `${facts.name} · ${this.state.image + 1} of ${count}` : facts.name;
    document.title = `${facts.name} – where it looks`;
    this.drawCaption();
  }

  drawCaption() {
    const { state, scene } = this;
    const { facts } = scene;
    const query = this.query();
    const caption = $("caption");
    let parts;
    if (query !== null) {
      const one = this.best(query);
      const name = one ? `${one.name} ${one.score.toFixed(2)}` : "No detection";
      const dot = element("i", { className: "dot", color: one ? css(one.rgb) : "transparent" });
      const where = this.links ? `whom query ${query} attends to, decoder ${this.decoderWords(facts.amongHeads < facts.heads ? "mean" : state.head)}` : scene.has(query) ? `where query ${query} looked, decoder ${this.decoderWords()}` : `query ${query}: where it looked was left out of this page`;
      parts = [dot, element("b", { textContent: name }), element("span", { textContent: where })];
    } else if (state.view === "point" && state.point !== null) {
      const dot = element("i", { className: "dot", color: "var(--accent)" });
      const where = this.heat
        ? `where the encoder looks, layer ${state.encoder}, mean of heads`
        : facts.encoderLayers
          ? `encoder layer ${state.encoder} was left out of this page; the list tells who looked here`
          : "this model has no encoder layers; the list tells who looked here";
      parts = [dot, element("b", { textContent: "From this point" }), element("span", { textContent: where })];
    } else {
      const count = this.visible().length;
      const what = count ? `${count} detection${count === 1 ? "" : "s"}` : "No detections";
      const hint = state.view === "point" ? "click any point of the image" : count ? "point at a box, or click anywhere" : "lower the score, or click anywhere";
      parts = [element("b", { textContent: what }), element("span", { textContent: hint })];
    }
    caption.replaceChildren(...parts);
    // Said aloud only when it was chosen, not in passing.
    const said = caption.innerText.replace(/\s+/g, " ");
    if (this.hovered === null && $("live").textContent !== said) $("live").textContent = said;
  }
}

function sayTrouble(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = false;
  document.querySelector("main").hidden = true;
}

if (typeof DecompressionStream === "undefined") {
  sayTrouble("This browser cannot unpack the page's data: it lacks DecompressionStream. Browsers since 2023 have it (Chrome 80, Firefox 113, Safari 16.4).");
} else {
  const explorer = new Explorer(JSON.parse($("facts").textContent));
  // For tests and for the curious: what is drawn, to be read only.
  window.explorer = Object.freeze({
    state: () => structuredClone(explorer.state),
    heat: () => explorer.heat && { width: explorer.heat.width, height: explorer.heat.height, peak: explorer.heat.peak, values: [...explorer.heat.values] },
    lookers: () => explorer.scene.lookers(explorer.state.layer, explorer.state.head, explorer.state.point, explorer.state.level),
    peers: () => [...explorer.scene.peers(explorer.state.layer, explorer.state.head, explorer.query())],
    ready: explorer.start().catch((error) => {
      sayTrouble(`This page's data cannot be read (${error.message}); it may be cut off. Make it again.`);
      throw error;
    }),
  });
}
