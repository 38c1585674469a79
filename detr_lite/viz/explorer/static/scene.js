"use strict";
// One image of the page: its metadata, and all attention weights that the page includes.
// A head is an index, or "mean". Weights are shares of the attention of one query (or token), from 0 to 1.

const tokensOf = (levels) => levels.reduce((sum, level) => sum + level.width * level.height, 0);
const range = (count) => Array.from({ length: count }, (_, number) => number);

/** Images but the first follow the scripts, so that a large page is usable before all of it is read. */
async function isParsed(...numbers) {
  const isThere = (number) => number === 0 || $(`scene-${number}-end`) !== null;
  while (!numbers.every(isThere) && document.readyState === "loading") await new Promise((resolve) => setTimeout(resolve, 20));
}

/** Relevance and occlusion of some detections, a row for each. */
async function attributedRows(number, { attribution, levels }) {
  if (!attribution) return null;
  const [relevance, occlusion] = await Promise.all([rowsOf(`scene-${number}-relevance`, tokensOf(levels)), rowsOf(`scene-${number}-occlusion`, tokensOf([attribution.grid]))]);
  return { relevance, occlusion };
}

class Scene {
  /** Decodes image `number`; `metadata` is its entry in the page's JSON. */
  static async load(number, metadata, pictureNumber = number) {
    await isParsed(number, pictureNumber);
    const scene = new Scene();
    scene.metadata = metadata;
    scene.picture = document.getElementById(`scene-${pictureNumber}-picture`)?.textContent ?? null;
    scene.indexOf = new Map(metadata.includedQueries.map((query, index) => [query, index]));
    await scene.loadCrossAttention(number);
    scene.selfRows = metadata.selfAttentionHeads ? await rowsOf(`scene-${number}-self-attention`, metadata.queries) : null;
    scene.attributedRows = await attributedRows(number, metadata);
    scene.encoderRows = new Map(); // by layer
    for (let layer = metadata.firstEncoderLayer; layer < metadata.encoderLayers; layer++) {
      scene.encoderRows.set(layer, await rowsOf(`scene-${number}-encoder-${layer}`, tokensOf(metadata.encoderLevels)));
    }
    return scene;
  }

  /** Of deformable models only what is not 0, and the sampled points; of both, the layers and heads of each query in turn. */
  async loadCrossAttention(number) {
    const { includedQueries, layers, heads, levels, pointLevels } = this.metadata;
    this.crossRows = null;
    this.sampleRows = null;
    if (!includedQueries.length) return;
    const id = `scene-${number}-cross-attention`;
    if (!this.isSampled) {
      this.crossRows = await rowsOf(id, tokensOf(levels));
      return;
    }
    const count = includedQueries.length * layers * heads;
    this.crossRows = new SparseRows(await bytesOf(id), count, tokensOf(levels));
    this.sampleRows = new Samples(await bytesOf(`scene-${number}-samples`), count, pointLevels.length);
  }

  /** Whether cross-attention is deformable: to sampled points. */
  get isSampled() {
    return this.metadata.pointLevels !== null;
  }

  /** Whether the queries attend to another sentence, so that there is no image. */
  get isText() {
    return this.metadata.sourceWords !== undefined && this.metadata.sourceWords !== null;
  }

  /** Why there is no self-attention of the encoder. */
  get noEncoder() {
    return this.isSampled ? "the encoder of this model has no dense self-attention" : "this model has no encoder layers";
  }

  has(query) {
    return this.indexOf.has(query);
  }

  /** The place of a query among those of relevance and occlusion, of this class if there are several; null without. */
  attributedIndex(query, label) {
    const { queries, labels } = this.metadata.attribution ?? { queries: [], labels: [] };
    const places = range(queries.length).filter((index) => queries[index] === query);
    return places.find((index) => labels[index] === label) ?? places[0] ?? null;
  }

  /** The "relevance" of each token to a query, or the "occlusion" of each cell; null if the page has none of it. */
  attributed(name, query, label) {
    const index = this.attributedIndex(query, label);
    if (index === null) return null;
    const rows = this.attributedRows[name];
    const sum = new Float64Array(rows.length);
    rows.addTo(sum, index, 1);
    return sum;
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

  /** The points that a query samples, of all heads for their mean: {points: [{x, y, weight, level}], outside}; null without. */
  samples(layer, head, query) {
    const rows = this.sampleRows && this.crossRowNumbers(layer, head, query);
    if (!rows) return null;
    const { pointLevels } = this.metadata;
    const points = rows.flatMap((row) => this.sampleRows.of(row)).map(({ x, y, weight, point }) => ({ x, y, weight: weight / rows.length, level: pointLevels[point] }));
    return { points, outside: rows.reduce((sum, row) => sum + this.sampleRows.outside(row) / rows.length, 0) };
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

  /** The encoder's token at a point. */
  encoderToken(point) {
    const { encoderLevels } = this.metadata;
    const finest = finestOf(encoderLevels);
    return this.tokensAt(encoderLevels, point).find(({ level }) => level === finest).token;
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
    const { queries, heads: crossHeads, selfAttentionHeads } = this.metadata;
    const sum = new Float64Array(queries);
    // Of the mean alone, whichever head of cross-attention is selected.
    const heads = head === "mean" || selfAttentionHeads !== crossHeads ? range(selfAttentionHeads) : [head];
    for (const number of heads) this.selfRows.addTo(sum, (layer * selfAttentionHeads + number) * queries + query, 1 / heads.length);
    return sum;
  }
}
