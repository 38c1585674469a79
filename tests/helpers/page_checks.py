"""Scripts that look at a page in a browser."""

WIDER = """(selector) => [...document.querySelectorAll(selector)].filter((one) => {
  const box = one.getBoundingClientRect();
  return box.width && box.right > innerWidth + 1
    && !one.closest('.scroll, .contents, .skip, .frame, .visually-hidden');
}).map((one) => one.outerHTML.slice(0, 80))"""
"""Elements that reach beyond the window, but for those inside of something that scrolls or clips."""

CONTRASTS = """(selectors) => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (value) => value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => .2126 * linear(r / 255) + .7152 * linear(g / 255) + .0722 * linear(b / 255);
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const color = rgb(getComputedStyle(one).backgroundColor);
      if (color.length < 4 || color[3] > .95) return color;
    }
    return [255, 255, 255];
  };
  return selectors.map((selector) => {
    const one = document.querySelector(selector);
    const [a, b] = [rgb(getComputedStyle(one).color), ground(one)].map(luminance);
    return [selector, (Math.max(a, b) + .05) / (Math.min(a, b) + .05)];
  });
}"""
"""Of the first element of each selector against the ground that it stands on (WCAG 2.2)."""
