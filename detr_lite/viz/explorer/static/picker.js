"use strict";
// Thumbnails of the images. Tab reaches the current one, arrow keys the others.

class Picker {
  constructor(app) {
    this.app = app;
    const { page } = app;
    const scenes = range(page.imageCount).map((image) => page.scenes[sceneNumber(page, image, 0)]);
    $("picker").hidden = scenes.length < 2;
    document.body.classList.toggle("many", scenes.length > 1);
    this.buttons = scenes.map((metadata, number) => {
      const button = element("button", { type: "button", title: metadata.name, "aria-label": `Image ${number + 1} of ${scenes.length}: ${metadata.name}` });
      button.append(metadata.thumbnail ? element("img", { src: metadata.thumbnail, alt: "", loading: "lazy" }) : element("span", { textContent: metadata.name }));
      button.addEventListener("click", () => app.change({ image: number }));
      return button;
    });
    $("picker").append(...this.buttons);
    $("picker").addEventListener("keydown", (event) => this.onKey(event));
    this.current = null;
  }

  onKey(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    const index = this.buttons.indexOf(document.activeElement);
    const next = this.buttons[Math.min(this.buttons.length - 1, Math.max(0, index + step))];
    next.focus();
    next.click();
  }

  draw() {
    const { image } = this.app.state;
    if (image === this.current) return;
    this.current = image;
    this.buttons.forEach((button, number) => {
      if (number === image) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
      button.tabIndex = number === image ? 0 : -1;
    });
    requestAnimationFrame(() => this.reveal()); // with the frame's own layout, not one more
  }

  reveal() {
    const { offsetLeft, offsetWidth } = this.buttons[this.current];
    const { scrollLeft, clientWidth } = $("picker");
    if (offsetLeft < scrollLeft || offsetLeft + offsetWidth > scrollLeft + clientWidth) $("picker").scrollLeft = offsetLeft - (clientWidth - offsetWidth) / 2;
  }
}
