"use strict";
// The panel that says which map of a detection is right: what happens to its score when the places of each map are hidden or shown.

const MAPS = [ATTENTION, ...SOURCES.keys()];
const RANKINGS = { attention: "Attention", relevance: "Relevance", occlusion: "Occlusion", box: "Distance to the box", random: "Random order" };
const KINDS_OF_CURVES = {
  deletion: { title: "Deletion", better: "lower is better", xTitle: "cells hidden, those first to which the map gives most", best: Math.min },
  insertion: { title: "Insertion", better: "higher is better", xTitle: "cells shown, those first to which the map gives most", best: Math.max },
};
const ABOUT_MAPS = {
  Attention: "says where a layer read from, not what the answer depends on: the values that it read may be small, later layers and the residual connections carry information too, and each token already holds some of its neighbors, which backbone and encoder mix into it.",
  Relevance: "is a rule of thumb: it weights the attention of all layers with its gradient, and leaves out what happens between them.",
  Occlusion: "asks the model itself, but with pictures such as it has never seen. It hides parts of the image as deletion does, so that the curves favor it.",
};

const TOLD_APART = 0.02; // areas that differ by less count as equal: another image would change their order
const hundredths = (value) => Number(value.toFixed(2)); // as they are shown
const listed = (names) => (names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`);

/** What the areas under the curves say, in plain sentences that never contradict the numbers shown. */
function verdictOf(deletion, insertion, subject) {
  const [low, high] = [deletion, insertion].map((areas) => Object.fromEntries(Object.entries(areas).map(([name, area]) => [name, hundredths(area)])));
  const of = (areas, names) => names.map((name) => `${name} ${areas[name].toFixed(2)}`).join(", ");
  const areasOf = (areas, names) => (new Set(names.map((name) => areas[name])).size > 1 ? of(areas, names) : areas[names[0]].toFixed(2));
  const isBelow = (one, other) => hundredths(other - one) >= TOLD_APART;
  const winnersIn = (areas, best) => MAPS.filter((name) => Math.abs(hundredths(areas[name] - best(...MAPS.map((map) => areas[map])))) < TOLD_APART);
  const first = winnersIn(low, Math.min);
  const least = Math.min(...first.map((name) => low[name]));
  const rest = MAPS.filter((name) => !first.includes(name));
  const sentences = [];
  if (!isBelow(least, low.random)) sentences.push(`${subject} no map finds what the score depends on sooner than random order does (deletion: ${of(low, [...MAPS, "random"])}).`);
  else sentences.push(`${subject} ${listed(first)} ${first.length > 1 ? "find" : "finds"} what the score depends on ${rest.length ? "soonest" : "equally soon"} (deletion ${areasOf(low, first)}; ${of(low, [...rest, "random"])}).`);
  const box = `the distance to the box (${low.box.toFixed(2)})`;
  if (isBelow(low.box, least)) sentences.push(`The distance to the box alone does better than any of them (${low.box.toFixed(2)}).`);
  else if (!isBelow(low.attention, low.box)) sentences.push(`Attention does no better than ${box}.`);
  else sentences.push(`Attention does better than ${box}.`);
  const second = winnersIn(high, Math.max);
  const most = Math.max(...second.map((name) => high[name]));
  if (!isBelow(high.random, most)) sentences.push(`In insertion no map does better than random order (${high.random.toFixed(2)}).`);
  else if (String(second) !== String(first)) sentences.push(`In insertion ${listed(second)} ${second.length > 1 ? "are" : "is"} best (${areasOf(high, second)}).`);
  return sentences.join(" ");
}

class MapsPanel {
  constructor(app, root) {
    this.app = app;
    this.root = root;
    this.note = element("p", { className: "note" });
    this.title = element("h2", {});
    this.sentence = element("p", { className: "sentence" });
    this.charts = element("div", { className: "charts" });
    this.table = element("table", { className: "areas" });
    const about = element("div", { className: "about-maps" }, element("h3", { textContent: "What attention explains, and what it does not" }), ...Object.entries(ABOUT_MAPS).map(([name, text]) => element("p", { className: "note" }, element("b", { textContent: name }), ` ${text}`)));
    root.append(this.note, element("div", { className: "verdict" }, this.title, this.sentence), this.charts, this.table, about);
  }

  draw() {
    const { app } = this;
    const { attribution } = app.scene.metadata;
    if (app.state.view !== "maps" || !attribution) return;
    const query = app.query();
    const index = query === null ? null : app.scene.attributedIndex(query, app.selection.shown(query)?.label ?? null);
    const content = JSON.stringify([app.state.image, app.state.model, index, query === null, app.state.source]);
    if (content === this.content) return;
    this.content = content;
    const count = attribution.queries.length;
    const detections = count === 1 ? "the detection" : `the ${count} detections`;
    this.note.hidden = index !== null;
    this.note.textContent = query === null ? `Choose ${count === 1 ? "" : "one of "}${detections} of highest score to see its own curves.` : `Curves exist for ${detections} of highest score only.`;
    this.drawTitle(attribution, index);
    const areas = (kind) => (index === null ? this.means(attribution, kind) : this.ownAreas(attribution, kind, index));
    this.sentence.textContent = verdictOf(areas("deletion"), areas("insertion"), index === null && count > 1 ? "On average" : "For this detection");
    this.charts.replaceChildren(...Object.keys(KINDS_OF_CURVES).map((kind) => this.chart(attribution, kind, index, areas(kind))));
    this.drawTable(attribution, index);
  }

  drawTitle({ queries, labels }, index) {
    const { app } = this;
    if (index === null) return this.title.replaceChildren(queries.length === 1 ? "One detection" : `Mean of ${queries.length} detections`);
    const { name, rgb } = app.selection.classOf(labels[index]);
    const found = app.selection.detections().find(({ query, label }) => query === queries[index] && label === labels[index]);
    return this.title.replaceChildren(element("i", { className: "dot", color: css(rgb) }), found ? titleOf(found) : name);
  }

  ownAreas({ areas }, kind, index) {
    return Object.fromEntries(Object.keys(RANKINGS).map((name) => [name, areas[kind][name][index]]));
  }

  means({ areas, queries }, kind) {
    return Object.fromEntries(Object.keys(RANKINGS).map((name) => [name, areas[kind][name].reduce((sum, area) => sum + area, 0) / queries.length]));
  }

  chart(attribution, kind, index, areas) {
    const { title, better, xTitle } = KINDS_OF_CURVES[kind];
    const lines = Object.keys(RANKINGS).map((name) => {
      const rows = index === null ? attribution[kind][name] : [attribution[kind][name][index]];
      const values = attribution.fractions.map((_, point) => rows.reduce((sum, row) => sum + row[point], 0) / rows.length);
      const isMap = MAPS.includes(name);
      return { name, label: name, values, isChosen: name === this.app.state.source, choose: isMap ? () => this.choose(name) : null };
    });
    const numbers = lines.map(({ name }) => `${RANKINGS[name].toLowerCase()} ${areas[name].toFixed(2)}`).join(", ");
    const svg = curveChart(attribution.fractions, lines, { xTitle, label: `${title}, ${better}: the score as a share of that on the whole image. Areas under the curves: ${numbers}.` });
    return element("figure", {}, element("figcaption", {}, element("b", { textContent: title }), ` ${better}`), svg);
  }

  /** The curves of attention are of the last layer's, the mean over heads. */
  choose(name) {
    const last = { layer: this.app.scene.metadata.layers - 1, head: "mean" };
    this.app.change({ source: name, ...(name === ATTENTION ? last : {}), ...this.app.controls.kept() });
  }

  /** The area under each curve; the best of a column is bold. */
  drawTable(attribution, index) {
    const count = attribution.queries.length;
    const groups = [];
    if (index !== null) groups.push(["This detection", (kind) => this.ownAreas(attribution, kind, index)]);
    if (index === null || count > 1) groups.push([`Mean of ${count}`, (kind) => this.means(attribution, kind)]);
    const kinds = Object.keys(KINDS_OF_CURVES);
    const columns = groups.flatMap(([, areasOf]) => kinds.map((kind) => ({ kind, areas: areasOf(kind) })));
    const rows = Object.keys(RANKINGS).map((name) => this.rowOf(name, columns));
    const focused = [...this.table.querySelectorAll("tbody button")].indexOf(document.activeElement);
    this.table.replaceChildren(
      element("caption", { textContent: "Area under each curve, the mean score: in deletion lower is better, in insertion higher. Attention is the last layer's, the mean of its heads; gray orders know nothing of the model. Choose a map to see it." }),
      element("thead", {},
        element("tr", {}, element("td", {}), ...groups.map(([title]) => element("th", { scope: "colgroup", colSpan: kinds.length, textContent: title }))),
        element("tr", {}, element("th", { scope: "col", textContent: "Map" }), ...columns.map(({ kind }) => element("th", { scope: "col", textContent: KINDS_OF_CURVES[kind].title })))),
      element("tbody", {}, ...rows),
    );
    if (focused >= 0) this.table.querySelectorAll("tbody button")[focused].focus();
  }

  rowOf(name, columns) {
    const isChosen = name === this.app.state.source;
    const sample = shape("svg", { viewBox: "0 0 18 8", "aria-hidden": true });
    sample.append(shape("line", { class: `curve ${name}`, x1: 0, x2: 18, y1: 4, y2: 4 }));
    const text = element("span", { textContent: RANKINGS[name] });
    const head = MAPS.includes(name) ? element("button", { type: "button", "aria-pressed": String(isChosen), onclick: () => this.choose(name) }, sample, text) : element("span", { className: "control" }, sample, text);
    const cells = columns.map(({ kind, areas }) => {
      const best = KINDS_OF_CURVES[kind].best(...Object.values(areas).map(hundredths));
      const number = areas[name].toFixed(2);
      return element("td", {}, hundredths(areas[name]) === best ? element("strong", { textContent: number }) : number);
    });
    const row = element("tr", { className: isChosen ? "chosen" : "" }, element("th", { scope: "row" }, head), ...cells);
    if (MAPS.includes(name)) row.addEventListener("click", (event) => event.target.closest("button") || this.choose(name));
    return row;
  }
}

addPanel({
  view: "maps",
  title: "Which map is right?",
  key: "a",
  isShown: (app) => Boolean(app.scene.metadata.attribution),
  make: (app, root) => new MapsPanel(app, root),
});
