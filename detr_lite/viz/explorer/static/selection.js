"use strict";
// What the state selects: detections above the threshold, the best guesses without any, and the query that is shown.

const WORD_COLOR = [140, 140, 150];
const WELL_FOUND = 0.8; // share of the best score that makes a detection one of the well-found ones

/** "cup 0.90", or the word of a sentence. */
const titleOf = ({ name, score }) => (score === null ? name : `${name} ${score.toFixed(2)}`);

/** What the queries of a scene give, by its kind: one, several. */
const NOUNS = { boxes: ["detection", "detections"], lines: ["line", "lines"], words: ["word", "words"] };
const capitalized = (text) => text[0].toUpperCase() + text.slice(1);

class Selection {
  constructor(app) {
    this.app = app;
    this.scene = null;
  }

  get state() {
    return this.app.state;
  }

  /** A class of the page by its label. */
  classOf(label) {
    const { name, color } = this.app.page.classes[label];
    return { label, name, rgb: color };
  }

  /** All detections of the image, in descending order of scores. A query may be detected as several classes. */
  detections() {
    const { scene } = this.app;
    if (this.scene === scene) return this.found;
    const { boxes, lines, scores, labels, queries } = scene.metadata.detections;
    this.scene = scene;
    this.found = scene.metadata.words
      ? scene.metadata.words.map((_, query) => this.word(query))
      : boxes.map((box, i) => ({ box, line: lines ? lines[i] : null, score: scores[i], query: queries[i], ...this.classOf(labels[i]) }));
    return this.found;
  }

  /** A word of a sentence, which is always shown. */
  word(query) {
    return { query, label: null, name: `“${this.app.scene.metadata.words[query]}”`, rgb: WORD_COLOR, box: null, line: null, score: null };
  }

  isBelow({ score }) {
    return score !== null && score < this.state.score;
  }

  ofClasses() {
    const { classes } = this.state;
    return classes.length ? this.detections().filter(({ label }) => classes.includes(label)) : this.detections();
  }

  /** Detections of the selected classes that reach the score threshold. */
  above() {
    return this.ofClasses().filter((detection) => !this.isBelow(detection));
  }

  /** Whether no score reaches the threshold, so that the best guesses are shown. */
  get areGuesses() {
    return this.ofClasses().length > 0 && this.above().length === 0;
  }

  /** The detections that are shown: those above the threshold, else the best guesses. */
  visible() {
    const key = JSON.stringify([this.state.image, this.state.model, this.state.score, this.state.classes]);
    if (key === this.visibleKey && this.scene === this.app.scene) return this.shownDetections;
    const above = this.above();
    this.visibleKey = key;
    this.shownDetections = above.length ? above : this.ofClasses().slice(0, this.app.page.guesses);
    return this.shownDetections;
  }

  /** The best detection of each query, for boxes: a query has one box, whatever the number of its classes. */
  visibleBoxes() {
    const best = new Map();
    for (const detection of this.visible()) if (detection.box !== null && !best.has(detection.query)) best.set(detection.query, detection);
    const chosen = this.query() === null ? null : this.shown(this.query());
    if (chosen && best.has(chosen.query)) best.set(chosen.query, chosen);
    return [...best.values()];
  }

  /** A query with its own box and best class, even if it detects nothing; null if the page does not know them. */
  own(query) {
    if (this.app.scene.metadata.words) return this.word(query);
    const summary = this.app.scene.metadata.querySummaries[query];
    return summary && { query, box: summary.box, line: summary.line ?? null, score: summary.score, ...this.classOf(summary.label) };
  }

  /** A query as what it is shown: the class that was chosen, its best visible detection, else its own best class. */
  shown(query) {
    const { state } = this;
    const { hovered } = this.app;
    const isOf = (label) => (detection) => detection.query === query && (label === null || detection.label === label);
    const label = hovered && hovered.query === query ? hovered.label : state.query === query ? state.label : null;
    return this.detections().find((detection) => label !== null && isOf(label)(detection)) || this.visible().find(isOf(null)) || this.own(query);
  }

  boxOf(query) {
    const own = this.own(query);
    return own ? own.box : null;
  }

  /** The query whose attention is shown. */
  query() {
    return this.app.hovered !== null ? this.app.hovered.query : this.state.query;
  }

  isShown({ query, label }) {
    const shown = this.query() === query ? this.shown(query) : null;
    return shown !== null && shown.label === label;
  }

  /** What an opened page shows: the largest of the well-found detections, the best of the guesses. */
  first() {
    const visible = this.visible();
    if (!visible.length || this.areGuesses || visible[0].box === null) return visible[0] || null;
    const area = ({ box: [x0, y0, x1, y1] }) => (x1 - x0) * (y1 - y0);
    const wellFound = visible.filter(({ score }) => score >= WELL_FOUND * visible[0].score);
    return wellFound.reduce((largest, detection) => (area(detection) > area(largest) ? detection : largest));
  }
}
