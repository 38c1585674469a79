"use strict";
// The three lists beside the image: detections, queries that look at the point, queries that the chosen one attends to.

const MOST = 50; // entries of the two lists of queries

class Lists {
  constructor(app) {
    this.app = app;
    const hover = (query) => app.hover(query === ENCODER ? null : query);
    this.objects = new OptionList($("objects"), { choose: (query) => app.chooseQuery(query), hover });
    this.lookers = new OptionList($("lookers"), { choose: (query) => app.change({ query: query === ENCODER ? null : query }), hover });
    this.peers = new OptionList($("peers"), { choose: (query) => app.change({ query }), hover: () => {} });
  }

  draw() {
    this.drawObjects();
    this.drawLookers();
    this.drawPeers();
  }

  drawObjects() {
    const { app } = this;
    const visible = app.visible();
    const entries = visible.map((one) => ({
      key: one.query,
      label: `${one.name}, score ${one.score.toFixed(2)}, query ${one.query}`,
      color: css(one.rgb),
      text: one.name,
      detail: `query ${one.query}`,
      number: one.score.toFixed(2),
      share: one.score,
    }));
    this.objects.fill(entries, app.state.query, app.hovered);
    const empty = $("objects-empty");
    empty.hidden = entries.length > 0;
    if (entries.length) return;
    const best = app.detections().find((one) => !app.state.classes.length || app.state.classes.includes(one.label));
    if (best) {
      const score = Math.floor(best.score * 100) / 100;
      const show = element("button", { type: "button", textContent: `Show from ${score.toFixed(2)}`, onclick: () => app.change({ score }) });
      empty.replaceChildren(`No score reaches ${app.state.score.toFixed(2)}. The best is ${best.name} with ${best.score.toFixed(2)}. `, show);
    } else if (app.detections().length) {
      const show = element("button", { type: "button", textContent: "Show all classes", onclick: () => app.change({ classes: [] }) });
      empty.replaceChildren("Nothing of these classes was found here. ", show);
    } else empty.replaceChildren("The model found nothing in this image. From a point you can still see which queries looked there.");
  }

  /** A query with the class of its best detection. */
  entry(query, weight, strongest, what) {
    const one = this.app.best(query);
    const name = one ? one.name : "no detection";
    return {
      key: query,
      label: `${name}, query ${query}, ${percent(weight)} ${what}`,
      color: one ? css(one.rgb) : "var(--muted)",
      text: name,
      detail: one ? `query ${query} · ${one.score.toFixed(2)}` : `query ${query}`,
      number: percent(weight),
      share: strongest > 0 ? weight / strongest : 0,
    };
  }

  drawLookers() {
    const { app } = this;
    const { point, layer, head, level } = app.state;
    const { facts } = app.scene;
    const note = $("point-note");
    if (app.state.view !== "point" || point === null) {
      note.textContent = "Click any point of the image: the encoder's attention from there, and the queries that looked there.";
      this.lookers.fill([], null);
      return;
    }
    const found = app.scene.lookers(layer, head, point, level).filter(({ weight }) => weight > 0).slice(0, MOST);
    const entries = found.map(({ query, weight }) => this.entry(query, weight, found[0].weight, "of its attention is at the point"));
    const hasEncoder = app.scene.encoder.has(app.state.encoder);
    if (hasEncoder)
      entries.unshift({
        key: ENCODER,
        label: `The encoder's attention from this point, layer ${app.state.encoder}`,
        color: "var(--accent)",
        text: "The encoder itself",
        detail: `layer ${app.state.encoder}`,
        number: "",
        share: 0,
      });
    this.lookers.fill(entries, app.state.query === null ? ENCODER : app.state.query);
    const missing = hasEncoder ? "" : facts.encoderLayers === 0 ? "This model has no encoder layers. " : `Encoder layer ${app.state.encoder} was left out of this page. `;
    note.textContent = found.length
      ? `${missing}Queries that look at this point most, in decoder ${app.decoderWords()}:`
      : `${missing}No query looks at this point in decoder ${app.decoderWords()}.`;
  }

  drawPeers() {
    const { app } = this;
    const note = $("links-note");
    const { query, layer, head, view } = app.state;
    const weights = query === null ? null : app.scene.peers(layer, head, query);
    if (view !== "links" || weights === null) {
      note.textContent = app.scene.among
        ? "Choose a detection: how much its query attends to each other query, by which they settle who answers for what."
        : "The queries' self-attention was left out of this page.";
      this.peers.fill([], null);
      return;
    }
    const order = [...weights.keys()].sort((a, b) => weights[b] - weights[a] || a - b).slice(0, MOST);
    this.peers.fill(order.map((other) => this.entry(other, weights[other], weights[order[0]], other === query ? "on itself" : "of the attention")), query);
    const words = app.scene.facts.amongHeads < app.scene.facts.heads ? app.decoderWords("mean") : app.decoderWords();
    note.textContent = `What query ${query} attends to among the ${weights.length} queries, in decoder ${words}:`;
  }
}
