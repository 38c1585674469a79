"use strict";
// The three lists beside the image: detections, queries that attend to the point, queries that the selected one attends to.

const MAX_ENTRIES = 50; // of the two lists of queries

class Lists {
  constructor(app) {
    this.app = app;
    const hover = (query) => app.hover(query === ENCODER ? null : query);
    this.detections = new OptionList($("detections"), { choose: (query) => app.selectQuery(query), hover });
    this.pointQueries = new OptionList($("point-queries"), { choose: (query) => app.change({ query: query === ENCODER ? null : query }), hover });
    this.linkedQueries = new OptionList($("linked-queries"), { choose: (query) => app.change({ query }), hover: () => {} });
  }

  draw() {
    this.drawDetections();
    this.drawPointQueries();
    this.drawLinkedQueries();
  }

  drawDetections() {
    const { app } = this;
    const entries = app.visible().map(({ name, score, query, rgb }) => ({
      key: query,
      label: `${name}, score ${score.toFixed(2)}, query ${query}`,
      color: css(rgb),
      text: name,
      detail: `query ${query}`,
      number: score.toFixed(2),
      share: score,
    }));
    this.detections.fill(entries, app.state.query, app.hovered);
    const empty = $("detections-empty");
    empty.hidden = entries.length > 0;
    if (entries.length) return;
    const best = app.detections().find(({ label }) => !app.state.classes.length || app.state.classes.includes(label));
    if (best) {
      const score = Math.floor(best.score * 100) / 100;
      const show = element("button", { type: "button", textContent: `Show from ${score.toFixed(2)}`, onclick: () => app.change({ score }) });
      empty.replaceChildren(`No score reaches ${app.state.score.toFixed(2)}. The best is ${best.name} with ${best.score.toFixed(2)}. `, show);
    } else if (app.detections().length) {
      const show = element("button", { type: "button", textContent: "Show all classes", onclick: () => app.change({ classes: [] }) });
      empty.replaceChildren("No detections of these classes. ", show);
    } else empty.replaceChildren("No detections in this image. Click any point to see which queries attend to it.");
  }

  /** A query with the class of its best detection. */
  entry(query, weight, maxWeight, what) {
    const best = this.app.best(query);
    const name = best ? best.name : "no detection";
    return {
      key: query,
      label: `${name}, query ${query}, ${percent(weight)} ${what}`,
      color: best ? css(best.rgb) : "var(--muted)",
      text: name,
      detail: best ? `query ${query} · ${best.score.toFixed(2)}` : `query ${query}`,
      number: percent(weight),
      share: maxWeight > 0 ? weight / maxWeight : 0,
    };
  }

  drawPointQueries() {
    const { app } = this;
    const { point, layer, head, level, encoder } = app.state;
    const note = $("point-note");
    if (app.state.view !== "point" || point === null) {
      note.textContent = "Click any point of the image to see the encoder's self-attention from there, and the queries that attend to it.";
      this.pointQueries.fill([], null);
      return;
    }
    const queries = app.scene.queriesAt(layer, head, point, level).filter(({ weight }) => weight > 0).slice(0, MAX_ENTRIES);
    const entries = queries.map(({ query, weight }) => this.entry(query, weight, queries[0].weight, "of its attention is at the point"));
    const hasEncoder = app.scene.encoderRows.has(encoder);
    if (hasEncoder)
      entries.unshift({
        key: ENCODER,
        label: `Encoder self-attention from this point, layer ${encoder}`,
        color: "var(--accent)",
        text: "Encoder self-attention",
        detail: `layer ${encoder}`,
        number: "",
        share: 0,
      });
    this.pointQueries.fill(entries, app.state.query === null ? ENCODER : app.state.query);
    const missing = hasEncoder ? "" : app.scene.metadata.encoderLayers === 0 ? `${app.scene.noEncoder[0].toUpperCase()}${app.scene.noEncoder.slice(1)}. ` : `Encoder layer ${encoder} was left out of this page. `;
    note.textContent = queries.length
      ? `${missing}Queries by their attention to this point, decoder ${app.decoderLabel()}:`
      : `${missing}No query attends to this point in decoder ${app.decoderLabel()}.`;
  }

  drawLinkedQueries() {
    const { app } = this;
    const note = $("links-note");
    const { query, layer, head, view } = app.state;
    const weights = query === null ? null : app.scene.selfAttention(layer, head, query);
    if (view !== "links" || weights === null) {
      note.textContent = app.scene.selfRows
        ? "Select a detection to see how much its query attends to each other query: the self-attention by which queries avoid duplicates."
        : "The queries' self-attention was left out of this page.";
      this.linkedQueries.fill([], null);
      return;
    }
    const order = [...weights.keys()].sort((a, b) => weights[b] - weights[a] || a - b).slice(0, MAX_ENTRIES);
    this.linkedQueries.fill(order.map((other) => this.entry(other, weights[other], weights[order[0]], other === query ? "on itself" : "of the attention")), query);
    note.textContent = `Self-attention of query ${query} over the ${weights.length} queries, decoder ${app.selfAttentionLabel()}:`;
  }
}
