"use strict";
// From the weights of tokens to a heatmap.
// A coarse token covers several tokens of the finest level. Its weight is spread evenly over them, so that the heatmap
// sums to the weights.

const finestOf = (levels) => levels.reduce((best, level) => (level.width * level.height > best.width * best.height ? level : best));

/** For each level a function (row, column) -> how many tokens of the finest level that token covers. */
function coverage(levels) {
  const finest = finestOf(levels);
  return levels.map((level) => {
    const ratio = Math.max(1, Math.round(finest.spanWidth / level.spanWidth), Math.round(finest.spanHeight / level.spanHeight));
    const covered = (index, count) => Math.max(1, Math.min((index + 1) * ratio, count) - index * ratio);
    return (row, column) => covered(row, finest.height) * covered(column, finest.width);
  });
}

class Heatmap {
  /** `weights` are level by level, row-major; `only` is "all", or the number of a single level. */
  constructor(weights, levels, only = "all", unit = "") {
    this.unit = unit; // what the values are
    const covered = only === "all" ? coverage(levels) : levels.map(() => () => 1);
    let first = 0;
    this.layers = levels.map((level, number) => {
      const values = new Float64Array(level.width * level.height);
      for (let row = 0, i = 0; row < level.height; row++)
        for (let column = 0; column < level.width; column++, i++) values[i] = weights[first + i] / covered[number](row, column);
      first += values.length;
      return { ...level, values };
    });
    if (only !== "all") this.layers = [this.layers[only]];
    this.finest = finestOf(this.layers);
    const { width, height, spanWidth, spanHeight } = this.finest;
    this.width = width;
    this.height = height;
    /** One value for each token of the finest level shown. */
    this.values = new Float64Array(width * height);
    // The centers of its tokens; where the image ends within the last one, it may be outside the image.
    for (const layer of this.layers) {
      const columns = Int32Array.from({ length: width }, (_, column) => tokenAt((column + 0.5) / spanWidth, layer.spanWidth, layer.width));
      for (let row = 0; row < height; row++) {
        const from = tokenAt((row + 0.5) / spanHeight, layer.spanHeight, layer.height) * layer.width;
        for (let column = 0; column < width; column++) this.values[row * width + column] += layer.values[from + columns[column]];
      }
    }
    this.peak = 0;
    for (const value of this.values) if (value > this.peak) this.peak = value;
  }

  /** The value at a point, whose coordinates are relative to the image. */
  at([x, y]) {
    let sum = 0;
    for (const { width, height, spanWidth, spanHeight, values } of this.layers)
      sum += values[tokenAt(y, spanHeight, height) * width + tokenAt(x, spanWidth, width)];
    return sum;
  }

  /** The values of so many pixels, relative to the peak; each token a rectangle, or interpolated. */
  pixels(width, height, smooth) {
    const sum = new Float32Array(width * height);
    for (const layer of this.layers) addResized(sum, width, height, layer, smooth);
    const scale = this.peak > 0 ? 1 / this.peak : 0;
    for (let i = 0; i < sum.length; i++) sum[i] = Math.min(1, Math.max(0, sum[i] * scale)); // cubic interpolation overshoots
    return sum;
  }
}

/** The token at a position from 0 to 1, of so many of which the image spans a part. */
const tokenAt = (position, span, count) => Math.min(count - 1, Math.floor(position * span + 1e-9));

/** Four tokens and their coefficients for each pixel of a line, one after the other: the nearest alone, or Catmull-Rom interpolation. */
function taps(pixels, tokens, span, smooth) {
  const [of, factors] = [new Int32Array(4 * pixels), new Float64Array(4 * pixels)];
  for (let pixel = 0; pixel < pixels; pixel++) {
    const position = ((pixel + 0.5) / pixels) * span;
    const first = smooth ? Math.floor(position - 0.5) : Math.floor(position);
    const t = position - 0.5 - first;
    const own = smooth ? [((-t + 2) * t - 1) * t * 0.5, ((3 * t - 5) * t * t + 2) * 0.5, ((-3 * t + 4) * t + 1) * t * 0.5, (t - 1) * t * t * 0.5] : [0, 1, 0, 0];
    for (let tap = 0; tap < 4; tap++) {
      of[4 * pixel + tap] = Math.min(tokens - 1, Math.max(0, first - 1 + tap));
      factors[4 * pixel + tap] = own[tap];
    }
  }
  return { of, factors };
}

