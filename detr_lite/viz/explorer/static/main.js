"use strict";
// Starts the page, or says why it cannot be shown.

function showError(text) {
  $("error-message").textContent = text;
  $("error-message").hidden = false;
  document.querySelector("main").hidden = true;
}

if (typeof DecompressionStream === "undefined") {
  showError("This browser cannot decompress the page's data: it lacks DecompressionStream. Browsers since 2023 have it (Chrome 80, Firefox 113, Safari 16.4).");
} else {
  const explorer = new Explorer(JSON.parse($("metadata").textContent));
  // What is drawn, read-only, for tests and for the browser's console.
  window.explorer = Object.freeze({
    state: () => structuredClone(explorer.state),
    heatmap: () => explorer.heatmap && { width: explorer.heatmap.width, height: explorer.heatmap.height, peak: explorer.heatmap.peak, values: [...explorer.heatmap.values] },
    queriesAt: () => explorer.scene.queriesAt(explorer.state.layer, explorer.state.head, explorer.state.point, explorer.state.level),
    selfAttention: () => [...explorer.scene.selfAttention(explorer.state.layer, explorer.state.head, explorer.query())],
    samples: () => structuredClone(explorer.samples),
    comparison: () => explorer.compare.heatmap && { values: [...explorer.compare.heatmap.values] },
    matrix: () => explorer.matrix && { values: explorer.matrix.rows.map((_, row) => [...explorer.matrix.valuesOf(row)]), cell: explorer.stage.matrix.cellSize, left: explorer.stage.matrix.left, top: explorer.stage.matrix.top },
    ready: explorer.start().catch((error) => {
      showError(`This page's data cannot be read (${error.message}); the file may be incomplete. Create it again.`);
      throw error;
    }),
  });
}
