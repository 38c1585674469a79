"use strict";
// The state of the page, all of it in the address after "#", so that a copied address shows the same view.

const VIEWS = ["detections", "point", "links"];

/** The state of an image when it is opened. */
function initialState(page, image) {
  const scene = page.scenes[image];
  return {
    image,
    view: "detections",
    query: null,
    point: null, // [x, y], relative to the image
    layer: page.layer === null ? scene.layers - 1 : page.layer,
    head: page.head === null ? "mean" : page.head,
    encoder: Math.max(0, scene.encoderLayers - 1),
    level: "all",
    score: page.threshold,
    classes: [], // empty: all
    boxes: true,
    truth: false,
    smooth: true,
    samples: true, // the points of deformable attention
    theme: "auto",
  };
}

function hashOf(state) {
  const parts = new URLSearchParams();
  parts.set("image", state.image);
  parts.set("view", state.view);
  if (state.query !== null) parts.set("query", state.query);
  if (state.point !== null) parts.set("point", state.point.map((side) => side.toFixed(4)).join(","));
  for (const key of ["layer", "head", "encoder", "level", "score"]) parts.set(key, state[key]);
  if (state.classes.length) parts.set("classes", state.classes.join(","));
  for (const key of ["boxes", "truth", "smooth", "samples"]) parts.set(key, state[key] ? 1 : 0);
  if (state.theme !== "auto") parts.set("theme", state.theme);
  return `#${parts.toString().replaceAll("%2C", ",")}`;
}

/** The state of an address: the initial state where it says nothing, the nearest valid value where it is invalid. */
function stateOf(hash, page) {
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  const integer = (key, max) => {
    const text = parts.get(key);
    return text !== null && /^\d{1,6}$/.test(text) ? Math.min(Number(text), max) : null;
  };

  const state = initialState(page, integer("image", page.scenes.length - 1) ?? 0);
  const scene = page.scenes[state.image];
  if (VIEWS.includes(parts.get("view"))) state.view = parts.get("view");
  state.query = integer("query", scene.queries - 1);
  state.layer = integer("layer", scene.layers - 1) ?? state.layer;
  state.head = parts.get("head") === "mean" ? "mean" : integer("head", scene.heads - 1) ?? state.head;
  state.encoder = integer("encoder", Math.max(0, scene.encoderLayers - 1)) ?? state.encoder;
  state.level = parts.get("level") === "all" ? "all" : integer("level", scene.levels.length - 1) ?? "all";
  const point = (parts.get("point") || "").split(",").map(Number);
  if (parts.get("point") && point.length === 2 && point.every((side) => side >= 0 && side <= 1)) state.point = point;
  const score = parts.has("score") ? Number(parts.get("score")) : NaN;
  if (score >= 0 && score <= 1) state.score = score;
  const classes = (parts.get("classes") || "").split(",").filter((text) => /^\d{1,6}$/.test(text)).map(Number);
  state.classes = [...new Set(classes)].filter((label) => label < page.classes.length).sort((a, b) => a - b);
  for (const key of ["boxes", "truth", "smooth", "samples"]) if (/^[01]$/.test(parts.get(key) || "")) state[key] = parts.get(key) === "1";
  if (["light", "dark"].includes(parts.get("theme"))) state.theme = parts.get("theme");
  return state;
}
