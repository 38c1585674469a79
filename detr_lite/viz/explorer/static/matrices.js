"use strict";
// Which matrix the state shows instead of the image, if any.

const MAX_MATRICES = 100; // that are kept: a thumbnail for each layer and head needs its own

/** See `Matrix`; null where the image is shown. */
function matrixOf(app, layer = app.state.layer, head = app.state.head) {
  const { scene, state } = app;
  const { metadata } = scene;
  if (state.view === "links") return scene.selfRows && (metadata.kind === "words" || state.matrix) ? selfMatrix(app, layer, head) : null;
  if (!scene.isText) return null;
  if (state.view === "point" && state.point !== null && state.query === null && scene.encoderRows.has(state.encoder)) return encoderMatrix(app);
  return crossMatrix(app, layer, head);
}

/** Rows are made once; the peak is that of all. */
function matrix(app, key, rows, columns, rowOf, rest) {
  const content = JSON.stringify([app.state.image, app.state.model, ...key]);
  if (!app.matrices.has(content)) {
    const values = rows.map((_, row) => rowOf(row));
    const peak = values.reduce((max, row) => row.reduce((most, value) => Math.max(most, value), max), 0);
    if (app.matrices.size > MAX_MATRICES) app.matrices.clear();
    app.matrices.set(content, { values, peak });
  }
  const { values, peak } = app.matrices.get(content);
  return { rows, columns, valuesOf: (row) => values[row], peak, content, marks: null, chooseColumn: null, ...rest };
}

function crossMatrix(app, layer, head) {
  const { scene, state } = app;
  const { words, sourceWords, alignment } = scene.metadata;
  const empty = new Float64Array(sourceWords.length);
  return matrix(app, ["cross", layer, head], words, sourceWords, (row) => scene.crossAttention(layer, head, row) || empty, {
    selected: app.query(),
    marks: state.truth ? alignment : null,
    chooseRow: (row) => app.change({ query: row, view: "detections" }),
    chooseColumn: (column) => app.selectPoint([(column + 0.5) / sourceWords.length, 0.5]),
    unit: "share of each word's attention, per source word",
  });
}

function encoderMatrix(app) {
  const { scene, state } = app;
  const { sourceWords } = scene.metadata;
  const choose = (token) => app.selectPoint([(token + 0.5) / sourceWords.length, 0.5]);
  return matrix(app, ["encoder", state.encoder], sourceWords, sourceWords, (row) => scene.encoderAttention(state.encoder, row), {
    selected: app.token(),
    chooseRow: choose,
    chooseColumn: choose,
    unit: `encoder self-attention, layer ${state.encoder}: share of each source word's attention`,
  });
}

/** Words in their order; queries of an image by their own scores, so that those that detect something are together. */
function selfMatrix(app, layer, head) {
  const { scene, selection } = app;
  const { words, inputs, queries } = scene.metadata;
  const scoreOf = (query) => selection.own(query)?.score ?? -1;
  const order = words ? range(queries) : range(queries).sort((a, b) => scoreOf(b) - scoreOf(a) || a - b);
  const name = (query) => `${selection.own(query)?.name ?? "query"} ${query}`;
  const rows = words || order.map(name);
  const columns = words ? inputs : rows;
  const rowOf = (row) => {
    const weights = scene.selfAttention(layer, head, order[row]);
    return Float64Array.from(order, (other) => weights[other]);
  };
  const selected = app.query() === null ? null : order.indexOf(app.query());
  return matrix(app, ["self", layer, head], rows, columns, rowOf, {
    selected,
    chooseRow: (row) => app.change({ query: order[row] }),
    unit: words ? "share of each word's self-attention" : "share of each query's self-attention, the highest scores first",
  });
}
