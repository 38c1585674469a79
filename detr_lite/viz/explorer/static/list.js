"use strict";
// A list box that holds only the options in sight, so that hundreds cost no more than a dozen.

const SPARE_ROWS = 4; // above and below what is in sight

/**
 * Tab reaches the list, arrow keys its options. Entries are {key, label, color, text, detail, number, share}, their keys
 * different; `choose` and `hover` get an entry's key, `hover` null when the mouse leaves.
 */
class OptionList {
  constructor(root, { choose, hover }) {
    this.root = root;
    this.choose = choose;
    this.hover = hover;
    this.entries = [];
    this.content = "";
    this.selected = null;
    this.hovered = null;
    this.active = 0; // which option the keyboard is at
    this.rows = element("div", { className: "rows", role: "presentation" });
    root.append(this.rows);
    root.tabIndex = 0;
    const keyOf = (event) => {
      const option = event.target.closest("[role=option]");
      return option ? this.entries[Number(option.dataset.index)].key : null;
    };
    root.addEventListener("click", (event) => {
      const key = keyOf(event);
      if (key !== null) this.activate(this.entries.findIndex((entry) => entry.key === key), true);
    });
    root.addEventListener("pointerover", (event) => event.pointerType === "mouse" && hover(keyOf(event)));
    root.addEventListener("pointerleave", () => hover(null));
    root.addEventListener("scroll", () => this.render());
    root.addEventListener("keydown", (event) => this.onKey(event));
    new ResizeObserver(() => this.render()).observe(root);
  }

  /** `selected` and `hovered` are keys of entries. */
  fill(entries, selected, hovered = null) {
    const content = entries === this.entries ? this.content : JSON.stringify(entries);
    const isNew = content !== this.content;
    const isMoved = selected !== this.selected;
    this.content = content;
    this.entries = entries;
    [this.selected, this.hovered] = [selected, hovered];
    this.root.hidden = entries.length === 0;
    const index = entries.findIndex(({ key }) => key === selected);
    if (index >= 0) this.active = index;
    this.active = Math.max(0, Math.min(this.active, entries.length - 1));
    if (this.root.offsetParent === null) return; // its panel is hidden
    if (isNew || isMoved) this.reveal(index);
    this.render();
  }

  /** Pixels; depends on the width of the page. */
  get rowHeight() {
    if (this.measuredAt !== window.innerWidth) {
      this.measuredAt = window.innerWidth;
      this.measured = parseFloat(getComputedStyle(this.root).getPropertyValue("--row"));
    }
    return this.measured;
  }

  /** Make the options in sight; the others are space. */
  render() {
    const { entries, root, rowHeight } = this;
    this.rows.style.height = `${entries.length * rowHeight}px`;
    const first = Math.max(0, Math.floor(root.scrollTop / rowHeight) - SPARE_ROWS);
    const last = Math.min(entries.length, Math.ceil((root.scrollTop + root.clientHeight) / rowHeight) + SPARE_ROWS);
    const shown = [this.content, first, last, this.selected, this.hovered, this.active, rowHeight].join("\n");
    if (shown === this.shown) return;
    this.shown = shown;
    const options = [];
    for (let index = first; index < last; index++) options.push(this.option(index, rowHeight));
    this.rows.replaceChildren(...options);
    const active = options.find((option) => Number(option.dataset.index) === this.active);
    if (active) root.setAttribute("aria-activedescendant", active.id);
    else root.removeAttribute("aria-activedescendant");
  }

  option(index, rowHeight) {
    const { key, label, color, text, detail, number, share } = this.entries[index];
    const option = element(
      "div",
      { role: "option", id: `${this.root.id}-${index}`, className: "option", color, "aria-label": label, "aria-selected": String(key === this.selected), "aria-setsize": this.entries.length, "aria-posinset": index + 1 },
      element("i", { className: "dot" }),
      element("span", { className: "name", textContent: text }),
      element("span", { className: "detail", textContent: detail }),
      element("span", { className: "number", textContent: number }),
      element("i", { className: "bar" }),
    );
    option.classList.toggle("hovered", key === this.hovered);
    option.classList.toggle("active", index === this.active);
    option.dataset.index = index;
    option.dataset.key = key;
    option.style.setProperty("--share", share);
    option.style.top = `${index * rowHeight}px`;
    return option;
  }

  activate(index, choose) {
    this.active = index;
    this.root.focus({ preventScroll: true });
    this.reveal(index);
    this.render();
    if (choose) this.choose(this.entries[index].key);
  }

  /** Scroll the list, never the page. */
  reveal(index) {
    if (index < 0) return;
    const { root, rowHeight } = this;
    if (index * rowHeight < root.scrollTop) root.scrollTop = index * rowHeight;
    else if ((index + 1) * rowHeight > root.scrollTop + root.clientHeight) root.scrollTop = (index + 1) * rowHeight - root.clientHeight;
  }

  onKey(event) {
    const page = Math.max(1, Math.floor(this.root.clientHeight / this.rowHeight) - 1);
    const { active } = this;
    const isChosen = this.entries.some(({ key }) => key === this.selected);
    const down = isChosen ? active + 1 : active; // the first key selects the option that the focus is at
    const next = { ArrowDown: down, ArrowUp: active - 1, PageDown: active + page, PageUp: active - page, Home: 0, End: this.entries.length - 1, Enter: active, " ": active }[event.key];
    if (!this.entries.length || next === undefined || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    event.stopPropagation();
    this.activate(Math.min(this.entries.length - 1, Math.max(0, next)), true);
  }
}
