"use strict";
// Sliders, filters, toggles, tabs, the theme and the link.

class Controls {
  constructor(app) {
    this.app = app;
    const onSlide = (id, change) => $(id).addEventListener("input", () => app.change(change(Number($(id).value)), { replace: true }));
    onSlide("layer", (layer) => ({ layer }));
    onSlide("head", (head) => ({ head: head < 0 ? "mean" : head }));
    onSlide("encoder", (encoder) => ({ encoder }));
    onSlide("threshold", (score) => ({ score }));
    for (const [id, key] of [["show-boxes", "boxes"], ["show-truth", "truth"], ["smooth", "smooth"], ["show-samples", "samples"], ["show-matrix", "matrix"]])
      $(id).addEventListener("change", () => app.change({ [key]: $(id).checked }));
    $("level").addEventListener("change", () => app.change({ level: $("level").value === "all" ? "all" : Number($("level").value) }));
    this.makePanels();
    for (const tab of $("tabs").children) tab.addEventListener("click", () => app.showView(tab.dataset.view));
    $("tabs").addEventListener("keydown", (event) => this.onTabKey(event));
    $("theme").addEventListener("click", () => this.toggleTheme());
    $("help-button").addEventListener("click", () => $("help").showModal());
    $("help").addEventListener("click", (event) => event.target === $("help") && $("help").close()); // on its backdrop
    for (const type of ["png", "svg"]) $(`save-${type}`).addEventListener("click", () => saveView(app, type));
    for (const id of ["mode", "colors"]) $(id).addEventListener("change", () => app.change({ [id]: $(id).value }));
    this.player = new Player($("play-layers"), "the layers", (isFirst) => {
      const last = app.scene.metadata.layers - 1;
      const layer = isFirst && app.state.layer === last ? 0 : Math.min(last, app.state.layer + 1);
      app.change({ layer, ...this.kept() }, { replace: true });
      return layer < last;
    });
    $("share").addEventListener("click", () => this.share());
  }

  /** What is hovered, so that it stays when something else changes. */
  kept() {
    const { hovered, state } = this.app;
    return { query: (hovered || state).query, label: (hovered || state).label };
  }

  /** A tab and a panel for each of `PANELS`. */
  makePanels() {
    for (const { view, title } of PANELS) {
      const tab = element("button", { type: "button", role: "tab", id: `tab-${view}`, "aria-controls": `panel-${view}`, textContent: title });
      tab.dataset.view = view;
      $("tabs").append(tab);
      $("tabs").parentElement.append(element("div", { role: "tabpanel", id: `panel-${view}`, "aria-labelledby": `tab-${view}`, hidden: true }));
    }
  }

  /** Set up the choices of a new image. */
  open() {
    const { metadata } = this.app.scene;
    $("layer").max = metadata.layers - 1;
    $("head").max = metadata.heads - 1;
    $("encoder").min = Math.min(metadata.firstEncoderLayer, Math.max(0, metadata.encoderLayers - 1));
    $("encoder").max = Math.max(0, metadata.encoderLayers - 1);
    $("encoder-row").hidden = metadata.encoderLayers === 0;
    $("encoder").disabled = Number($("encoder").min) === Number($("encoder").max);
    $("level-label").hidden = metadata.levels.length < 2;
    $("level").replaceChildren(
      element("option", { value: "all", textContent: "all levels, summed" }),
      ...metadata.levels.map(({ width, height }, number) => element("option", { value: String(number), textContent: `${width} × ${height} only` })),
    );
    $("truth-label").hidden = metadata.truth === null && !metadata.alignment;
    const isSentence = metadata.kind === "words";
    $("tab-detections").textContent = capitalized(NOUNS[metadata.kind][1]);
    $("tab-point").textContent = this.app.scene.isText ? "From a source word" : "From a point";
    $("tab-links").textContent = isSentence ? "Between words" : "Between queries";
    $("detections").setAttribute("aria-label", $("tab-detections").textContent);
    $("threshold").parentElement.hidden = isSentence;
    $("boxes-label").hidden = isSentence;
    $("boxes-name").textContent = metadata.kind === "lines" ? "Lines" : "Boxes";
    for (const id of ["smooth-label", "mode-label", "zoom-tools"]) $(id).hidden = this.app.scene.isText;
    $("about").hidden = isSentence;
    $("about-words").hidden = !isSentence;
    for (const id of ["samples-label", "samples-note", "about-samples"]) $(id).hidden = !this.app.scene.isSampled;
    document.body.classList.toggle("sampled", this.app.scene.isSampled);
    $("left-out").hidden = metadata.leftOut.length === 0;
    $("left-out").textContent = `Left out, to keep this page small: ${metadata.leftOut.join("; ")}.`;
    this.makeClasses();
  }

