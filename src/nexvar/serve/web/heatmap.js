/** The scores of every SNV of a stretch: four rows of coloured cells on a canvas, by mouse, by arrow keys, and as a table. */

import { classOf, diverging, isDark } from './colours.js';
import { grouped, showVariant } from './coords.js';
import { colour, fill, h, sized, table, unfolding } from './dom.js';
import { counted, percent, score } from './format.js';
import { colourEnd } from './stats.js';

export const LETTERS = ['A', 'C', 'G', 'T'];
const ROW = 20;
const AXIS = 20;

/** All scores there are. @param {Heat} heat @returns {number[]} */
export function valuesOf(heat) {
  return heat.scores.flat().filter((value) => value !== null);
}

/** Where an SNV lies among all of the stretch. @param {Heat} heat @param {{pos: number, alt: string}} variant share: of SNVs with a lower score */
export function placeOf(heat, { pos, alt }) {
  const [column, row] = [pos - 1 - heat.start, LETTERS.indexOf(alt)];
  const value = heat.scores[column]?.[row] ?? null;
  return value === null ? null : { value, share: heat.percentiles[column][row] / 100, count: valuesOf(heat).length };
}

/** What kind of score a map has: there are two, and they are never mixed. @param {Heat} heat */
export function kindOf({ readout }) {
  return readout.endsWith('_TILED') ? `quick score (${readout})` : `model’s own readout (${readout}, anchored windows)`;
}

