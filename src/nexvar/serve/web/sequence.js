/** The plus strand as text, with genes and codons above it. A click picks a base, a drag a range; so do the arrow keys. */

import { classOf } from './colours.js';
import { grouped } from './coords.js';
import { fill, h } from './dom.js';
import { called, codingOf, codons, genesOf, rowsOf } from './genes.js';

/** How many bases fit on a line: whole tens, at most 100. @param {number} width @param {number} cell pixels a base */
export function perLine(width, cell) {
  return Math.max(10, Math.min(100, Math.floor(width / cell / 10) * 10));
}

/** Letters of residues above the middle base of their codons, as a line of text. @param {Feature} cds
 * @param {number} from first base of the line @param {number} to @param {number} start @param {string} sequence */
export function residues(cds, from, to, start, sequence) {
  const line = new Array(to - from).fill(' ');
  for (const codon of codons(cds, start, sequence)) {
    const middle = codon.start + 1;
    if (middle >= from && middle < to) line[middle - from] = codon.residue;
  }
  return line.join('');
}

/** @param {(pos0: number, base: string) => void} pick @param {(start: number, end: number) => void} range */
export function sequence(root, pick, range) {
  const board = h('div', { class: 'bases', tabindex: 0, role: 'application', 'aria-roledescription': 'sequence' });
  const output = h('output', { class: 'reading', 'aria-live': 'polite' });
  let shown = null;
  let cursor = 0;
  let anchor = null;
  let marked = null;
  let length = 0;

  function show(region, bases, features, known) {
    shown = { region, bases: bases.toUpperCase(), features, known: new Map(known.map((each) => [each.pos - 1, classOf(each.group)])) };
    cursor = region.start;
    anchor = null;
    fill(root, board, output);
    output.textContent = 'Click a base for its variants, drag along bases for all changes of that range. By keyboard: arrows, Shift with arrows, Enter.';
    board.setAttribute('aria-label', `${grouped(bases.length)} bases of ${region.contig} from ${grouped(region.start + 1)}, plus strand`);
    length = 0;
    layout();
  }

  function layout() {
    if (!shown || !board.clientWidth) return;
    const probe = h('span', { class: 'probe' }, '0'.repeat(50));
    board.append(probe);
    const cell = probe.getBoundingClientRect().width / 50;
    probe.remove();
    const narrow = board.clientWidth < 560;
    const next = perLine(board.clientWidth - (narrow ? 0 : 62), cell || 8);
    if (next === length) return;
    length = next;
    const { region } = shown;
    const lines = [];
    for (let from = region.start; from < region.end; from += length) lines.push(line(from, Math.min(region.end, from + length)));
    fill(board, ...lines);
    paint();
  }

  function line(from, to) {
    const { region, bases, features, known } = shown;
    const inside = (feature) => feature.start < to && feature.end > from;
    const lanes = rowsOf(genesOf(features).filter(inside)).map((row) => h('div', { class: 'lane' }, ...row.map((gene) => bar(gene, from, to))));
    const coding = codingOf(features).filter(inside);
    const proteins = rowsOf(coding).flat().map((cds) => h('div', { class: 'residues', 'aria-hidden': 'true' }, residues(cds, from, to, region.start, bases)));
    const letters = [...bases.slice(from - region.start, to - region.start)].map((base, i) =>
      h('span', { class: `base ${base}${known.has(from + i) ? ` known ${known.get(from + i)}` : ''}`, 'data-pos0': from + i }, base));
    return h('div', { class: 'line' }, h('span', { class: 'place' }, grouped(from + 1)), h('div', { class: 'rows' }, ...lanes, ...proteins, h('div', { class: 'letters' }, ...letters)));
  }

  function bar(gene, from, to) {
    const element = h('span', { class: `gene ${gene.strand === '-' ? 'minus' : 'plus'}${gene.start < from ? ' goes-left' : ''}${gene.end > to ? ' goes-right' : ''}` }, h('b', gene.strand === '-' ? `← ${gene.name}` : gene.strand === '+' ? `${gene.name} →` : gene.name));
    const left = Math.max(gene.start, from) - from;
    element.style.left = `${left}ch`;
    element.style.width = `${Math.min(gene.end, to) - from - left}ch`;
    return element;
  }

  function describe(pos0) {
    const { region, bases, features } = shown;
    const genes = genesOf(features).filter((gene) => gene.start <= pos0 && pos0 < gene.end);
    return [`${region.contig}:${grouped(pos0 + 1)} ${bases[pos0 - region.start]}`, ...genes.map(called)].join('; ');
  }

  function selection() {
    return anchor === null || anchor === cursor ? null : [Math.min(anchor, cursor), Math.max(anchor, cursor) + 1];
  }

  function paint() {
    const chosen = selection();
    for (const element of board.querySelectorAll('.base')) {
      const pos0 = Number(element.getAttribute('data-pos0'));
      element.classList.toggle('chosen', Boolean(chosen && pos0 >= chosen[0] && pos0 < chosen[1]));
      element.classList.toggle('cursor', pos0 === cursor && document.activeElement === board);
      element.classList.toggle('marked', pos0 === marked);
    }
  }

  function read() {
    const chosen = selection();
    output.textContent = chosen ? `${grouped(chosen[1] - chosen[0])} bases, ${grouped(chosen[0] + 1)} to ${grouped(chosen[1])}` : describe(cursor);
  }

  function finish() {
    const chosen = selection();
    anchor = null;
    if (chosen) range(chosen[0], chosen[1]);
    else pick(cursor, shown.bases[cursor - shown.region.start]);
    paint();
  }

  const positionOf = (event) => {
    const element = document.elementFromPoint(event.clientX, event.clientY)?.closest('[data-pos0]');
    return element && board.contains(element) ? Number(element.getAttribute('data-pos0')) : null;
  };
  board.addEventListener('pointerdown', (event) => {
    const pos0 = positionOf(event);
    if (pos0 === null || event.button !== 0) return;
    cursor = pos0;
    anchor = event.pointerType === 'touch' ? null : pos0;  // a finger scrolls
    if (anchor !== null) board.setPointerCapture(event.pointerId);
    paint();
  });
  board.addEventListener('pointermove', (event) => {
    const pos0 = positionOf(event);
    if (pos0 === null) return;
    if (anchor !== null && event.buttons & 1) cursor = pos0;
    else if (document.activeElement !== board || !event.shiftKey) output.textContent = describe(pos0);
    if (anchor !== null) { read(); paint(); }
  });
  board.addEventListener('click', (event) => {
    const pos0 = positionOf(event);
    if (pos0 === null && !selection()) return;
    if (anchor === null) cursor = pos0;
    finish();
  });
  board.addEventListener('keydown', (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -length, ArrowDown: length }[event.key];
    if (!shown || (step === undefined && event.key !== 'Enter' && event.key !== 'Escape')) return;
    event.preventDefault();
    if (event.key === 'Enter') return finish();
    if (event.key === 'Escape') anchor = null;
    if (step !== undefined) {
      anchor = event.shiftKey ? anchor ?? cursor : null;
      cursor = Math.max(shown.region.start, Math.min(shown.region.end - 1, cursor + step));
      board.querySelector(`[data-pos0="${cursor}"]`)?.scrollIntoView({ block: 'nearest' });
    }
    read();
    return paint();
  });
  board.addEventListener('focus', () => { if (shown) { read(); paint(); } });
  board.addEventListener('blur', paint);
  new ResizeObserver(layout).observe(board);

  return {
    show,
    mark(pos0) {
      marked = pos0;
      if (pos0 !== null && shown && pos0 >= shown.region.start && pos0 < shown.region.end) cursor = pos0;
      paint();
      const element = pos0 === null ? null : board.querySelector(`[data-pos0="${pos0}"]`);
      if (element) board.scrollTop = Math.max(0, element.offsetTop - board.clientHeight / 2);
    },
  };
}
