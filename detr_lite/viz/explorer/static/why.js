"use strict";
// The panel of true objects: which were found, which were missed, and why.

addField("object", integerField(() => null, (page, scene) => (scene.outcome ? scene.outcome.objects.length - 1 : -1)));
addField("errors", choiceField(["all", "missed", "classification", "localization", "duplicate", "false", "ignored"], "all"));

const keyOfObject = (number) => `object ${number}`;

class WhyPanel {
  constructor(app, root) {
    this.app = app;
    this.outcomes = new Outcomes(app);
    this.note = element("p", { className: "note" });
    this.answer = element("div", { className: "answer", hidden: true });
    this.chips = element("div", { className: "chips", role: "group", "aria-label": "Filter by kind of error" });
    this.listRoot = element("div", { className: "list", role: "listbox", "aria-label": "True objects, and detections that are false or ignored", id: "why-list" });
    root.append(this.note, this.answer, this.chips, this.listRoot);
    this.list = new OptionList(this.listRoot, { choose: (key) => this.choose(key), hover: () => {} });
  }

  /** Another image: one whose true objects are not in the page has no panel. */
  open() {
    $("tab-why").hidden = !this.outcomes.packed;
  }

  /** An object, with its nearest query; or a detection that is false or ignored. */
  choose(key) {
    const object = this.outcomes.objects().find(({ number }) => keyOfObject(number) === key);
    if (object) return this.chooseObject(object);
    const detection = this.outcomes.judged().find((each) => keyOf(each) === key);
    if (detection) this.app.change({ object: null, query: detection.query, label: detection.label });
  }

  chooseObject({ number, verdict }) {
    this.app.change({ view: "why", object: number, query: verdict.query });
  }

  draw() {
    if (this.app.state.view !== "why") return;
    if (!this.outcomes.packed) return this.app.change({ view: "detections" }, { replace: true });
    const objects = this.outcomes.objects();
    const wrong = this.outcomes.falseDetections();
    const ignored = this.outcomes.ignoredDetections();
    const detections = [...wrong, ...ignored];
    const missing = objects.filter(({ kind }) => kind !== "found").length;
    const count = `${objects.length} true object${objects.length === 1 ? "" : "s"}`;
    const state = `${count}, ${missing} not found and ${wrong.length} false detection${wrong.length === 1 ? "" : "s"} at the minimum score ${this.app.state.score.toFixed(2)}.`;
    const inside = ignored.length ? ` ${ignored.length} more in crowd regions ${ignored.length === 1 ? "counts" : "count"} neither as right nor as false.` : "";
    this.note.textContent = objects.length + detections.length ? `${state}${inside} Choose one here or in the image.` : "This image has no true objects, and no false detection at this score.";
    this.drawAnswer(detections);
    this.note.hidden = !this.answer.hidden;
    this.drawChips([...objects.filter(({ kind }) => kind !== "found"), ...detections], objects.length + detections.length);
    this.drawList(objects, detections);
  }

  /** What the line above the image says of the chosen object, as `captionOf`; null without one. */
  caption() {
    const object = this.outcomes.chosen();
    return object && { dot: css(object.rgb), title: `${object.name}: ${STATUS[object.kind]}`, text: object.verdict.sentence };
  }

  drawChips(errors, all) {
    const { errors: chosen } = this.app.state;
    const kinds = Object.keys(STATUS).filter((kind) => kind === chosen || errors.some((each) => each.kind === kind));
    const chip = (kind, title, number) => {
      const button = element("button", { type: "button", className: "chip", "aria-pressed": String(kind === chosen) }, element("span", { textContent: title }), element("span", { className: "count", textContent: number }));
      button.addEventListener("click", () => this.app.change({ errors: kind }));
      return button;
    };
    const focused = [...this.chips.children].indexOf(document.activeElement);
    this.chips.hidden = kinds.length === 0;
    this.chips.replaceChildren(
      chip("all", "all", all),
      ...kinds.map((kind) => chip(kind, STATUS[kind], errors.filter((each) => each.kind === kind).length)),
    );
    if (focused >= 0) this.chips.children[Math.min(focused, this.chips.children.length - 1)].focus();
  }

