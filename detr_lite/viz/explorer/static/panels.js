"use strict";
// What other files add to the page without changes of its frame.

/**
 * Panels beside the image, each with a tab: {view, title, key, make(app, root) -> {open(), draw()}, isShown(app)}, the last
 * three optional, and isAboutAttention where the image's map must be attention. `key` is the shortcut; `open` is called for each new image, `draw` whenever something changes, `isShown` says
 * whether there is something to see of an image.
 */
const PANELS = [];

/**
 * Other maps of the selected query over the image than its cross-attention: by name, {title, caption(query), unit, reading,
 * format(value, peak), row(scene, query, label), levels(scene), extent, headExtent, note}. `row` is null of a query that has
 * none; `levels` is there if its values are not those of tokens; `reading` follows a value under the cursor; the extents stand
 * in place of the layer and the head, which such a map does not have, and `note` says why.
 */
const SOURCES = new Map();

/** What is drawn over the image beneath the boxes: functions (app) -> elements, made with `app.stage.boxes.box`. */
const OVERLAYS = [];

/** What a click or the mouse may hit before detections: functions (app, event, [x, y]) -> {select()} or null. */
const TARGETS = [];

const OWN_VIEWS = ["detections", "point", "links"];
function addPanel(panel) {
  PANELS.push(panel);
}

const viewNames = () => [...OWN_VIEWS, ...PANELS.map(({ view }) => view)];
