"use strict";
// Sliders, the overview of all layers and heads, filters, toggles, tabs, the image picker and the theme.

const ENCODER = -1; // key of the encoder's self-attention in the list of queries at a point

class Controls {
  constructor(app) {
    this.app = app;
    const onSlide = (id, change) => $(id).addEventListener("input", () => app.change(change(Number($(id).value)), { replace: true }));
    onSlide("layer", (layer) => ({ layer }));
    onSlide("head", (head) => ({ head: head < 0 ? "mean" : head }));
    onSlide("encoder", (encoder) => ({ encoder }));
    onSlide("threshold", (score) => ({ score }));
    for (const [id, key] of [["show-boxes", "boxes"], ["show-truth", "truth"], ["smooth", "smooth"], ["show-samples", "samples"]])
      $(id).addEventListener("change", () => app.change({ [key]: $(id).checked }));
    $("level").addEventListener("change", () => app.change({ level: $("level").value === "all" ? "all" : Number($("level").value) }));
    for (const tab of $("tabs").children) tab.addEventListener("click", () => app.showView(tab.dataset.view));
    $("tabs").addEventListener("keydown", (event) => this.onTabKey(event));
    $("theme").addEventListener("click", () => this.toggleTheme());
    $("help-button").addEventListener("click", () => $("help").showModal());
    $("help").addEventListener("click", (event) => event.target === $("help") && $("help").close()); // on its backdrop
    $("share").addEventListener("click", () => this.share());
    this.makePicker();
  }