  drawList(objects, detections) {
    const { errors, object, query } = this.app.state;
    const isShown = ({ kind }) => errors === "all" || errors === kind;
    const entries = objects.filter(isShown).map(({ number, name, kind, rgb, layers }) => ({
      key: keyOfObject(number),
      label: `True object ${name}, ${STATUS[kind]}`,
      color: css(rgb),
      text: name,
      detail: STATUS[kind],
      number: kind === "found" ? "✓" : "",
      share: kind === "found" ? 1 : 0,
    }));
    const wrong = detections.filter(isShown).map((detection) => ({
      key: keyOf(detection),
      label: `${detection.kind === "ignored" ? "Ignored" : "False"} detection ${detection.name}, ${STATUS[detection.kind]}, score ${detection.score.toFixed(2)}, query ${detection.query}`,
      color: css(detection.rgb),
      text: `${detection.name}, query ${detection.query}`,
      detail: { false: "false detection", ignored: "ignored: in a crowd region" }[detection.kind] ?? `false: ${STATUS[detection.kind]}`,
      number: detection.score.toFixed(2),
      share: detection.score,
    }));
    const shown = query === null ? null : this.app.selection.shown(query);
    const selected = object !== null ? keyOfObject(object) : shown ? keyOf(shown) : null;
    this.list.fill([...entries, ...wrong], selected);
  }

  drawAnswer(detections) {
    const { app } = this;
    const object = this.outcomes.chosen();
    const shown = object || app.state.query === null ? null : app.selection.shown(app.state.query);
    const wrong = shown ? detections.find((each) => keyOf(each) === keyOf(shown)) : null;
    this.answer.hidden = !object && !wrong;
    if (object) this.answer.replaceChildren(...this.answerOf(object));
    else if (wrong) this.answer.replaceChildren(...this.answerOfDetection(wrong));
  }

  answerOf(object) {
    const { app } = this;
    const { verdict } = object;
    const title = element("h3", {}, element("i", { className: "dot", color: css(object.rgb) }), `${object.name}: ${STATUS[object.kind]}`);
    const queries = [[object.query, `Query ${object.query}, the nearest`]];
    if (verdict.query !== object.query) queries.push([verdict.query, `Query ${verdict.query}`]);
    const buttons = queries.map(([query, text]) => {
      const button = element("button", { type: "button", className: "chip", textContent: text, "aria-pressed": String(app.state.query === query) });
      button.addEventListener("click", () => app.change({ query }));
      return button;
    });
    return [
      title,
      element("p", { className: "sentence", textContent: verdict.sentence }),
      element("div", { className: "chips", role: "group", "aria-label": "Where did it look?" }, ...buttons),
      this.layersOf(object),
      element("p", { className: "note", textContent: `On it: share of the query's attention inside the true box, which covers ${percent(object.area)} of the image.${this.outcomes.predictsLastAlone ? " This model predicts after its last layer alone." : ""}` }),
    ];
  }

  answerOfDetection(detection) {
    if (detection.kind === "ignored") return this.answerOfIgnored(detection);
    const { title, meaning } = this.app.page.errorKinds[detection.error];
    const object = detection.object === null ? null : this.outcomes.objects()[detection.object];
    const parts = [
      element("h3", {}, element("i", { className: "dot", color: css(detection.rgb) }), `${detection.name} ${detection.score.toFixed(2)}: ${title.toLowerCase()}`),
      element("p", { className: "sentence", textContent: `Query ${detection.query}: ${meaning}.` }),
    ];
    if (object) {
      const button = element("button", { type: "button", className: "chip", textContent: `The object: ${object.name}` });
      button.addEventListener("click", () => this.chooseObject(object));
      parts.push(element("div", { className: "chips" }, button));
    }
    return parts;
  }

