/** Ranks, percentiles and the AUROC with DeLong's interval, as `nexvar.evals.metrics` computes them (a test compares). */

/** At least so many of each class, or no AUROC is given. */
export const FEW = 10;

/** Ranks from 1, ties sharing their mean. @param {number[]} values @returns {number[]} */
export function midranks(values) {
  const order = values.map((_, i) => i).sort((a, b) => values[a] - values[b]);
  const ranks = new Array(values.length);
  for (let from = 0; from < order.length; ) {
    let to = from;
    while (to < order.length && values[order[to]] === values[order[from]]) to++;
    for (let i = from; i < to; i++) ranks[order[i]] = (from + to + 1) / 2;
    from = to;
  }
  return ranks;
}

/**
 * AUROC of `positive` against `negative` (higher scores belong to positive) with DeLong's 95 % interval.
 * @param {number[]} positive @param {number[]} negative
 */
export function auroc(positive, negative) {
  const [n, m] = [positive.length, negative.length];
  if (n < FEW || m < FEW) return null;
  const all = midranks([...positive, ...negative]);
  const own = midranks(positive);
  const other = midranks(negative);
  const below = positive.map((_, i) => (all[i] - own[i]) / m);
  const above = negative.map((_, j) => 1 - (all[n + j] - other[j]) / n);
  const value = mean(below);
  const error = Math.sqrt(variance(below) / n + variance(above) / m);
  return { value, low: Math.max(0, value - 1.959964 * error), high: Math.min(1, value + 1.959964 * error) };
}

/** Counts in equal bins between the extremes. @param {number[]} values @param {number} bins */
export function histogram(values, bins) {
  const [low, high] = extremes(values);
  const counts = new Array(bins).fill(0);
  for (const value of values) counts[high > low ? Math.min(bins - 1, Math.floor(((value - low) / (high - low)) * bins)) : 0]++;
  return { low, high, counts };
}

/** @param {number[]} values @returns {[number, number]} */
export function extremes(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

/** Where colours end: the value that 98 % of |values| stay within, rounded up to a tenth. @param {number[]} values */
export function colourEnd(values) {
  const sizes = values.map(Math.abs).sort((a, b) => a - b);
  const end = sizes[Math.floor(0.98 * (sizes.length - 1))] ?? 1;
  return Math.max(0.1, Math.ceil(end * 10) / 10);
}

/** Heights in bits of A, C, G, T from log-ratios against the reference (its own is 0): p times (2 - entropy), the
 * logo of `nexvar saturate`. @param {number[]} ratios four @returns {number[]} */
export function logoHeights(ratios) {
  const most = Math.max(...ratios);
  const weights = ratios.map((ratio) => Math.exp(ratio - most));
  const total = weights.reduce((a, b) => a + b);
  const p = weights.map((weight) => weight / total);
  const entropy = -p.reduce((sum, q) => sum + (q > 0 ? q * Math.log2(q) : 0), 0);
  return p.map((q) => q * (2 - entropy));
}

function mean(values) {
  return values.reduce((a, b) => a + b, 0) / values.length;
}

function variance(values) {
  const centre = mean(values);
  return values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (values.length - 1);
}
