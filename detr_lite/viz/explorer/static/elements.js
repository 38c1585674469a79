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

/** An element of an SVG. */
function shape(tag, attributes) {
  const created = document.createElementNS($("links").namespaceURI, tag);
  for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
  return created;
}

const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

/** Black or white, whichever is legible on a color. */
const textColorOn = ([red, green, blue]) => (0.299 * red + 0.587 * green + 0.114 * blue > 120 ? "#141414" : "#fff");
