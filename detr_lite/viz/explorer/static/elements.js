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

/** Black or white, whichever has more contrast with a color (WCAG 2, relative luminance): 4.5 : 1 at least. */
function textColorOn(color) {
  const [red, green, blue] = color.map((channel) => (channel <= 10 ? channel / 255 / 12.92 : ((channel / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
}
