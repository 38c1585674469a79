"use strict";
/* The page is complete without this script: it adds the filter, arrow keys and the large view. */
(() => {
  const chips = [...document.querySelectorAll("#filters .chip")];
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
    const visible = () => [...list.children].filter((card) => !card.hidden);
    visible().forEach((card, index) => { card.tabIndex = index ? -1 : 0; });
    list.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
      const cards = visible();
      const index = cards.indexOf(document.activeElement);
      const to = event.key === "Home" ? 0 : event.key === "End" ? cards.length - 1
        : event.key in STEPS ? index + STEPS[event.key](cards) : NaN;
      if (Number.isNaN(to)) return;
      event.preventDefault();
      if (cards[to]) select(cards, cards[to]);
    });
    list.addEventListener("click", (event) => {
      const card = event.target.closest(".picture");
      const cards = visible();
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
    showLinks(card.querySelector("template.links"));
    if (!dialog.open) dialog.showModal();
  }
  /** Where there is more to see of the picture. */
  function showLinks(template) {
    const links = document.getElementById("large-links");
    const hadFocus = links.contains(document.activeElement);
    links.hidden = !template;
    links.replaceChildren(...(template ? [...template.content.cloneNode(true).children] : []));
    if (hadFocus) (links.firstElementChild ?? dialog.querySelector("button")).focus();
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

  /* --- Images by kind of error and by class --- */
  const errors = [...document.querySelectorAll("#worst-filters .chip")];
  const ofClass = document.getElementById("worst-class");
  function showErrors() {
    const kind = errors.find((chip) => chip.getAttribute("aria-pressed") === "true")?.dataset.error ?? "";
    const label = ofClass?.value ?? "";
    const list = document.getElementById("worst-cards");
    for (const card of list.children) {
      const isOfKind = !kind || card.dataset.errors.split(" ").includes(kind);
      card.hidden = !isOfKind || (label !== "" && !card.dataset.classes.split(" ").includes(label));
    }
    const cards = [...list.children].filter((card) => !card.hidden);
    cards.forEach((card, index) => { card.tabIndex = index ? -1 : 0; });
    const note = document.getElementById("worst-note");
    note.textContent = cards.length === list.children.length ? note.dataset.all
      : cards.length ? `${cards.length} of these ${list.children.length} images.` : "No image has such an error; choose another kind or class.";
  }
  for (const chip of errors) chip.addEventListener("click", () => {
    for (const other of errors) other.setAttribute("aria-pressed", String(other === chip));
    showErrors();
  });
  ofClass?.addEventListener("change", showErrors);

  /* --- Tables that a heading sorts --- */
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    const limit = body.querySelectorAll("tr:not(.more)").length;
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      // Numbers begin with the largest, names with A.
      const isRising = head.ariaSort ? head.ariaSort === "descending" : column === 0;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", isRising ? "ascending" : "descending");
      const key = (row) => column ? Number(row.cells[column].dataset.value ?? -Infinity) : row.cells[0].textContent;
      const rows = [...body.rows].sort((a, b) => {
        const [left, right] = [key(a), key(b)];
        return (column ? left - right : left.localeCompare(right, undefined, { numeric: true })) * (isRising ? 1 : -1);
      });
      body.replaceChildren(...rows);
      rows.forEach((row, place) => row.classList.toggle("more", place >= limit));
    }));
  }
  for (const button of document.querySelectorAll(".show-all")) {
    button.addEventListener("click", () => {
      button.previousElementSibling.classList.add("all");
      button.remove();
    });
  }
  for (const code of document.querySelectorAll("pre")) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "copy", textContent: "Copy" });
    button.addEventListener("click", async () => {
      const text = code.querySelector("code").textContent;
      try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; }
      catch { getSelection().selectAllChildren(code.querySelector("code")); button.textContent = "Selected"; }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    code.append(button);
  }
  reveal();
})();
