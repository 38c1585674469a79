"use strict";
// How attention forms in training: the pictures that a run drew at its evaluations, as a slider that plays.

addPanel({
  view: "training",
  title: "In training",
  key: "y",
  isShown: (app) => app.page.history.length > 0,
  make: (app, root) => new TrainingHistory(app, root),
});

class TrainingHistory {
  constructor(app, root) {
    this.app = app;
    const { history } = app.page;
    if (!history.length) return;
    this.shown = history.length - 1;
    this.slider = element("input", { type: "range", id: "history-step", min: 0, max: history.length - 1, step: 1 });
    this.value = element("output", {});
    this.picture = element("img", { className: "history", alt: "" });
    const play = element("button", { type: "button", className: "play" });
    const label = element("label", { htmlFor: "history-step" }, "Evaluation ");
    root.append(
      element("p", { className: "note", textContent: "Attention of the same validation images at the evaluations of the run. Select the picture to enlarge it." }),
      element("div", { className: "slider" }, element("span", { className: "playable" }, label, play), this.slider, this.value),
      element("button", { type: "button", className: "enlarge", "aria-label": "Enlarge the picture", onclick: () => this.enlarge() }, this.picture),
    );
    this.dialog = element("dialog", { className: "large", "aria-label": "Attention in training" });
    document.body.append(this.dialog);
    this.dialog.addEventListener("click", () => this.dialog.close());
    this.slider.addEventListener("input", () => this.show(Number(this.slider.value)));
    this.player = new Player(play, "the evaluations", (isFirst) => {
      this.show(isFirst && this.shown === history.length - 1 ? 0 : Math.min(history.length - 1, this.shown + 1));
      return this.shown < history.length - 1;
    });
    // The pictures follow the scripts in the page.
    if (document.readyState === "loading") addEventListener("DOMContentLoaded", () => this.show(this.shown));
    else this.show(this.shown);
  }

  show(number) {
    const { step, note } = this.app.page.history[number];
    this.shown = number;
    this.slider.value = number;
    this.value.textContent = `step ${step}`;
    this.slider.setAttribute("aria-valuetext", `step ${step}, ${note}`);
    this.picture.src = $(`history-${number}`).textContent;
    this.picture.alt = `Attention at step ${step}, ${note}`;
    const large = this.dialog.querySelector("img");
    if (large) large.src = this.picture.src;
  }

  enlarge() {
    const close = element("button", { type: "button", textContent: "Close", onclick: () => this.dialog.close() });
    this.dialog.replaceChildren(element("img", { src: this.picture.src, alt: this.picture.alt }), close);
    this.dialog.showModal();
  }
}