/** @param {(variant: Variant) => void} pick */
export function heatmap(root, pick) {
  const canvas = h('canvas', { tabindex: 0, role: 'application', 'aria-roledescription': 'heat map' });
  const letters = h('div', { class: 'heat-letters', 'aria-hidden': 'true' }, ...LETTERS.map((letter) => h('span', { class: `base ${letter}` }, letter)));
  const strip = h('div', { class: 'heat-strip' }, canvas);
  const output = h('output', { class: 'reading', 'aria-live': 'polite' });
  const legend = h('div', { class: 'legend' });
  const rest = h('div');
  let heat = null;
  let known = new Map();
  let cell = 10;
  let at = { column: 0, row: 0 };
  let marked = null;
  let values = [];
  let end = 1;

  function show(next, variants) {
    heat = next;
    values = valuesOf(next);
    end = colourEnd(values);
    known = new Map(variants.map((each) => [`${each.pos}${each.alt}`, classOf(each.group)]));
    at = { column: 0, row: LETTERS.findIndex((letter) => letter !== next.ref[0]) };
    fill(root, h('div', { class: 'heat' }, letters, strip), output, legend, rest);
    output.textContent = 'Point at a cell, or move with the arrow keys; Enter opens the variant.';
    canvas.setAttribute('aria-label', `${counted(values.length, 'score')} of single-base changes, ${next.readout}. Arrow keys move, Enter opens.`);
    drawLegend();
    fill(rest, unfolding(`Table of ${counted(values.length, 'score')}`, asTable));
    draw();
  }

  function draw() {
    if (!heat || !strip.clientWidth) return;
    const dark = isDark();
    cell = Math.max(6, Math.min(26, strip.clientWidth / heat.ref.length));
    const width = Math.max(1, Math.floor(cell * heat.ref.length));
    const context = sized(canvas, width, 4 * ROW + AXIS);
    const gap = cell >= 8 ? 1 : 0;
    heat.scores.forEach((row, column) => row.forEach((value, i) => {
      if (value === null) return drawReference(context, column, i);
      context.fillStyle = diverging(value, end, dark);
      context.fillRect(column * cell, i * ROW, cell - gap, ROW - 1);
      return drawKnown(context, column, i);
    }));
    drawAxis(context, width);
    if (marked) outline(context, marked.column, marked.row, colour('text'), 2);
    if (document.activeElement === canvas) outline(context, at.column, at.row, colour('accent'), 2);
  }

  function drawReference(context, column, i) {
    context.fillStyle = colour('soft');
    context.fillRect(column * cell, i * ROW, cell - (cell >= 8 ? 1 : 0), ROW - 1);
    if (heat.ref[column] !== LETTERS[i]) return;
    context.fillStyle = colour('faint');
    context.beginPath();
    context.arc(column * cell + cell / 2 - 0.5, i * ROW + ROW / 2, Math.min(2.5, cell / 4), 0, 7);
    context.fill();
  }

  function drawKnown(context, column, i) {
    const kind = known.get(`${heat.start + column + 1}${LETTERS[i]}`);
    if (!kind) return;
    context.strokeStyle = colour(kind);
    context.lineWidth = 1.5;
    context.strokeRect(column * cell + 1, i * ROW + 1, cell - 3, ROW - 3);
  }

  function drawAxis(context, width) {
    const step = [5, 10, 20, 50, 100, 200].find((each) => each * cell > 64) ?? 500;
    context.fillStyle = colour('muted');
    context.textBaseline = 'top';
    for (let column = 0; column < heat.ref.length; column++) {
      const pos = heat.start + column + 1;
      if (pos % step) continue;
      const x = column * cell + cell / 2;
      context.fillRect(Math.round(x) - 0.5, 4 * ROW, 1, 4);
      const text = grouped(pos);
      const half = context.measureText(text).width / 2;
      context.fillText(text, Math.max(0, Math.min(width - 2 * half, x - half)), 4 * ROW + 6);
    }
  }

  function outline(context, column, row, stroke, width) {
    context.strokeStyle = stroke;
    context.lineWidth = width;
    context.strokeRect(column * cell + width / 2 - 0.5, row * ROW + width / 2 - 0.5, cell - width + 0.5, ROW - width + 0.5);
  }

  function drawLegend() {
    const bar = h('canvas', { 'aria-hidden': 'true' });
    const context = sized(bar, 120, 10);
    for (let x = 0; x < 120; x++) {
      context.fillStyle = diverging(((x - 59.5) / 59.5) * end, end, isDark());
      context.fillRect(x, 0, 1, 10);
    }
    fill(legend, h('span', `−${end} less likely`), bar, h('span', `more likely +${end}`),
      h('span', { class: 'key' }, h('i', { class: 'dot' }), 'reference'),
      known.size > 0 && h('span', { class: 'key' }, h('i', { class: 'ring pathogenic' }), h('i', { class: 'ring benign' }), 'known variant'));
  }

  function asTable() {
    const { start, ref, scores, readout, contig } = heat;
    return table(`${readout} of every single-base change, ${contig}`, ['Position', 'Reference', ...LETTERS],
      scores.map((row, i) => [grouped(start + i + 1), ref[i], ...row.map((value) => score(value))]));
  }

  function variantAt({ column, row }) {
    const { contig, start, ref } = heat;
    return { contig, pos: start + column + 1, ref: ref[column], alt: LETTERS[row] };
  }

  function read() {
    const variant = variantAt(at);
    const place = placeOf(heat, variant);
    output.textContent = place
      ? `${showVariant(variant)} · ${score(place.value)} · lower than ${percent(1 - place.share)} of ${counted(place.count, 'SNV')}`
      : `${variant.contig}:${grouped(variant.pos)} ${variant.ref} is the reference`;
    canvas.setAttribute('aria-label', output.textContent);
  }

  function reveal({ column }) {
    strip.scrollLeft = column * cell - strip.clientWidth / 2;
  }

  function cellAt(event) {
    const box = canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / cell);
    const row = Math.floor((event.clientY - box.top) / ROW);
    return heat && column >= 0 && column < heat.ref.length && row >= 0 && row < 4 ? { column, row } : null;
  }

  function choose() {
    const variant = variantAt(at);
    if (heat && placeOf(heat, variant)) pick(variant);
  }

  canvas.addEventListener('mousemove', (event) => {
    const found = cellAt(event);
    if (found) { at = found; read(); }
  });
  canvas.addEventListener('click', (event) => {
    const found = cellAt(event);
    if (found) { at = found; choose(); }
  });
  canvas.addEventListener('keydown', (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], PageUp: [-10, 0], PageDown: [10, 0] }[event.key];
    if (!heat || (!step && event.key !== 'Enter')) return;
    event.preventDefault();
    if (!step) return choose();
    at = { column: Math.max(0, Math.min(heat.ref.length - 1, at.column + step[0])), row: Math.max(0, Math.min(3, at.row + step[1])) };
    reveal(at);
    read();
    return draw();
  });
  canvas.addEventListener('focus', () => { read(); draw(); });
  canvas.addEventListener('blur', draw);
  new ResizeObserver(draw).observe(strip);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { if (heat) { drawLegend(); draw(); } });

  return {
    show,
    mark(variant) {
      const column = heat && variant ? variant.pos - 1 - heat.start : -1;
      const row = variant ? LETTERS.indexOf(variant.alt) : -1;
      marked = heat && column >= 0 && column < heat.ref.length && row >= 0 ? { column, row } : null;
      if (marked) reveal(marked);
      draw();
    },
    clear() { heat = null; marked = null; },
  };
}