function addResized(sum, width, height, layer, smooth) {
  const { values } = layer;
  const across = taps(width, layer.width, layer.spanWidth, smooth);
  const resized = new Float32Array(layer.height * width); // first horizontally: there are far fewer rows of tokens than of pixels
  for (let row = 0; row < layer.height; row++) {
    const from = row * layer.width;
    for (let x = 0, i = 0; x < width; x++, i += 4) {
      const { of, factors } = across;
      resized[row * width + x] = factors[i] * values[from + of[i]] + factors[i + 1] * values[from + of[i + 1]] + factors[i + 2] * values[from + of[i + 2]] + factors[i + 3] * values[from + of[i + 3]];
    }
  }
  const { of, factors } = taps(height, layer.height, layer.spanHeight, smooth);
  for (let y = 0, i = 0; y < height; y++, i += 4) {
    const [a, b, c, d] = [of[i] * width, of[i + 1] * width, of[i + 2] * width, of[i + 3] * width];
    const [p, q, r, s] = [factors[i], factors[i + 1], factors[i + 2], factors[i + 3]];
    for (let x = 0, to = y * width; x < width; x++, to++) sum[to] += p * resized[a + x] + q * resized[b + x] + r * resized[c + x] + s * resized[d + x];
  }
}

/** Weak attention stays visible, no attention leaves the image. */
const opacity = (value) => 0.94 * Math.sqrt(value);

/** A color of each of 1024 values from 0 to 1, as 32 bits: see-through, over a gray, or opaque. */
function tableOf(colormap, background) {
  const table = new Uint8ClampedArray(4 * 1024);
  for (let i = 0; i < 1024; i++) {
    const value = i / 1023;
    const color = 3 * Math.round(255 * value);
    const alpha = background === "opaque" ? 1 : opacity(value);
    for (let channel = 0; channel < 3; channel++) table[4 * i + channel] = typeof background === "number" ? alpha * colormap[color + channel] + (1 - alpha) * background : colormap[color + channel];
    table[4 * i + 3] = background === null ? Math.round(255 * alpha) : 255;
  }
  return new Uint32Array(table.buffer);
}

/** Paint values from 0 to 1 on a canvas: see-through, over a `background` (gray, 0 to 255), or with "opaque" colors. */
function paint(canvas, values, width, height, colormap, background = null) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const pixels = new Uint32Array(picture.data.buffer);
  const table = tableOf(colormap, background);
  for (let i = 0; i < values.length; i++) pixels[i] = table[(1023 * values[i] + 0.5) | 0];
  context.putImageData(picture, 0, 0);
}

/** "3.25 %" */
function percent(share) {
  if (share === 0) return "0 %";
  const value = 100 * share;
  if (value < 0.001) return "< 0.001 %";
  return `${value >= 99.95 ? "100" : value >= 10 ? value.toFixed(1) : value >= 1 ? value.toFixed(2) : value.toFixed(3)} %`;
}

/** A value of what is drawn, in its own terms: a share, if nothing else is said. */
const valueText = ({ format }, value) => (format || percent)(value);

const CONTOURS = [1 / 8, 1 / 4, 1 / 2, 3 / 4]; // shares of the peak

/** Lines where the values pass shares of the peak, in the color map's colors on a dark rim; the picture stays as it is. */
function paintContours(canvas, values, width, height, colormap) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const reach = Math.max(1, Math.round(Math.max(width, height) / 500)); // half of a line's width
  const [least, less, more, most] = CONTOURS;
  const band = new Uint8Array(values.length);
  for (let i = 0; i < band.length; i++) band[i] = (values[i] >= least) + (values[i] >= less) + (values[i] >= more) + (values[i] >= most);
  const pixels = new Uint32Array(picture.data.buffer);
  const edges = []; // pixels where it changes
  for (let y = 0, i = 0; y < height; y++)
    for (let x = 0; x < width; x++, i++)
      if ((x + 1 < width && band[i + 1] !== band[i]) || (y + 1 < height && band[i + width] !== band[i])) edges.push(i);
  const draw = (radius, colorOf) => {
    for (const i of edges) {
      const [x, y] = [i % width, Math.floor(i / width)];
      const color = colorOf(Math.max(band[i], x + 1 < width ? band[i + 1] : 0, y + 1 < height ? band[i + width] : 0));
      const [first, last] = [Math.max(0, x - radius), Math.min(width - 1, x + radius)];
      for (let v = Math.max(0, y - radius); v <= Math.min(height - 1, y + radius); v++) pixels.fill(color, v * width + first, v * width + last + 1);
    }
  };
  const table = tableOf(colormap, "opaque");
  const colorOf = (level) => table[Math.round(1023 * (0.45 + 0.55 * CONTOURS[level - 1]))]; // bright ones
  draw(reach + 1, () => 0xff000000);
  draw(reach, colorOf);
  context.putImageData(picture, 0, 0);
}

/** Attention over the picture, as contours, or bare. */
function paintAs(mode, canvas, values, width, height, colormap) {
  if (mode === "contour") paintContours(canvas, values, width, height, colormap);
  else paint(canvas, values, width, height, colormap, mode === "bare" ? "opaque" : null);
}
