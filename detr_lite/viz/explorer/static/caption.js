"use strict";
// The line above the image, which says whose attention is shown; it is announced when something is selected.

function drawCaption(app) {
  const caption = $("caption");
  const { dot, title, text } = captionOf(app);
  const parts = [element("b", { textContent: title }), element("span", { textContent: text })];
  caption.replaceChildren(element("span", { className: "lines" }, ...(dot ? [element("i", { className: "dot", color: dot })] : []), ...parts));
  $("samples-note").textContent = app.samples ? samplesNote(app.samples) : "";
  // Announced when it is selected, not while it is hovered.
  const announcement = `${title} ${text} ${$("samples-note").textContent}`.replace(/\s+/g, " ").trim();
  if (app.hovered === null && $("live").textContent !== announcement) $("live").textContent = announcement;
}

function captionOf(app) {
  const { state, scene, selection } = app;
  const object = app.hovered === null ? app.why.caption() : null;
  if (object !== null) return object;
  const query = selection.query();
  if (query !== null) return queryCaption(app, query);
  if (state.view === "point" && state.point !== null)
    return { dot: "var(--accent)", title: scene.isText ? `From “${scene.metadata.sourceWords[app.token()]}”` : "From this point", text: pointCaption(app) };
  const { length } = selection.visible();
  const [one, several] = NOUNS[scene.metadata.kind];
  if (scene.isText) return { title: `${length} ${length === 1 ? one : several}`, text: "choose a row, or a source word above the columns" };
  if (state.view === "links" && app.matrix) return { title: "Between queries", text: `self-attention, decoder ${app.selfAttentionLabel()}; choose a row` };
  const hint = state.view === "point" ? "click any point of the image" : length ? `hover a ${one === "detection" ? "box" : one}, or click anywhere` : "click anywhere";
  if (selection.areGuesses) return { title: `${length} best guess${length === 1 ? "" : "es"}`, text: `below the score ${state.score.toFixed(2)}; ${hint}` };
  return { title: length ? `${length} ${length === 1 ? one : several}` : `No ${several}`, text: hint };
}

function queryCaption(app, query) {
  const { scene, selection } = app;
  const shown = selection.shown(query);
  const isBelow = Boolean(shown) && selection.isBelow(shown);
  const title = shown ? titleOf(shown) : "No detection";
  const what = app.links
    ? `self-attention of query ${query}, decoder ${app.selfAttentionLabel()}`
    : app.sourceText(query) || (scene.has(query) ? `cross-attention of query ${query}, decoder ${app.decoderLabel()}` : `the cross-attention of query ${query} was left out of this page`);
  return { dot: shown ? css(shown.rgb) : "transparent", title, text: isBelow ? `a guess, below ${app.state.score.toFixed(2)} · ${what}` : what };
}

function pointCaption({ state, scene, heatmap, matrix }) {
  if (heatmap || (matrix && scene.encoderRows.has(state.encoder))) return `encoder self-attention, layer ${state.encoder}, mean of heads`;
  if (scene.metadata.encoderLayers) return `encoder layer ${state.encoder} was left out of this page; the list has the queries that attend here`;
  return `${scene.noEncoder}; the list has the queries that attend here`;
}

/** "96 sampled points; 12 % of the weight fell outside the image." */
function samplesNote({ points, outside }) {
  const share = outside === 0 ? "none" : outside < 0.005 ? "less than 1 %" : `${Math.round(100 * outside)} %`;
  return `${points.length} sampled points; ${share} of the weight fell outside the image.`;
}
