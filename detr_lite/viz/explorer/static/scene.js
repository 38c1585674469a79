"use strict";
// One image of the page: its metadata, and all attention weights that the page includes.
// A head is an index, or "mean". Weights are shares of the attention of one query (or token), from 0 to 1.

const tokensOf = (levels) => levels.reduce((sum, level) => sum + level.width * level.height, 0);
const range = (count) => Array.from({ length: count }, (_, number) => number);

class Scene {
  /** Decodes image `number`; `metadata` is its entry in the page's JSON. */
  static async load(number, metadata) {
    const scene = new Scene();
    scene.metadata = metadata;
    scene.picture = document.getElementById(`scene-${number}-picture`).textContent;
    scene.indexOf = new Map(metadata.includedQueries.map((query, index) => [query, index]));
    scene.crossRows = metadata.includedQueries.length ? await rowsOf(`scene-${number}-cross-attention`, tokensOf(metadata.levels)) : null;
    scene.selfRows = metadata.selfAttentionHeads ? await rowsOf(`scene-${number}-self-attention`, metadata.queries) : null;
    scene.encoderRows = new Map(); // by layer
    for (let layer = metadata.firstEncoderLayer; layer < metadata.encoderLayers; layer++) {
      scene.encoderRows.set(layer, await rowsOf(`scene-${number}-encoder-${layer}`, tokensOf(metadata.encoderLevels)));
    }
    return scene;
  }

  has(query) {
    return this.indexOf.has(query);
  }

  /** The rows of cross-attention to average for a query, layer and head; null if they were left out. */
  crossRowNumbers(layer, head, query) {
    if (!this.has(query)) return null;
    const { layers, heads } = this.metadata;
    const first = (this.indexOf.get(query) * layers + layer) * heads;
    return head === "mean" ? range(heads).map((number) => first + number) : [first + head];
  }

  /** A query's weight for each token, level by level. */
  crossAttention(layer, head, query) {
    const rows = this.crossRowNumbers(layer, head, query);
    if (rows === null) return null;
    const sum = new Float64Array(this.crossRows.length);
    for (const row of rows) this.crossRows.addTo(sum, row, 1 / rows.length);
    return sum;
  }

  /** The token of each level at a point, whose coordinates are relative to the image. */
  tokensAt(levels, [x, y]) {
    let first = 0;
    return levels.map((level) => {
      const column = Math.min(level.width - 1, Math.floor(x * level.spanWidth));
      const row = Math.min(level.height - 1, Math.floor(y * level.spanHeight));
      const token = first + row * level.width + column;
      first += level.width * level.height;
      return { level, row, column, token };
    });
  }

  /** The encoder's self-attention of a token, mean over heads. */
  encoderAttention(layer, token) {
    const rows = this.encoderRows.get(layer);
    if (!rows) return null;
    const sum = new Float64Array(rows.length);
    rows.addTo(sum, token, 1);
    return sum;
  }

  /** All queries by their weight at a point, [{query, weight}] in descending order; `level` is an index or "all". */
  queriesAt(layer, head, point, level) {
    const covered = coverage(this.metadata.levels);
    const tokens = this.tokensAt(this.metadata.levels, point)
      .map((position, number) => ({ token: position.token, share: level === "all" ? 1 / covered[number](position.row, position.column) : 1, number }))
      .filter(({ number }) => level === "all" || number === level);
    const queries = [...this.indexOf.keys()].map((query) => {
      const rows = this.crossRowNumbers(layer, head, query);
      let weight = 0;
      for (const row of rows) for (const { token, share } of tokens) weight += (this.crossRows.weight(row, token) * share) / rows.length;
      return { query, weight };
    });
    return queries.sort((a, b) => b.weight - a.weight || a.query - b.query);
  }

  /** A query's weight for each query, including itself. */
  selfAttention(layer, head, query) {
    if (!this.selfRows) return null;
    const { queries, selfAttentionHeads } = this.metadata;
    const sum = new Float64Array(queries);
    const heads = head === "mean" ? range(selfAttentionHeads) : [Math.min(head, selfAttentionHeads - 1)];
    for (const number of heads) this.selfRows.addTo(sum, (layer * selfAttentionHeads + number) * queries + query, 1 / heads.length);
    return sum;
  }
}