  makeClasses() {
    const { app } = this;
    const labels = [...new Set(app.selection.detections().filter(({ score }) => score !== null && score >= 0.05).map(({ label }) => label))].sort((a, b) => a - b);
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

  draw() {
    const { app } = this;
    const { state, scene } = app;
    const { metadata } = scene;
    const layerLabel = (layer, count) => `${layer}${layer === count - 1 ? (count > 1 ? " · last" : " · only") : ` of 0–${count - 1}`}`;
    const headLabel = state.head === "mean" ? `mean of ${metadata.heads}` : `${state.head} of 0–${metadata.heads - 1}`;
    const setSlider = (id, value, label) => {
      $(id).value = value;
      $(id).setAttribute("aria-valuetext", label);
      $(`${id}-value`).textContent = label;
    };
    const source = app.sources.shown;
    setSlider("layer", state.layer, source ? source.extent : layerLabel(state.layer, metadata.layers));
    setSlider("head", state.head === "mean" ? -1 : state.head, source ? source.headExtent : metadata.heads === 1 ? "the only one" : headLabel);
    setSlider("encoder", state.encoder, layerLabel(state.encoder, metadata.encoderLayers));
    setSlider("threshold", state.score, state.score.toFixed(2));
    $("head").min = metadata.heads === 1 ? 0 : -1;
    $("encoder-row").hidden = metadata.encoderLayers === 0 || state.view !== "point";
    $("show-boxes").checked = state.boxes;
    $("show-truth").checked = state.truth;
    $("smooth").checked = state.smooth;
    $("show-samples").checked = state.samples;
    $("show-matrix").checked = state.matrix;
    $("matrix-label").hidden = state.view !== "links" || metadata.kind === "words" || !scene.selfRows;
    $("level").value = String(state.level);
    $("mode").value = state.mode;
    $("colors").value = state.colors;
    for (const tab of $("tabs").children) {
      const isSelected = tab.dataset.view === state.view;
      tab.setAttribute("aria-selected", String(isSelected));
      tab.tabIndex = isSelected ? 0 : -1;
      $(`panel-${tab.dataset.view}`).hidden = !isSelected;
    }
    const detections = app.selection.detections().filter((detection) => !app.selection.isBelow(detection));
    for (const chip of $("classes").children) {
      const label = Number(chip.dataset.label);
      chip.setAttribute("aria-pressed", String(state.classes.includes(label)));
      chip.lastChild.textContent = detections.filter((detection) => detection.label === label).length;
    }
    if (state.theme === "auto") document.documentElement.removeAttribute("data-theme");
    else document.documentElement.dataset.theme = state.theme;
  }

  onTabKey(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const views = [...$("tabs").children].filter(({ hidden }) => !hidden).map(({ dataset }) => dataset.view);
    const next = views[(views.indexOf(this.app.state.view) + step + views.length) % views.length];
    this.app.showView(next);
    $(`tab-${next}`).focus();
  }

  toggleTheme() {
    const isDark = this.app.state.theme === "auto" ? matchMedia("(prefers-color-scheme: dark)").matches : this.app.state.theme === "dark";
    this.app.change({ theme: isDark ? "light" : "dark" }, { replace: true });
  }

  /** The address; of a local file, which is nobody else's, the part of it that says what is shown. */
  async share() {
    const isFile = location.protocol === "file:";
    const view = hashOf({ ...this.app.state, ...this.kept() });
    let message = isFile ? "Copied the part after #" : "Link copied";
    try {
      await navigator.clipboard.writeText(isFile ? view : new URL(view, location.href).href);
    } catch {
      message = "Copy the address bar"; // the browser does not allow it
    }
    $("share").textContent = message;
    $("live").textContent = isFile ? `${message}: paste it behind the address of this page, wherever it is.` : message;
    setTimeout(() => ($("share").textContent = "Copy link"), 2400);
  }
}
