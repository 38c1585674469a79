"use strict";
// What each head of a layer does, in numbers: where its attention lies relative to objects, and which heads look alike.

const BAND = 0.25; // around a box's edges, as a share of its sides: as in `evaluate --attention`
const ALIKE = 0.7; // overlap of their maps from which on heads are a group
const MOST_QUERIES = 12; // that are measured: the highest scores

addPanel({
  view: "heads",
  title: "Heads",
  key: "h",
  isAboutAttention: true,
  isShown: (app) => app.scene.metadata.kind === "boxes" && app.scene.metadata.heads > 1,
  make: (app, root) => new Heads(app, root),
});

/** Visit the tokens whose patches a rectangle (x0, y0, x1, y1), relative to the image, covers, with the share of each. */
function forCovered(levels, [x0, y0, x1, y1], visit) {
  let start = 0;
  for (const { width, height, spanWidth, spanHeight } of levels) {
    const share = (i, span, low, high) => Math.max(0, Math.min((i + 1) / span, high) - Math.max(i / span, low)) * span;
    const from = (span, low) => Math.max(0, Math.floor(low * span));
    const to = (count, span, high) => Math.min(count, Math.ceil(high * span));
    for (let row = from(spanHeight, y0); row < to(height, spanHeight, y1); row++) {
      const down = share(row, spanHeight, y0, y1);
      for (let column = from(spanWidth, x0); column < to(width, spanWidth, x1); column++) visit(start + row * width + column, share(column, spanWidth, x0, x1) * down);
    }
    start += width * height;
  }
}

/** The share of each token's patch that lies in a rectangle. */
function coveredShares(levels, box) {
  const shares = new Float64Array(tokensOf(levels));
  forCovered(levels, box, (token, share) => { shares[token] = share; });
  return shares;
}

const scaledBox = ([x0, y0, x1, y1], factor) => {
  const [cx, cy, w, h] = [(x0 + x1) / 2, (y0 + y1) / 2, ((x1 - x0) * factor) / 2, ((y1 - y0) * factor) / 2];
  return [cx - w, cy - h, cx + w, cy + h];
};

/** For each head {inside, edges, others, elsewhere}: shares of its attention, averaged over the queries. */
function habitsOf(scene, layer, queries, boxOf, allBoxes) {
  const { levels, heads, width, height } = scene.metadata;
  const relative = ([x0, y0, x1, y1]) => [x0 / width, y0 / height, x1 / width, y1 / height];
  const sums = range(heads).map(() => ({ inside: 0, edges: 0, others: 0, elsewhere: 0 }));
  for (const query of queries) {
    const box = boxOf(query);
    const own = coveredShares(levels, relative(box));
    const [outer, inner] = [1 + BAND, 1 - BAND].map((factor) => coveredShares(levels, scaledBox(relative(box), factor)));
    const others = new Float64Array(own.length);
    const cover = (token, share) => { others[token] = Math.max(others[token], Math.min(share, 1 - own[token])); };
    for (const other of allBoxes) if (other.some((side, index) => side !== box[index])) forCovered(levels, relative(other), cover);
    for (let head = 0; head < heads; head++) {
      const sum = sums[head];
      const weights = scene.crossAttention(layer, head, query);
      let [inside, edges, beside, elsewhere] = [0, 0, 0, 0];
      for (let token = 0; token < weights.length; token++) {
        inside += weights[token] * own[token];
        edges += weights[token] * (outer[token] - inner[token]);
        beside += weights[token] * others[token];
        elsewhere += weights[token] * (1 - own[token] - others[token]);
      }
      sum.inside += inside;
      sum.edges += edges;
      sum.others += beside;
      sum.elsewhere += elsewhere;
    }
  }
  for (const sum of sums) for (const key of Object.keys(sum)) sum[key] /= queries.length;
  return sums;
}

