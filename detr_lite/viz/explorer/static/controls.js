"use strict";
// Sliders, the atlas of all layers and heads, filters, toggles, tabs, the picker of images, light and dark.

const ENCODER = -1; // in the list from a point: the encoder itself, which is no query

class Controls {
  constructor(app) {
    this.app = app;
    const slide = (id, change) => $(id).addEventListener("input", () => app.change(change(Number($(id).value)), { replace: true }));
    slide("layer", (layer) => ({ layer }));
    slide("head", (head) => ({ head: head < 0 ? "mean" : head }));
    slide("encoder", (encoder) => ({ encoder }));
    slide("threshold", (score) => ({ score }));
    for (const [id, key] of [["show-boxes", "boxes"], ["show-truth", "truth"], ["smooth", "smooth"]])
      $(id).addEventListener("change", () => app.change({ [key]: $(id).checked }));
    $("level").addEventListener("change", () => app.change({ level: $("level").value === "all" ? "all" : Number($("level").value) }));
    for (const tab of $("tabs").children) tab.addEventListener("click", () => app.show(tab.dataset.view));
    $("tabs").addEventListener("keydown", (event) => this.onTabKey(event));
    $("theme").addEventListener("click", () => this.turn());
    $("help-button").addEventListener("click", () => $("help").showModal());
    $("help").addEventListener("click", (event) => event.target === $("help") && $("help").close()); // beside it
    $("share").addEventListener("click", () => this.share());
    this.makePicker();
  }

