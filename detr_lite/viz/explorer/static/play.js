"use strict";
// Plays a slider: layer by layer, or evaluation by evaluation.

const PLAY_MILLISECONDS = 800;

class Player {
  /** `step()` moves on and says whether there is more. */
  constructor(button, name, step) {
    this.button = button;
    this.name = name;
    this.step = step;
    this.timer = null;
    button.addEventListener("click", () => this.toggle());
    this.draw();
  }

  toggle() {
    if (this.timer !== null) return this.stop();
    this.step(true);
    this.timer = setInterval(() => this.step(false) || this.stop(), PLAY_MILLISECONDS);
    this.draw();
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.draw();
  }

  draw() {
    const isPlaying = this.timer !== null;
    this.button.textContent = isPlaying ? "❚❚" : "▶";
    this.button.setAttribute("aria-label", `${isPlaying ? "Stop" : "Play"} ${this.name}`);
  }
}
