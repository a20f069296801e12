/** Colours of scores: ColorBrewer's RdBu, which colour-blind readers can tell apart. All other colours: app.css. */

const LIGHT = {
  less: ['#f7f7f7', '#fddbc7', '#f4a582', '#d6604d', '#b2182b', '#67001f'],
  more: ['#f7f7f7', '#d1e5f0', '#92c5de', '#4393c3', '#2166ac', '#053061'],
};
const DARK = {  // the same hues from a dark middle: what is strong is bright
  less: ['#262b31', '#50302f', '#8c3b36', '#c4523f', '#e58267', '#fbc4ab'],
  more: ['#262b31', '#23405a', '#2b5f8c', '#3a80b8', '#6aaedb', '#b5daf2'],
};

/** @param {number} value a score @param {number} end where colours end @param {boolean} dark @returns {string} #rrggbb */
export function diverging(value, end, dark) {
  const steps = (dark ? DARK : LIGHT)[value < 0 ? 'less' : 'more'];
  const place = Math.min(1, Math.abs(value) / end) * (steps.length - 1);
  const below = Math.min(steps.length - 2, Math.floor(place));
  return mixed(steps[below], steps[below + 1], place - below);
}

/** The class of a known variant, of the group that the server gives its label. @param {string} [group] */
export function classOf(group) {
  return group === 'pathogenic' || group === 'benign' ? group : 'open';
}

/** @returns {boolean} does this reader's system ask for dark pages? */
export function isDark() {
  return matchMedia('(prefers-color-scheme: dark)').matches;
}

function channels(colour) {
  return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
}

function mixed(from, to, share) {
  const [a, b] = [channels(from), channels(to)];
  return `#${a.map((x, i) => Math.round(x + (b[i] - x) * share).toString(16).padStart(2, '0')).join('')}`;
}
