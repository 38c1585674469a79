"use strict";
// What became of each true object and what each false detection is, at the minimum score that is chosen.

/** By reason of a verdict: the kind of error in the page's lists. */
const KIND_OF_REASON = { found: "found", localization: "localization", classification: "classification", threshold: "missed", taken: "missed", both: "missed", unseen: "missed" };
const STATUS = { found: "found", missed: "missed", classification: "wrong class", localization: "badly placed", duplicate: "duplicate", false: "false", ignored: "in a crowd region" };
/** Of a detection without the kind of an object's error: neither class nor place fit, or there is nothing. */
const FALSE_KINDS = ["both", "background"];

class Outcomes {
  constructor(app) {
    this.app = app;
  }

  get packed() {
    return this.app.scene.metadata.outcome;
  }

  /** The true objects: {number, name, box, rgb, query, area, layers, verdict, kind}. */
  objects() {
    if (!this.packed) return [];
    const { boxes, names } = this.app.scene.metadata.truth;
    const counts = new Map();
    return this.packed.objects.map((object, number) => {
      const name = names[number];
      counts.set(name, (counts.get(name) || 0) + 1);
      const isOnly = names.filter((other) => other === name).length === 1;
      const verdict = this.verdictOf(object);
      const { color } = this.app.page.classes.find((each) => each.name === name);
      return { ...object, number, className: name, name: isOnly ? name : `${name} ${counts.get(name)}`, box: boxes[number], rgb: color, verdict, kind: KIND_OF_REASON[verdict.reason] };
    });
  }

  /** Some models compute predictions in training after each layer, else after the last one alone: all layers then have its. */
  get predictsLastAlone() {
    const isSame = (layers) => layers.every(({ score, best, box }) => String([score, best, ...box]) === String([layers[0].score, layers[0].best, ...layers[0].box]));
    return this.packed.objects.every(({ layers }) => layers.length > 1 && isSame(layers));
  }

  /** Verdicts go from the highest threshold to the lowest; each holds up to its own. */
  verdictOf({ verdicts }) {
    return verdicts.filter(({ threshold }) => threshold >= this.app.state.score).pop();
  }

  /** The detections above the minimum score, as in the list of detections, with error, object and crowd region. */
  judged() {
    if (!this.packed) return [];
    const { kinds, objectsOf, regionsOf } = this.packed;
    return this.app.selection
      .detections()
      .map((detection, number) => ({ ...detection, error: kinds[number], object: objectsOf[number], region: regionsOf[number] }))
      .filter(({ score }) => score >= this.app.state.score);
  }

  /** Those that are wrong, with their kind. */
  falseDetections() {
    const wrong = this.judged().filter(({ error }) => error !== null);
    return wrong.map((detection) => ({ ...detection, kind: FALSE_KINDS.includes(detection.error) ? "false" : detection.error }));
  }

  /** Those inside a crowd region of their class, which the evaluation ignores. */
  ignoredDetections() {
    return this.judged().filter(({ region }) => region !== null).map((detection) => ({ ...detection, kind: "ignored" }));
  }

  /** The chosen object, or null. */
  chosen() {
    const { object, view } = this.app.state;
    return object === null || view !== "why" ? null : this.objects()[object] ?? null;
  }

  /** The smallest true box at a point, whose coordinates are relative to the image. */
  at([x, y]) {
    const { width, height } = this.app.scene.metadata;
    const area = ({ box: [x0, y0, x1, y1] }) => (x1 - x0) * (y1 - y0);
    const hit = this.objects().filter(({ box: [x0, y0, x1, y1] }) => x * width >= x0 && x * width <= x1 && y * height >= y0 && y * height <= y1);
    return hit.sort((a, b) => area(a) - area(b))[0] ?? null;
  }
}
