/** A map of the surroundings: genes of both strands, and where the region lies. A click goes there. */

import { showRegion } from './coords.js';
import { fill, h } from './dom.js';
import { called, genesOf } from './genes.js';

const SVG = 'http://www.w3.org/2000/svg';
const WHOLE = 200_000;

/** Which stretch the map shows: the whole of a short contig, else five times the region.
 * @param {Region} region @param {number} length of the contig */
export function stretchOf(region, length) {
  if (length <= WHOLE) return { contig: region.contig, start: 0, end: length };
  const margin = 2 * (region.end - region.start);
  return { contig: region.contig, start: Math.max(0, region.start - margin), end: Math.min(length, region.end + margin) };
}

/** Colour of a gene: its kind. @param {Feature} gene */
export function kindOf({ kind, type }) {
  if (/tRNA/.test(type)) return 'trna';
  if (/rRNA/.test(type)) return 'rrna';
  return /loop|control/i.test(kind) ? 'control' : /protein/.test(type) ? 'coding' : 'other';
}

/** @param {Region | null} region what is shown of it @param {Region} stretch
 * @param {Feature[]} features @param {(gene: Feature) => void} choose */
export function overview(root, region, stretch, features, choose) {
  const genes = genesOf(features);
  const x = (pos0) => (1000 * (pos0 - stretch.start)) / (stretch.end - stretch.start);
  const map = element('svg', { viewBox: '0 0 1000 44', preserveAspectRatio: 'none', role: 'img', 'aria-label': `${genes.length} genes of ${showRegion(stretch)}${region ? `; shown: ${showRegion(region)}` : ''}` });
  map.append(element('rect', { class: 'axis', x: 0, y: 21.5, width: 1000, height: 1 }));
  for (const gene of genes) {
    const [left, right] = [x(Math.max(stretch.start, gene.start)), x(Math.min(stretch.end, gene.end))];
    const bar = element('rect', { class: `map-gene ${kindOf(gene)}`, x: left, y: gene.strand === '-' ? 25 : 7, width: Math.max(1.5, right - left - 0.7), height: 12, rx: 1 });
    bar.append(element('title', {}, called(gene)));
    bar.addEventListener('click', () => choose(gene));
    map.append(bar);
  }
  if (region) {
    const width = Math.max(3, x(region.end) - x(region.start));
    map.append(element('rect', { class: 'map-window', x: Math.min(997, x(region.start)), y: 1, width, height: 42, rx: 1 }));
  }
  fill(root, map, h('div', { class: 'map-key', 'aria-hidden': 'true' }, ...[['coding', 'protein'], ['rrna', 'rRNA'], ['trna', 'tRNA'], ['control', 'control'], ['other', 'other']].filter(([kind]) => genes.some((gene) => kindOf(gene) === kind)).map(([kind, words]) => h('span', h('i', { class: kind }), words)),
    h('span', { class: 'note' }, 'plus strand above, minus below')));
}

function element(name, attributes, text = '') {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.textContent = text;
  return made;
}
