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

/** The same of the codes that are not 0, with their columns. */
class SparseRows {
  constructor(bytes, count, length) {
    this.length = length;
    this.count = count;
    const reader = new NumberReader(bytes);
    this.peaks = reader.read(Float32Array, count);
    const counts = reader.read(Uint32Array, count);
    this.starts = new Uint32Array(count + 1);
    for (let row = 0; row < count; row++) this.starts[row + 1] = this.starts[row] + counts[row];
    const entries = this.starts[count];
    this.columns = reader.read(length <= 1 << 16 ? Uint16Array : Uint32Array, entries);
    this.codes = reader.read(Uint8Array, entries);
  }

  weight(row, column) {
    for (let i = this.starts[row]; i < this.starts[row + 1]; i++) if (this.columns[i] === column) return (this.codes[i] / 255) * this.peaks[row];
    return 0;
  }

  addTo(sum, row, share) {
    const factor = (share * this.peaks[row]) / 255;
    for (let i = this.starts[row]; i < this.starts[row + 1]; i++) sum[this.columns[i]] += factor * this.codes[i];
  }
}

/** The sampled points of each row: weight as above, positions relative to the image. */
class Samples {
  static STEPS = 8192;

  constructor(bytes, count, points) {
    this.points = points;
    const reader = new NumberReader(bytes);
    this.peaks = reader.read(Float32Array, count);
    this.outsides = reader.read(Uint16Array, count);
    this.xs = reader.read(Int16Array, count * points);
    this.ys = reader.read(Int16Array, count * points);
    this.codes = reader.read(Uint8Array, count * points);
  }

  /** [{x, y, weight, point}] */
  of(row) {
    return Array.from({ length: this.points }, (_, point) => {
      const i = row * this.points + point;
      return { x: this.xs[i] / Samples.STEPS, y: this.ys[i] / Samples.STEPS, weight: (this.codes[i] / 255) * this.peaks[row], point };
    });
  }

  /** The share of a row's weight that no token received. */
  outside(row) {
    return this.outsides[row] / 65535;
  }
}

/** Reads little-endian numbers one array after the other; like any computer's that has a browser. */
class NumberReader {
  constructor(bytes) {
    this.buffer = bytes.buffer;
    this.offset = bytes.byteOffset;
  }

  read(type, count) {
    const end = this.offset + count * type.BYTES_PER_ELEMENT;
    const numbers = new type(this.buffer.slice(this.offset, end)); // copied, because it may not be aligned
    this.offset = end;
    return numbers;
  }
}

async function bytesOf(id) {
  const element = document.getElementById(id);
  return element && inflate(bytesOfBase64(element.textContent));
}

async function rowsOf(id, length) {
  const bytes = length > 0 ? await bytesOf(id) : null;
  return bytes && new Rows(bytes, length);
}
