"use strict";
// The state of the page, all of it in the address after "#", so that a copied address shows the same view.

/**
 * A field is {initial(page, scene) -> value, read(text, page, scene, image) -> value, write(value) -> text}. `read` gives undefined
 * for text that is invalid, `write` null for what the address need not say. The fields are in the address in this order.
 */
const FIELDS = new Map();

function addField(key, field) {
  FIELDS.set(key, field);
}

/** A whole number from 0 to max(page, scene); larger ones become the largest. */
function integerOf(text, max) {
  return /^\d{1,6}$/.test(text) && max >= 0 ? Math.min(Number(text), max) : undefined;
}

const integerField = (initial, max) => ({
  initial,
  read: (text, page, scene) => integerOf(text, max(page, scene)),
  write: (value) => (value === null ? null : String(value)),
});

/** A whole number, or one word; `initial` may be either. */
const wordOrInteger = (word, initial, max) => ({
  initial,
  read: (text, page, scene) => (text === word ? word : integerOf(text, max(page, scene))),
  write: String,
});

const choiceField = (choices, first) => ({
  initial: () => first,
  read: (text) => (choices.includes(text) ? text : undefined),
  write: (value) => (value === first ? null : value),
});

const flagField = (first) => ({
  initial: () => first,
  read: (text) => (/^[01]$/.test(text) ? text === "1" : undefined),
  write: (value) => (value ? "1" : "0"),
});

/** Numbers with commas between them, of which the first `accept` takes all or none. */
function numbersOf(text) {
  const numbers = text.split(",").map((part) => (part.trim() === "" ? NaN : Number(part)));
  return numbers.every(Number.isFinite) ? numbers : null;
}

addField("view", {
  initial: () => "detections",
  read: (text) => (viewNames().includes(text) ? text : undefined),
  write: String,
});
addField("query", integerField(() => null, (page, scene) => scene.queries - 1));
// Which class of the query is meant; null is its best one.
addField("label", integerField(() => null, (page) => page.classes.length - 1));
addField("point", {
  initial: () => null, // [x, y], relative to the image
  read: (text) => {
    const point = numbersOf(text);
    return point && point.length === 2 && point.every((side) => side >= 0 && side <= 1) ? point : undefined;
  },
  write: (point) => point && point.map((side) => side.toFixed(4)).join(","),
});
addField("layer", integerField((page, scene) => (page.layer === null ? scene.layers - 1 : Math.min(page.layer, scene.layers - 1)), (page, scene) => scene.layers - 1));
addField("head", wordOrInteger("mean", (page, scene) => (page.head === null ? "mean" : Math.min(page.head, scene.heads - 1)), (page, scene) => scene.heads - 1));
addField("encoder", integerField((page, scene) => Math.max(0, scene.encoderLayers - 1), (page, scene) => Math.max(0, scene.encoderLayers - 1)));
addField("level", wordOrInteger("all", () => "all", (page, scene) => scene.levels.length - 1));
addField("score", {
  initial: (page) => page.threshold,
  read: (text) => (text !== "" && Number(text) >= 0 && Number(text) <= 1 ? Number(text) : undefined),
  write: String,
});
addField("classes", {
  initial: () => [], // empty: all
  read: (text, page) => {
    const labels = text.split(",").filter((part) => /^\d{1,6}$/.test(part)).map(Number);
    return [...new Set(labels)].filter((label) => label < page.classes.length).sort((a, b) => a - b);
  },
  write: (labels) => (labels.length ? labels.join(",") : null),
});
addField("boxes", flagField(true));
addField("truth", flagField(false));
addField("smooth", flagField(true));
addField("samples", flagField(true)); // the points of deformable attention
addField("mode", choiceField(["overlay", "contour", "bare"], "overlay")); // how attention is drawn
addField("colors", choiceField(["inferno", "viridis", "cividis"], "inferno"));
addField("zoom", {
  initial: () => null, // [x, y, scale]: see `Zoom`
  read: (text) => {
    const [x, y, scale, more] = numbersOf(text) || [];
    const isInside = scale > 1 && scale <= LARGEST_ZOOM && [x, y].every((side) => side >= 0 && side <= 1 - 1 / scale + 1e-4);
    return isInside && more === undefined ? [x, y, scale] : undefined;
  },
  write: (zoom) => zoom && zoom.map((number) => number.toFixed(4)).join(","),
});
// What is shown beside it: {model, layer, head}.
addField("other", {
  initial: () => null,
  read: (text, page, scene, image) => {
    const [model, layer, head] = text.split(",");
    const number = integerOf(model, page.modelCount - 1);
    if (number === undefined) return undefined;
    const { layers, heads } = page.scenes[sceneNumber(page, image, number)];
    return { model: number, layer: integerOf(layer || "", layers - 1) ?? layers - 1, head: integerOf(head || "", heads - 1) ?? "mean" };
  },
  write: (other) => other && [other.model, other.layer, other.head].join(","),
});
addField("matrix", flagField(false)); // self-attention between queries as a matrix
addField("theme", choiceField(["auto", "light", "dark"], "auto"));

/** A page with several models has a scene of each for every image. */
const sceneNumber = (page, image, model) => image * page.modelCount + model;

function hashOf(state) {
  const parts = new URLSearchParams();
  parts.set("image", state.image);
  if (state.model > 0) parts.set("model", state.model);
  for (const [key, { write }] of FIELDS) {
    const text = write(state[key]);
    if (text !== null) parts.set(key, text);
  }
  return `#${parts.toString().replaceAll("%2C", ",")}`;
}

/** The state of an address: the initial state where it says nothing, the nearest valid value where it is invalid. */
function stateOf(hash, page) {
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  const image = integerOf(parts.get("image") || "", page.imageCount - 1) ?? 0;
  const model = integerOf(parts.get("model") || "", page.modelCount - 1) ?? 0;
  const state = { image, model };
  const scene = page.scenes[sceneNumber(page, image, model)];
  for (const [key, { initial, read }] of FIELDS) {
    const text = parts.get(key);
    const value = text === null ? undefined : read(text, page, scene, image);
    state[key] = value === undefined ? initial(page, scene) : value;
  }
  if (state.query === null) state.label = null;
  return state;
}
