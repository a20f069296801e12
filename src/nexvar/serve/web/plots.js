/** Small figures on canvases; each stands beside words or a table that say the same. */

import { diverging, isDark } from './colours.js';
import { colour, sized } from './dom.js';
import { score } from './format.js';
import { extremes, histogram } from './stats.js';

/** How scores are spread, and where one of them lies. @param {number[]} values @param {number} value */
export function distribution(canvas, values, value) {
  const width = Math.max(200, canvas.parentElement.clientWidth);
  const [height, base] = [76, 58];
  const context = sized(canvas, width, height);
  const { low, high, counts } = histogram(values, Math.min(48, Math.ceil(Math.sqrt(values.length) * 2)));
  const most = Math.max(...counts);
  const x = scale(low, high, 1, width - 1);
  const step = (width - 2) / counts.length;
  counts.forEach((count, i) => {
    const middle = low + ((i + 0.5) / counts.length) * (high - low);
    context.fillStyle = diverging(middle, Math.max(Math.abs(low), Math.abs(high)), isDark());
    const tall = count ? Math.max(1.5, (count / most) * (base - 12)) : 0;
    context.fillRect(1 + i * step, base - tall, Math.max(1, step - 1), tall);
  });
  axis(context, x, low, high, base, width);
  context.fillStyle = colour('text');
  context.fillRect(x(value) - 1, 4, 2, base - 4);
  context.beginPath();
  context.moveTo(x(value) - 5, 0);
  context.lineTo(x(value) + 5, 0);
  context.lineTo(x(value), 7);
  context.fill();
}

/** Scores by class, a dot each. @param {{name: string, kind: string, values: number[]}[]} groups */
export function strips(canvas, groups) {
  const width = Math.max(240, canvas.parentElement.clientWidth);
  const row = 38;
  const base = groups.length * row + 6;
  const context = sized(canvas, width, base + 20);
  const [low, high] = extremes(groups.flatMap((group) => group.values));
  const x = scale(low, high, 8, width - 8);
  groups.forEach((group, i) => {
    const top = i * row;
    context.fillStyle = colour('muted');
    context.textBaseline = 'top';
    context.fillText(`${group.name}, ${group.values.length}`, 0, top);
    context.fillStyle = colour(group.kind);
    context.globalAlpha = 0.75;
    group.values.forEach((value, j) => {
      context.beginPath();
      context.arc(x(value), top + 18 + ((j * 7) % 5) * 3, 2.5, 0, 7);
      context.fill();
    });
    context.globalAlpha = 1;
  });
  axis(context, x, low, high, base, width);
}

/** One value a base, as a line. @param {number[]} values @param {[number, number]} range */
export function line(canvas, values, [low, high]) {
  const width = Math.max(200, canvas.parentElement.clientWidth);
  const context = sized(canvas, width, 56);
  const x = scale(0, Math.max(1, values.length - 1), 1, width - 1);
  const y = scale(low, high, 54, 2);
  context.strokeStyle = colour('line');
  context.strokeRect(0.5, 0.5, width - 1, 55);
  context.strokeStyle = colour('accent');
  context.lineWidth = 1.5;
  context.beginPath();
  values.forEach((value, i) => context.lineTo(x(i), y(Math.max(low, Math.min(high, value)))));
  context.stroke();
}

/** Means of the last `size` values up to each. @param {number[]} values @param {number} size @returns {number[]} */
export function sliding(values, size) {
  let sum = 0;
  return values.map((value, i) => {
    sum += value - (i >= size ? values[i - size] : 0);
    return sum / Math.min(size, i + 1);
  });
}

function scale(low, high, from, to) {
  const wide = high > low ? high - low : 1;
  return (value) => from + ((value - low) / wide) * (to - from);
}

function axis(context, x, low, high, base, width) {
  context.fillStyle = colour('muted');
  context.fillRect(0, base, width, 1);
  context.textBaseline = 'top';
  const [left, right] = [score(low, 1), score(high, 1)];
  context.fillText(left, 0, base + 5);
  context.fillText(right, width - context.measureText(right).width, base + 5);
  if (low < 0 && high > 0 && x(0) > 50 && x(0) < width - 50) {
    context.fillRect(x(0), base - 3, 1, 6);
    context.fillText('0', x(0) - 3, base + 5);
  }
}
