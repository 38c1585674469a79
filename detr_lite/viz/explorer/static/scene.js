"use strict";
// One image of the page: its facts, and every weight that was kept of it.
// A head is a number, or "mean". Weights are shares of one query's (or token's) attention, from 0 to 1.

const tokensOf = (levels) => levels.reduce((sum, level) => sum + level.width * level.height, 0);

class Scene {
  /** Decodes what the page holds of image `number`; `facts` are its entry in the page's JSON. */
  static async load(number, facts) {
    const scene = new Scene();
    scene.facts = facts;
    scene.picture = document.getElementById(`scene-${number}-picture`).textContent;
    scene.slots = new Map(facts.kept.map((query, slot) => [query, slot]));
    scene.cross = facts.kept.length ? await rowsOf(`scene-${number}-cross`, tokensOf(facts.levels)) : null;
    scene.among = facts.amongHeads ? await rowsOf(`scene-${number}-among`, facts.queries) : null;
    scene.encoder = new Map();
    for (let layer = facts.firstEncoderLayer; layer < facts.encoderLayers; layer++) {
      scene.encoder.set(layer, await rowsOf(`scene-${number}-encoder-${layer}`, tokensOf(facts.encoderLevels)));
    }
    return scene;
  }

  has(query) {
    return this.slots.has(query);
  }

  /** The rows of the cross-attention to be averaged for a layer and head of a query, or null where it was left out. */
  crossRows(layer, head, query) {
    if (!this.has(query)) return null;
    const { layers, heads } = this.facts;
    const first = (this.slots.get(query) * layers + layer) * heads;
    return head === "mean" ? Array.from({ length: heads }, (_, number) => first + number) : [first + head];
  }

  /** Where a query looked: a weight for each token, level by level. */
  crossRow(layer, head, query) {
    const rows = this.crossRows(layer, head, query);
    if (rows === null) return null;
    const sum = new Float64Array(this.cross.length);
    for (const row of rows) this.cross.addTo(sum, row, 1 / rows.length);
    return sum;
  }

  /** Which token of each level lies at a point, whose sides are relative to the image. */
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

  /** Where the encoder looks from a token, mean over heads. */
  encoderRow(layer, token) {
    const rows = this.encoder.get(layer);
    if (!rows) return null;
    const sum = new Float64Array(rows.length);
    rows.addTo(sum, token, 1);
    return sum;
  }

  /** The reverse question: which queries look at a point? [{query, weight}], most first, of `level` or of "all". */
  lookers(layer, head, point, level) {
    const spread = coverage(this.facts.levels);
    const tokens = this.tokensAt(this.facts.levels, point)
      .map((place, number) => ({ token: place.token, share: level === "all" ? 1 / spread[number](place.row, place.column) : 1, number }))
      .filter(({ number }) => level === "all" || number === level);
    const found = [...this.slots.keys()].map((query) => {
      const rows = this.crossRows(layer, head, query);
      let weight = 0;
      for (const row of rows) for (const { token, share } of tokens) weight += (this.cross.weight(row, token) * share) / rows.length;
      return { query, weight };
    });
    return found.sort((a, b) => b.weight - a.weight || a.query - b.query);
  }

  /** How much a query attends to each query, itself among them. */
  peers(layer, head, query) {
    if (!this.among) return null;
    const { queries, amongHeads } = this.facts;
    const sum = new Float64Array(queries);
    const heads = head === "mean" ? Array.from({ length: amongHeads }, (_, number) => number) : [Math.min(head, amongHeads - 1)];
    for (const number of heads) this.among.addTo(sum, (layer * amongHeads + number) * queries + query, 1 / heads.length);
    return sum;
  }
}
