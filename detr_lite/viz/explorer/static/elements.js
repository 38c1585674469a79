"use strict";
// Elements of the page. Class and file names are untrusted: they become text nodes, never markup.

const $ = (id) => document.getElementById(id);

/** element("li", {className: "row", title: name}, "text", otherElement) */
function element(tag, properties = {}, ...children) {
  const created = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("aria-") || key === "role") created.setAttribute(key, value);
    else if (key === "color") created.style.setProperty("--color", value);
    else created[key] = value;
  }
  created.append(...children);
  return created;
}

const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

/** Black or white, whichever is legible on a color. */
const textColorOn = ([red, green, blue]) => (0.299 * red + 0.587 * green + 0.114 * blue > 120 ? "#141414" : "#fff");

/**
 * A list box: Tab reaches one option, arrow keys reach all.
 * Entries are {key, label, color, text, detail, number, share}; entries with the same key are selected together.
 */
class OptionList {
  constructor(root, { choose, hover }) {
    this.root = root;
    this.choose = choose;
    this.shown = "";
    root.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) this.focus(option, true);
    });
    root.addEventListener("pointerover", (event) => {
      const option = event.target.closest("[role=option]");
      if (event.pointerType === "mouse") hover(option ? Number(option.dataset.key) : null);
    });
    root.addEventListener("pointerleave", () => hover(null));
    root.addEventListener("keydown", (event) => this.onKey(event));
  }

  /** `selected` and `hovered` are keys of entries. */
  fill(entries, selected, hovered = null) {
    const content = JSON.stringify(entries);
    if (content !== this.shown) {
      const focused = this.root.contains(document.activeElement) ? document.activeElement.dataset.key : null;
      this.shown = content;
      this.root.replaceChildren(...entries.map((entry) => this.option(entry)));
      const restored = focused === null ? null : this.options().find((option) => option.dataset.key === focused);
      if (restored) restored.focus({ preventScroll: true });
    }
    const options = this.options();
    for (const option of options) {
      option.setAttribute("aria-selected", String(Number(option.dataset.key) === selected));
      option.classList.toggle("hovered", Number(option.dataset.key) === hovered);
      option.tabIndex = -1;
    }
    const entry = options.find((option) => option === document.activeElement) || options.find((option) => Number(option.dataset.key) === selected) || options[0];
    if (entry) entry.tabIndex = 0;
    this.root.hidden = options.length === 0;
  }

  option({ key, label, color, text, detail, number, share }) {
    const created = element(
      "div",
      { role: "option", "aria-label": label, className: "option", color },
      element("i", { className: "dot" }),
      element("span", { className: "name", textContent: text }),
      element("span", { className: "detail", textContent: detail }),
      element("span", { className: "number", textContent: number }),
      element("i", { className: "bar" }),
    );
    created.dataset.key = key;
    created.style.setProperty("--share", share);
    return created;
  }

  options() {
    return [...this.root.children];
  }

  focus(option, choose) {
    for (const other of this.options()) other.tabIndex = other === option ? 0 : -1;
    option.focus({ preventScroll: true });
    this.reveal(option);
    if (choose) this.choose(Number(option.dataset.key));
  }

  /** Scroll the list, never the page. */
  reveal(option) {
    const above = option.offsetTop - this.root.offsetTop;
    const below = above + option.offsetHeight - this.root.clientHeight;
    if (above < this.root.scrollTop) this.root.scrollTop = above;
    else if (below > this.root.scrollTop) this.root.scrollTop = below;
  }

  onKey(event) {
    const options = this.options();
    const index = options.indexOf(document.activeElement);
    const next = { ArrowDown: index + 1, ArrowUp: index - 1, Home: 0, End: options.length - 1, Enter: index, " ": index }[event.key];
    if (index < 0 || next === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    const option = options[Math.min(options.length - 1, Math.max(0, next))];
    this.focus(option, true);
  }
}
