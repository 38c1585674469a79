"use strict";
// Which map of a query is over the image: its attention, or relevance or occlusion of detections that the page has them of.

const ATTENTION = "attention"; // the map that needs no source of its own

addField("source", {
  initial: () => ATTENTION,
  read: (text, page) => (SOURCES.has(text) && page.scenes.some(({ attribution }) => attribution) ? text : undefined),
  write: (source) => (source === ATTENTION ? null : source),
});

SOURCES.set("relevance", {
  title: "relevance",
  caption: (query) => `relevance of query ${query}: attention times its gradient, over all layers and heads`,
  unit: "relative relevance, per token; no unit",
  reading: "relative relevance; no unit",
  format: (value, peak) => (value === 0 ? "0" : (value / peak).toFixed(2)),
  row: (scene, query, label) => scene.attributed("relevance", query, label),
  extent: "all layers",
  headExtent: "all heads",
  note: "Relevance is of all layers and heads together. It is relative: 1 is its largest value.",
});

SOURCES.set("occlusion", {
  title: "occlusion",
  caption: (query) => `occlusion of query ${query}: how much of its score is lost when a part of the image is hidden`,
  unit: "share of the score lost when it is hidden",
  reading: "of the score is lost when this is hidden",
  format: (value) => percent(value),
  row: (scene, query, label) => scene.attributed("occlusion", query, label),
  levels: (scene) => [scene.metadata.attribution.grid],
  extent: "whole model",
  headExtent: "whole model",
  note: "Occlusion is of the whole model, not of a layer. It is 0 where hiding raises the score.",
});

/** The heatmap of a source as `app.source` gives it; `level` as in the state. */
function heatmapOfSource(source, scene, level) {
  const levels = source.levels ? source.levels(scene) : scene.metadata.levels;
  const heatmap = new Heatmap(source.row, levels, !source.levels && levels[level] ? level : "all", source.unit);
  return Object.assign(heatmap, { reading: source.reading, format: (value) => source.format(value, heatmap.peak) });
}

/** The choice of the map, and a line that says what it is or why attention is shown instead. */
class SourceChoice {
  constructor(app) {
    this.app = app;
    for (const name of [ATTENTION, ...SOURCES.keys()]) $("source").append(element("option", { value: name, textContent: name }));
    $("source").addEventListener("change", () => this.choose($("source").value));
    document.querySelector("#help .of-maps").hidden = !app.page.scenes.some(({ attribution }) => attribution);
  }

  get attribution() {
    return this.app.scene.metadata.attribution ?? null;
  }

  /** What is hovered stays. */
  choose(source) {
    this.app.change({ source, ...this.app.controls.kept() });
  }

  next() {
    const names = [ATTENTION, ...SOURCES.keys()];
    this.choose(names[(names.indexOf(this.app.state.source) + 1) % names.length]);
  }

  /** Of panels that are about attention, so that the image beside them has to be, too. */
  get isAboutAttention() {
    const { view } = this.app.state;
    return view === "links" || PANELS.some((panel) => panel.view === view && panel.isAboutAttention);
  }

  /** The chosen source; null for attention, or where attention is all that can be shown. */
  get chosen() {
    return this.attribution === null || this.isAboutAttention ? null : SOURCES.get(this.app.state.source) ?? null;
  }

  /** The source that is shown, or is to be as soon as a detection is chosen. */
  get shown() {
    const query = this.app.query();
    if (query !== null) return this.app.source(query);
    return this.app.state.view === "point" && this.app.state.point !== null ? null : this.chosen;
  }

  open() {
    const isThere = this.attribution !== null;
    $("source-label").hidden = $("source-note").hidden = !isThere;
    $("mode-name").textContent = isThere ? "Drawn" : "Attention";
    document.body.classList.toggle("attributed", isThere);
  }

  draw() {
    const { state, scene } = this.app;
    $("source").value = state.source;
    $("source").disabled = this.isAboutAttention;
    $("source").title = this.isAboutAttention ? "This panel is about attention" : "Another map of the detection (e)";
    $("source-note").textContent = this.attribution === null || state.source === ATTENTION ? "" : this.note();
    const { shown } = this;
    const isWhole = shown !== null;
    $("layer").disabled = $("play-layers").disabled = isWhole || scene.metadata.layers < 2;
    $("head").disabled = isWhole || scene.metadata.heads < 2;
    $("level").disabled = isWhole && shown.levels !== undefined;
    for (const id of ["layer", "head", "level"]) $(id).title = isWhole && $(id).disabled ? shown.note : "";
    if (isWhole && this.app.controls.player.timer !== null) this.app.controls.player.stop();
  }

  note() {
    const { app, attribution } = this;
    const { title } = SOURCES.get(app.state.source);
    const query = app.query();
    if (this.isAboutAttention) return "This panel is about attention, and so is the map.";
    if (query !== null && this.shown === null) {
      const count = attribution.queries.length;
      return `${capitalized(title)} exists for the ${count === 1 ? "detection" : `${count} detections`} of highest score only; this is attention.`;
    }
    return this.shown === null ? "From a point, the map is the encoder's attention." : this.shown.note;
  }
}
