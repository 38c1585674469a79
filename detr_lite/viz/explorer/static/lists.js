"use strict";
// The three lists beside the image: detections, queries that attend to the point, queries that the selected one attends to.

const ENCODER = "encoder"; // key of the encoder's self-attention in the list of queries at a point
const keyOf = ({ query, label }) => `${query}:${label}`;

class Lists {
  constructor(app) {
    this.app = app;
    const find = (key) => app.selection.detections().find((detection) => keyOf(detection) === key) || null;
    const queryOf = (key) => (key === null || key === ENCODER ? null : { query: Number(key), label: null });
    this.detections = new OptionList($("detections"), { choose: (key) => app.selectDetection(find(key)), hover: (key) => app.hover(key === null ? null : find(key)) });
    this.pointQueries = new OptionList($("point-queries"), { choose: (key) => app.change({ query: key === ENCODER ? null : Number(key) }), hover: (key) => app.hover(queryOf(key)) });
    this.linkedQueries = new OptionList($("linked-queries"), { choose: (key) => app.change({ query: Number(key) }), hover: () => {} });
  }

  draw() {
    this.drawDetections();
    this.drawPointQueries();
    this.drawLinkedQueries();
  }

  drawDetections() {
    const { app } = this;
    const { selection, state } = app;
    const visible = selection.visible();
    if (visible !== this.listed) this.entries = visible.map((detection) => ({
      key: keyOf(detection),
      label: detection.score === null ? `${detection.name}, query ${detection.query}` : `${detection.name}, score ${detection.score.toFixed(2)}, query ${detection.query}`,
      color: css(detection.rgb),
      text: detection.name,
      detail: `query ${detection.query}`,
      number: detection.score === null ? "" : detection.score.toFixed(2),
      share: detection.score ?? 0,
    }));
    this.listed = visible;
    const keyShown = (query) => (query === null || !selection.shown(query) ? null : keyOf(selection.shown(query)));
    this.detections.fill(this.entries, keyShown(state.query), app.hovered && keyShown(app.hovered.query));
    this.drawGuesses(visible);
  }

  /** What is said when no score reaches the threshold. */
  drawGuesses([best]) {
    const { app } = this;
    const { selection, state } = app;
    const note = $("detections-note");
    note.hidden = best !== undefined && !selection.areGuesses;
    if (note.hidden) return;
    const button = (textContent, changes) => element("button", { type: "button", textContent, onclick: () => app.change(changes) });
    if (best) {
      const score = Math.floor(best.score * 100) / 100;
      note.replaceChildren(`No score reaches ${state.score.toFixed(2)}. These are the best guesses. `, button(`Show from ${score.toFixed(2)}`, { score }));
    } else if (selection.detections().length) note.replaceChildren("No detections of these classes. ", button("Show all classes", { classes: [] }));
    else note.replaceChildren(`No ${NOUNS[app.scene.metadata.kind][1]} in this image. Click any point to see which queries attend to it.`);
  }

  /** A query with its best class, which is in parentheses where its score is below the threshold. */
  entry(query, weight, maxWeight, what) {
    const best = this.app.selection.shown(query);
    const name = !best ? "no detection" : this.app.selection.isBelow(best) ? `(${best.name})` : best.name;
    return {
      key: String(query),
      label: `${name}, query ${query}, ${percent(weight)} ${what}`,
      color: best ? css(best.rgb) : "var(--muted)",
      text: name,
      detail: best && best.score !== null ? `query ${query} · ${best.score.toFixed(2)}` : `query ${query}`,
      number: percent(weight),
      share: maxWeight > 0 ? weight / maxWeight : 0,
    };
  }

  drawPointQueries() {
    const { app } = this;
    const { point, layer, head, level, encoder } = app.state;
    const note = $("point-note");
    if (app.state.view !== "point" || point === null) {
      note.textContent = app.scene.isText
        ? "Choose a source word above the matrix to see the encoder's self-attention from there, and the words that attend to it."
        : "Click any point of the image to see the encoder's self-attention from there, and the queries that attend to it.";
      this.pointQueries.fill([], null);
      return;
    }
    const queries = app.scene.queriesAt(layer, head, point, level).filter(({ weight }) => weight > 0);
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
    this.pointQueries.fill(entries, app.state.query === null ? ENCODER : String(app.state.query));
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
        ? app.scene.metadata.words
          ? "Select a word to see how much it attends to the words before it: later ones are masked."
          : `Select a ${NOUNS[app.scene.metadata.kind][0]} to see how much its query attends to each other query: the self-attention by which queries avoid duplicates.`
        : "The queries' self-attention was left out of this page.";
      this.linkedQueries.fill([], null);
      return;
    }
    const order = [...weights.keys()].sort((a, b) => weights[b] - weights[a] || a - b);
    const { inputs } = app.scene.metadata; // of words: each key is what was read there, not what is written next
    const entries = order.map((other) => ({
      ...this.entry(other, weights[other], weights[order[0]], other === query ? "on itself" : "of the attention"),
      ...(inputs ? { text: `“${inputs[other]}”`, label: `“${inputs[other]}”, read at place ${other}, ${percent(weights[other])} of the attention`, detail: `read at place ${other}` } : {}),
    }));
    this.linkedQueries.fill(entries, String(query));
    note.textContent = `Self-attention of query ${query} over the ${weights.length} queries, decoder ${app.selfAttentionLabel()}:`;
  }
}
