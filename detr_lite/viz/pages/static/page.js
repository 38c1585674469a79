"use strict";
/* The page is complete without this script: it adds the filter, arrow keys and the large view. */
(() => {
  const chips = [...document.querySelectorAll(".chip")];
  const groups = [...document.querySelectorAll(".group")];

  /** Show the groups of one kind alone, or all. */
  function filter(kind) {
    for (const chip of chips) chip.setAttribute("aria-pressed", String(chip.dataset.kind === kind));
    for (const group of groups) group.hidden = kind !== "" && group.dataset.kind !== kind;
  }
  for (const chip of chips) chip.addEventListener("click", () => filter(chip.dataset.kind));

  /** Links to a group that the filter hides show it again. */
  function reveal() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target?.hidden) { filter(""); target.scrollIntoView(); }
  }
  window.addEventListener("hashchange", reveal);

  /** One picture of each group is a tab stop; arrow keys go to the others. */
  function select(cards, card) {
    for (const other of cards) other.tabIndex = other === card ? 0 : -1;
    card.focus();
  }
  function columns(cards) {
    const top = cards[0].offsetTop;
    const next = cards.findIndex((card) => card.offsetTop > top);
    return next < 0 ? cards.length : next;
  }
  const STEPS = { ArrowRight: () => 1, ArrowLeft: () => -1, ArrowDown: columns, ArrowUp: (cards) => -columns(cards) };
  for (const list of document.querySelectorAll(".cards")) {
    const cards = [...list.children];
    cards.forEach((card, index) => { card.tabIndex = index ? -1 : 0; });
    list.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
      const index = cards.indexOf(document.activeElement);
      const to = event.key === "Home" ? 0 : event.key === "End" ? cards.length - 1
        : event.key in STEPS ? index + STEPS[event.key](cards) : NaN;
      if (Number.isNaN(to)) return;
      event.preventDefault();
      if (cards[to]) select(cards, cards[to]);
    });
    list.addEventListener("click", (event) => {
      const card = event.target.closest(".picture");
      if (card) { select(cards, card); open(cards, cards.indexOf(card)); }
    });
  }

  /* --- Large view --- */
  const dialog = document.getElementById("large");
  let shown = { cards: [], index: 0 };
  function open(cards, index) {
    shown = { cards, index };
    const card = cards[index];
    const picture = document.getElementById("large-picture");
    picture.replaceChildren(card.querySelector(".frames").cloneNode(true));
    const texts = [...card.querySelectorAll(".caption, .detail")].map((part) => part.textContent);
    document.getElementById("large-caption").textContent = `${texts.join(" · ")} (${index + 1} of ${cards.length})`;
    if (!dialog.open) dialog.showModal();
  }
  function step(by) {
    const { cards, index } = shown;
    open(cards, (index + by + cards.length) % cards.length);
  }
  dialog?.addEventListener("click", (event) => {
    const action = event.target.dataset?.do;
    if (action === "previous") step(-1);
    else if (action === "next") step(1);
    else if (action === "close" || event.target === dialog) dialog.close();
  });
  dialog?.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
      event.preventDefault();
      step(event.key === "ArrowRight" ? 1 : -1);
    }
  });
  dialog?.addEventListener("close", () => select(shown.cards, shown.cards[shown.index]));
  reveal();
})();