  makePicker() {
    const { scenes } = this.app.page;
    $("picker").hidden = scenes.length < 2;
    document.body.classList.toggle("many", scenes.length > 1);
    scenes.forEach((metadata, number) => {
      const button = element("button", { type: "button", title: metadata.name, "aria-label": `Image ${number + 1} of ${scenes.length}: ${metadata.name}` });
      button.append(element("img", { src: metadata.thumbnail, alt: "", loading: "lazy" }));
      button.addEventListener("click", () => this.app.change({ image: number }));
      $("picker").append(button);
    });
    // Tab reaches the current one, arrow keys the others.
    $("picker").addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      const index = [...$("picker").children].indexOf(document.activeElement);
      const next = $("picker").children[Math.min(scenes.length - 1, Math.max(0, index + step))];
      next.focus();
      next.click();
    });
  }

  /** Set up the choices of a new image. */
  open() {
    const { metadata } = this.app.scene;
    $("layer").max = metadata.layers - 1;
    $("head").max = metadata.heads - 1;
    $("encoder").min = Math.min(metadata.firstEncoderLayer, Math.max(0, metadata.encoderLayers - 1));
    $("encoder").max = Math.max(0, metadata.encoderLayers - 1);
    $("layer").disabled = metadata.layers < 2;
    $("head").disabled = metadata.heads < 2;
    $("encoder-row").hidden = metadata.encoderLayers === 0;
    $("encoder").disabled = Number($("encoder").min) === Number($("encoder").max);
    $("level-label").hidden = metadata.levels.length < 2;
    $("level").replaceChildren(
      element("option", { value: "all", textContent: "all levels, summed" }),
      ...metadata.levels.map(({ width, height }, number) => element("option", { value: String(number), textContent: `${width} × ${height} only` })),
    );
    $("truth-label").hidden = metadata.truth === null;
    for (const id of ["samples-label", "samples-note", "about-samples"]) $(id).hidden = !this.app.scene.isSampled;
    document.body.classList.toggle("sampled", this.app.scene.isSampled);
    $("left-out").hidden = metadata.leftOut.length === 0;
    $("left-out").textContent = `Left out, to keep this page small: ${metadata.leftOut.join("; ")}.`;
    this.makeClasses();
    this.makeOverview();
  }

  makeClasses() {
    const { app } = this;
    const labels = [...new Set(app.detections().filter(({ score }) => score >= 0.05).map(({ label }) => label))].sort((a, b) => a - b);
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

  /** A thumbnail of the heatmap for every layer and head: rows are layers, columns the mean and the heads. */
  makeOverview() {
    const { metadata } = this.app.scene;
    const heads = metadata.heads > 1 ? ["mean", ...Array(metadata.heads).keys()] : [0];
    const overview = $("overview");
    overview.style.setProperty("--columns", heads.length);
    overview.style.setProperty("--aspect", metadata.width / metadata.height);
    overview.style.setProperty("--thumbnail", `url("${metadata.thumbnail}")`);
    const children = [element("span", { className: "corner" }), ...heads.map((head) => element("span", { className: "column", textContent: head }))];
    this.cells = [];
    for (let layer = 0; layer < metadata.layers; layer++) {
      children.push(element("span", { className: "row", textContent: layer }));
      for (const head of heads) {
        const canvas = element("canvas");
        const button = element("button", { type: "button", "aria-label": `Layer ${layer}, ${head === "mean" ? "mean of heads" : `head ${head}`}` }, canvas);
        button.addEventListener("click", () => this.app.change({ layer, head }));
        this.cells.push({ layer, head, button, canvas });
        children.push(button);
      }
    }
    overview.replaceChildren(...children);
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
    setSlider("layer", state.layer, layerLabel(state.layer, metadata.layers));
    setSlider("head", state.head === "mean" ? -1 : state.head, metadata.heads === 1 ? "the only one" : headLabel);
    setSlider("encoder", state.encoder, layerLabel(state.encoder, metadata.encoderLayers));
    setSlider("threshold", state.score, state.score.toFixed(2));
    $("head").min = metadata.heads === 1 ? 0 : -1;
    $("encoder-row").hidden = metadata.encoderLayers === 0 || state.view !== "point";
    $("show-boxes").checked = state.boxes;
    $("show-truth").checked = state.truth;
    $("smooth").checked = state.smooth;
    $("show-samples").checked = state.samples;
    $("level").value = String(state.level);
    for (const tab of $("tabs").children) {
      const isSelected = tab.dataset.view === state.view;
      tab.setAttribute("aria-selected", String(isSelected));
      tab.tabIndex = isSelected ? 0 : -1;
      $(`panel-${tab.dataset.view}`).hidden = !isSelected;
    }
    const detections = app.detections().filter(({ score }) => score >= state.score);
    for (const chip of $("classes").children) {
      const label = Number(chip.dataset.label);
      chip.setAttribute("aria-pressed", String(state.classes.includes(label)));
      chip.lastChild.textContent = detections.filter((detection) => detection.label === label).length;
    }
    [...$("picker").children].forEach((button, number) => {
      if (number === state.image) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
      button.tabIndex = number === state.image ? 0 : -1;
    });
    if (state.theme === "auto") document.documentElement.removeAttribute("data-theme");
    else document.documentElement.dataset.theme = state.theme;
    this.drawOverview();
  }

  drawOverview() {
    const { app } = this;
    const { state, scene, page } = app;
    const query = app.query();
    const content = JSON.stringify([state.image, query, state.level]);
    const isNew = content !== this.overviewContent;
    this.overviewContent = content;
    const hasRows = query !== null && scene.has(query);
    $("overview").hidden = this.cells.length < 2; // shown without a query, too: else the lists would move under the cursor
    for (const { layer, head, button, canvas } of this.cells) {
      const isSelected = layer === state.layer && (head === state.head || scene.metadata.heads === 1);
      button.setAttribute("aria-pressed", String(isSelected));
      button.tabIndex = isSelected ? 0 : -1;
      if (isSelected && $("overview").contains(document.activeElement) && document.activeElement !== button) button.focus();
      if (!isNew) continue;
      canvas.width = hasRows ? 1 : 0; // clears it
      if (!hasRows) continue;
      const heatmap = new Heatmap(scene.crossAttention(layer, head, query), scene.metadata.levels, state.level);
      const width = 56;
      const height = Math.max(1, Math.round((width * scene.metadata.height) / scene.metadata.width));
      paint(canvas, heatmap.pixels(width, height, true), width, height, page.colors);
    }
  }

  onTabKey(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const next = (VIEWS.indexOf(this.app.state.view) + step + VIEWS.length) % VIEWS.length;
    this.app.showView(VIEWS[next]);
    $(`tab-${VIEWS[next]}`).focus();
  }

  toggleTheme() {
    const isDark = this.app.state.theme === "auto" ? matchMedia("(prefers-color-scheme: dark)").matches : this.app.state.theme === "dark";
    this.app.change({ theme: isDark ? "light" : "dark" }, { replace: true });
  }

  async share() {
    let message = "Link copied";
    try {
      await navigator.clipboard.writeText(location.href);
    } catch {
      message = "Copy the address bar"; // the browser does not allow it
    }
    $("share").textContent = message;
    setTimeout(() => ($("share").textContent = "Copy link"), 1800);
  }
}