  makePicker() {
    const { scenes } = this.app.page;
    $("picker").hidden = scenes.length < 2;
    document.body.classList.toggle("many", scenes.length > 1);
    scenes.forEach((facts, number) => {
      const button = element("button", { type: "button", title: facts.name, "aria-label": `Image ${number + 1} of ${scenes.length}: ${facts.name}` });
      button.append(element("img", { src: facts.thumbnail, alt: "", loading: "lazy" }));
      button.addEventListener("click", () => this.app.change({ image: number }));
      $("picker").append(button);
    });
    // One stop for Tab; arrows go on.
    $("picker").addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      const place = [...$("picker").children].indexOf(document.activeElement);
      const next = $("picker").children[Math.min(scenes.length - 1, Math.max(0, place + step))];
      next.focus();
      next.click();
    });
  }

  /** A new image: what there is to choose from. */
  open() {
    const { facts } = this.app.scene;
    $("layer").max = facts.layers - 1;
    $("head").max = facts.heads - 1;
    $("encoder").min = Math.min(facts.firstEncoderLayer, Math.max(0, facts.encoderLayers - 1));
    $("encoder").max = Math.max(0, facts.encoderLayers - 1);
    $("layer").disabled = facts.layers < 2;
    $("head").disabled = facts.heads < 2;
    $("encoder-row").hidden = facts.encoderLayers === 0;
    $("encoder").disabled = Number($("encoder").min) === Number($("encoder").max);
    $("level-label").hidden = facts.levels.length < 2;
    $("level").replaceChildren(
      element("option", { value: "all", textContent: "all levels, summed" }),
      ...facts.levels.map(({ width, height }, number) => element("option", { value: String(number), textContent: `${width} × ${height} only` })),
    );
    $("truth-label").hidden = facts.truth === null;
    $("left-out").hidden = facts.leftOut.length === 0;
    $("left-out").textContent = `Left out, to keep this page small: ${facts.leftOut.join("; ")}.`;
    this.makeClasses();
    this.makeAtlas();
  }

  makeClasses() {
    const { app } = this;
    const labels = [...new Set(app.detections().filter((one) => one.score >= 0.05).map((one) => one.label))].sort((a, b) => a - b);
    $("classes").hidden = labels.length < 2;
    $("classes").replaceChildren(
      ...labels.map((label) => {
        const { name, color } = app.page.classes[label];
        const chip = element("button", { type: "button", className: "chip", color: css(color) }, element("i", { className: "dot" }), element("span", { textContent: name }), element("span", { className: "count" }));
        chip.dataset.label = label;
        chip.addEventListener("click", () => {
          const { classes } = app.state;
          app.change({ classes: classes.includes(label) ? classes.filter((other) => other !== label) : [...classes, label].sort((a, b) => a - b) });
        });
        return chip;
      }),
    );
  }

  /** A small picture for every layer and head: rows are layers, columns the mean and the heads. */
  makeAtlas() {
    const { facts } = this.app.scene;
    const heads = facts.heads > 1 ? ["mean", ...Array(facts.heads).keys()] : [0];
    const atlas = $("atlas");
    atlas.style.setProperty("--columns", heads.length);
    atlas.style.setProperty("--aspect", facts.width / facts.height);
    atlas.style.setProperty("--thumbnail", `url("${facts.thumbnail}")`);
    const children = [element("span", { className: "corner" }), ...heads.map((head) => element("span", { className: "column", textContent: head }))];
    this.cells = [];
    for (let layer = 0; layer < facts.layers; layer++) {
      children.push(element("span", { className: "row", textContent: layer }));
      for (const head of heads) {
        const canvas = element("canvas");
        const button = element("button", { type: "button", "aria-label": `Layer ${layer}, ${head === "mean" ? "mean of heads" : `head ${head}`}` }, canvas);
        button.addEventListener("click", () => this.app.change({ layer, head }));
        this.cells.push({ layer, head, button, canvas });
        children.push(button);
      }
    }
    atlas.replaceChildren(...children);
  }

  draw() {
    const { app } = this;
    const { state, scene } = app;
    const { facts } = scene;
    const last = (layer, count) => `${layer}${layer === count - 1 ? (count > 1 ? " · last" : " · only") : ` of 0–${count - 1}`}`;
    const headWords = state.head === "mean" ? `mean of ${facts.heads}` : `${state.head} of 0–${facts.heads - 1}`;
    const put = (id, value, words) => {
      $(id).value = value;
      $(id).setAttribute("aria-valuetext", words);
      $(`${id}-value`).textContent = words;
    };
    put("layer", state.layer, last(state.layer, facts.layers));
    put("head", state.head === "mean" ? -1 : state.head, facts.heads === 1 ? "the only one" : headWords);
    put("encoder", state.encoder, last(state.encoder, facts.encoderLayers));
    put("threshold", state.score, state.score.toFixed(2));
    $("head").min = facts.heads === 1 ? 0 : -1;
    $("encoder-row").hidden = facts.encoderLayers === 0 || state.view !== "point";
    $("show-boxes").checked = state.boxes;
    $("show-truth").checked = state.truth;
    $("smooth").checked = state.smooth;
    $("level").value = String(state.level);
    for (const tab of $("tabs").children) {
      const isChosen = tab.dataset.view === state.view;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
      $(`panel-${tab.dataset.view}`).hidden = !isChosen;
    }
    const found = app.detections().filter((one) => one.score >= state.score);
    for (const chip of $("classes").children) {
      const label = Number(chip.dataset.label);
      chip.setAttribute("aria-pressed", String(state.classes.includes(label)));
      chip.lastChild.textContent = found.filter((one) => one.label === label).length;
    }
    [...$("picker").children].forEach((button, number) => {
      if (number === state.image) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
      button.tabIndex = number === state.image ? 0 : -1;
    });
    if (state.theme === "auto") document.documentElement.removeAttribute("data-theme");
    else document.documentElement.dataset.theme = state.theme;
    this.drawAtlas();
  }

  drawAtlas() {
    const { app } = this;
    const { state, scene, page } = app;
    const query = app.query();
    const content = JSON.stringify([state.image, query, state.level]);
    const isNew = content !== this.atlasContent;
    this.atlasContent = content;
    const hasRows = query !== null && scene.has(query);
    $("atlas").hidden = this.cells.length < 2; // not when there is nothing to show: lists would move under the cursor
    for (const { layer, head, button, canvas } of this.cells) {
      const isChosen = layer === state.layer && (head === state.head || scene.facts.heads === 1);
      button.setAttribute("aria-pressed", String(isChosen));
      button.tabIndex = isChosen ? 0 : -1;
      if (isChosen && $("atlas").contains(document.activeElement) && document.activeElement !== button) button.focus();
      if (!isNew) continue;
      canvas.width = hasRows ? 1 : 0; // empties it
      if (!hasRows) continue;
      const heat = new Heat(scene.crossRow(layer, head, query), scene.facts.levels, state.level);
      const width = 56;
      const height = Math.max(1, Math.round((width * scene.facts.height) / scene.facts.width));
      paint(canvas, heat.pixels(width, height, true), width, height, page.colors);
    }
  }

  onTabKey(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const next = (VIEWS.indexOf(this.app.state.view) + step + VIEWS.length) % VIEWS.length;
    this.app.show(VIEWS[next]);
    $(`tab-${VIEWS[next]}`).focus();
  }

  turn() {
    const isDark = this.app.state.theme === "auto" ? matchMedia("(prefers-color-scheme: dark)").matches : this.app.state.theme === "dark";
    this.app.change({ theme: isDark ? "light" : "dark" }, { replace: true });
  }

  async share() {
    let said = "Link copied";
    try {
      await navigator.clipboard.writeText(location.href);
    } catch {
      said = "Copy the address bar"; // a browser that lets no page copy
    }
    $("share").textContent = said;
    setTimeout(() => ($("share").textContent = "Copy link"), 1800);
  }
}
