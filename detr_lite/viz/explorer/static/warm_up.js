"use strict";
// Browsers compile what has run for a while. Small maps that nobody sees, drawn while the page waits, keep the first one that is
// asked for from taking three times as long as later ones.

const WARM_UPS = 24;
const [WARM_WIDTH, WARM_HEIGHT] = [96, 72]; // pixels

function warmUp(app) {
  if (app.scene.isText) return;
  const later = (act) => (window.requestIdleCallback ? requestIdleCallback(act, { timeout: 1000 }) : setTimeout(act, 20));
  const { levels } = app.scene.metadata;
  const weights = Float64Array.from({ length: tokensOf(levels) }, (_, token) => (token % 7) / 7);
  const canvas = element("canvas");
  const run = (left) => {
    const map = new Heatmap(weights, levels);
    const values = map.pixels(WARM_WIDTH, WARM_HEIGHT, left % 4 > 0);
    paintAs(left % 2 ? "overlay" : "contour", canvas, values, WARM_WIDTH, WARM_HEIGHT, app.colors);
    paintDifference(canvas, differenceOf(map, values, map, values).values, WARM_WIDTH, WARM_HEIGHT, app.differenceColors);
    if (left > 1) later(() => run(left - 1));
  };
  later(() => run(WARM_UPS));
}
