/** What the page shows, kept in the URL's fragment: a link on one's own machine brings it back. No sequence is in it. */

import { formatRegion, formatVariant, parseRegion, parseVariant } from './coords.js';

export const VIEWS = ['locus', 'vcf', 'generate', 'models'];
const LONGEST = 40;  // bases of a variant's alleles in a link: a longer allele is a sequence

/** @param {string} fragment `#/locus?genome=chrM&region=chrM:3230-3304` @returns {State} */
export function parseFragment(fragment) {
  const [path, query = ''] = fragment.replace(/^#\/?/, '').split('?');
  const values = new URLSearchParams(query);
  return {
    view: VIEWS.includes(path) ? path : 'locus',
    genome: values.get('genome'),
    model: values.get('model'),
    region: parseRegion(values.get('region') ?? ''),
    variant: parseVariant(values.get('variant') ?? ''),
  };
}

/** @param {State} state */
export function formatFragment({ view, genome, model, region, variant }) {
  const values = [];
  if (genome) values.push(['genome', genome]);
  if (model) values.push(['model', model]);
  if (region) values.push(['region', formatRegion(region)]);
  if (variant && variant.ref.length + variant.alt.length <= LONGEST) values.push(['variant', formatVariant(variant)]);
  const query = values.map(([name, value]) => `${name}=${encodeURIComponent(value).replaceAll('%3A', ':')}`).join('&');
  return `#/${view}${query ? `?${query}` : ''}`;
}

/** The key in `#key=…`, as `nexvar serve` prints it. @param {string} fragment @returns {string | null} */
export function keyIn(fragment) {
  const match = /^#key=(.+)$/.exec(fragment);
  try {
    return match ? decodeURIComponent(match[1]) : null;
  } catch {
    return match[1];  // a key may hold a %
  }
}

let state = parseFragment(globalThis.location?.hash ?? '');
const listeners = [];

/** @returns {State} */
export function current() {
  return state;
}

/** Calls at every change. @param {(state: State) => void} listener */
export function onChange(listener) {
  listeners.push(listener);
}

/** Changes what is shown; the browser's back button returns. @param {Partial<State>} change */
export function go(change) {
  const next = { ...state, ...change };
  const fragment = formatFragment(next);
  if (fragment !== location.hash) history.pushState(null, '', fragment);
  apply(next);
}

/** Follows the address that the user typed, or went back to. */
export function follow() {
  apply(parseFragment(location.hash));
}

function apply(next) {
  state = next;
  for (const listener of listeners) listener(state);
}