/** Groups of heads with like maps, by average linkage; overlap is the sum of the smaller weights, averaged over queries. */
function groupsOf(scene, layer, queries) {
  const { heads } = scene.metadata;
  const overlap = range(heads).map(() => new Float64Array(heads));
  for (const query of queries) {
    const rows = range(heads).map((head) => scene.crossAttention(layer, head, query));
    for (let a = 0; a < heads; a++) for (let b = 0; b < a; b++) {
      let shared = 0;
      for (let token = 0; token < rows[a].length; token++) shared += Math.min(rows[a][token], rows[b][token]);
      overlap[a][b] = overlap[b][a] += shared / queries.length;
    }
  }
  const groups = range(heads).map((head) => [head]);
  const between = (one, other) => one.reduce((sum, a) => sum + other.reduce((part, b) => part + overlap[a][b], 0), 0) / (one.length * other.length);
  for (;;) {
    let best = [ALIKE, 0, 0];
    for (let i = 0; i < groups.length; i++) for (let j = 0; j < i; j++) if (between(groups[i], groups[j]) >= best[0]) best = [between(groups[i], groups[j]), i, j];
    const [, i, j] = best;
    if (i === j) return groups.map((group) => group.sort((a, b) => a - b));
    groups[j].push(...groups[i]);
    groups.splice(i, 1);
  }
}

class Heads {
  constructor(app, root) {
    this.app = app;
    this.note = element("p", { className: "note" });
    this.table = element("table", { className: "habits" });
    this.groups = element("p", { className: "note" });
    root.append(this.note, this.table, this.groups);
  }

  draw() {
    const { app } = this;
    const { state, scene, selection } = app;
    if (state.view !== "heads") return;
    const boxes = selection.visibleBoxes();
    const chosen = app.query();
    const candidates = chosen !== null ? [chosen] : boxes.map(({ query }) => query);
    const queries = candidates.filter((query) => scene.has(query) && selection.boxOf(query)).slice(0, MOST_QUERIES);
    const content = JSON.stringify([state.image, state.model, state.layer, queries, boxes.map(({ query }) => query)]);
    if (content !== this.content) this.measure(queries, boxes.map(({ box }) => box));
    this.content = content;
    this.table.hidden = this.groups.hidden = queries.length === 0;
    for (const row of this.table.tBodies[0]?.rows || []) row.classList.toggle("selected", Number(row.dataset.head) === state.head);
    const whose = chosen !== null ? `query ${chosen}` : `${queries.length} detections (mean)`;
    this.note.textContent = queries.length ? `Where the heads of decoder layer ${state.layer} look, of ${whose}: shares of the attention inside the box, at its edges (a band of a quarter of its size), on other boxes, and elsewhere.` : "No detection whose attention this page has.";
  }

  measure(queries, boxes) {
    if (!queries.length) return;
    const { app } = this;
    const { scene, state, selection } = app;
    const habits = habitsOf(scene, state.layer, queries, (query) => selection.boxOf(query), boxes);
    const groups = groupsOf(scene, state.layer, queries);
    const letterOf = (head) => String.fromCharCode(65 + groups.findIndex((group) => group.includes(head)));
    const cell = (share) => {
      const created = element("td", { textContent: `${Math.round(100 * share)} %` });
      created.style.setProperty("--share", Math.min(1, Math.max(0, share)));
      return created;
    };
    const rows = habits.map(({ inside, edges, others, elsewhere }, head) => {
      const button = element("button", { type: "button", textContent: head, "aria-label": `Head ${head}`, onclick: () => app.change({ head }) });
      const row = element("tr", {}, element("th", { scope: "row" }, button), ...[inside, edges, others, elsewhere].map(cell), element("td", { className: "group", textContent: letterOf(head) }));
      row.dataset.head = head;
      return row;
    });
    const titles = ["Head", "inside", "edges", "others", "elsewhere", "group"];
    this.table.replaceChildren(element("thead", {}, element("tr", {}, ...titles.map((title) => element("th", { scope: "col", textContent: title })))), element("tbody", {}, ...rows));
    const alike = groups.filter((group) => group.length > 1).map((group) => `${group.slice(0, -1).join(", ")} and ${group[group.length - 1]}`);
    this.groups.textContent = alike.length ? `Heads that look alike (their maps overlap by ${100 * ALIKE} % or more): ${alike.join("; ")}.` : `No two heads look alike: no maps overlap by ${100 * ALIKE} %.`;
  }
}