  answerOfIgnored(detection) {
    const region = this.app.scene.metadata.crowds.names[detection.region];
    return [
      element("h3", {}, element("i", { className: "dot", color: css(detection.rgb) }), `${detection.name} ${detection.score.toFixed(2)}: ignored`),
      element("p", { className: "sentence", textContent: `Query ${detection.query}: most of its box lies in a region that is annotated as a crowd of the class ${region}, whose objects have no boxes of their own; as in COCO's evaluation, it counts neither as right nor as false.` }),
    ];
  }

  /** What the nearest query said, layer by layer; the layer that the page shows is marked. */
  layersOf(object) {
    const { app } = this;
    const heading = (text) => element("th", { scope: "col", textContent: text });
    const first = this.outcomes.predictsLastAlone ? object.layers.length - 1 : 0; // that predicts
    const rows = object.layers.map(({ score, label, best, iou, inside }, layer) => {
      const button = element("button", { type: "button", textContent: String(layer), "aria-label": `Show layer ${layer}` });
      button.addEventListener("click", () => app.change({ layer, query: object.query }, { replace: true }));
      const row = element("tr", {}, element("th", { scope: "row" }, button));
      if (layer === app.state.layer) row.setAttribute("aria-current", "true");
      const name = app.page.classes[label].name;
      const said = [score === null ? "–" : score.toFixed(2), name === object.className ? "the same" : `${name} ${best.toFixed(2)}`, iou.toFixed(2)];
      for (const text of [...(layer < first ? ["–", "–", "–"] : said), percent(inside)])
        row.append(element("td", { textContent: text, title: text }));
      return row;
    });
    const isFocused = document.activeElement && document.activeElement.closest(".answer tbody tr");
    const index = isFocused ? [...isFocused.parentElement.children].indexOf(isFocused) : -1;
    const table = element(
      "table",
      { className: "layers" },
      element("caption", { textContent: `Query ${object.query}, layer by layer` }),
      element("thead", {}, element("tr", {}, heading("Layer"), heading(object.className), heading("Best class"), heading("IoU"), heading("On it"))),
      element("tbody", {}, ...rows),
    );
    if (index >= 0) queueMicrotask(() => rows[Math.min(index, rows.length - 1)].querySelector("button").focus());
    return table;
  }
}

PANELS.push({ view: "why", title: "Why missed?", key: "w", make: (app, root) => (app.why = new WhyPanel(app, root)) });

/** True boxes while the panel is open; of the chosen object also the box of its nearest query after the layer that is shown. */
OVERLAYS.push((app) => {
  if (app.state.view !== "why" || !app.why.outcomes.packed) return [];
  const { outcomes } = app.why;
  const chosen = outcomes.chosen();
  const boxes = outcomes.objects().map((object) => {
    const isChosen = chosen !== null && object.number === chosen.number;
    const box = app.stage.boxes.box(object.box, { className: "box true", color: css(object.rgb) });
    box.classList.toggle("chosen", isChosen);
    box.classList.toggle("faint", chosen !== null && !isChosen);
    box.dataset.object = object.number;
    if (isChosen || (chosen === null && object.kind !== "found")) box.append(element("span", { className: "name", textContent: object.kind === "found" ? object.name : `${STATUS[object.kind]}: ${object.name}` }));
    return box;
  });
  boxes.unshift(...app.stage.boxes.crowdBoxes());
  if (chosen !== null && app.state.query === chosen.query) boxes.push(app.stage.boxes.box(chosen.layers[app.state.layer].box, { className: "box nearest", color: "#fff" }));
  return boxes;
});

TARGETS.push((app, event, position) => {
  if (app.state.view !== "why" || !app.why.outcomes.packed || event.target.closest(".tag")) return null;
  const object = app.why.outcomes.at(position);
  return object && { select: () => app.why.chooseObject(object) };
});
