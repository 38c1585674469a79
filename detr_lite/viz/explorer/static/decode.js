"use strict";
// Decodes attention weights: base64, then zlib, then rows of 8-bit codes with a peak each.

function bytesOfBase64(text) {
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return bytes;
}

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Quantized rows: weight = code / 255 * peak of its row. */
class Rows {
  constructor(bytes, length) {
    this.length = length;
    this.count = bytes.length / (length + 4);
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    this.peaks = Float32Array.from({ length: this.count }, (_, row) => view.getFloat32(4 * row, true));
    this.codes = bytes.subarray(4 * this.count);
  }

  weight(row, column) {
    return (this.codes[row * this.length + column] / 255) * this.peaks[row];
  }

  /** Add a row's weights, times `share`, to `sum`. */
  addTo(sum, row, share) {
    const factor = (share * this.peaks[row]) / 255;
    const start = row * this.length;
    for (let column = 0; column < this.length; column++) sum[column] += factor * this.codes[start + column];
  }
}

async function rowsOf(id, length) {
  const element = document.getElementById(id);
  return element && length > 0 ? new Rows(await inflate(bytesOfBase64(element.textContent)), length) : null;
}
