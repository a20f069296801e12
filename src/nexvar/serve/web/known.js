/**
 * Known variants of the region: labels as their file has them, scores of one kind at a time, and how well that kind
 * tells the classes apart.
 */

import { post } from './api.js';
import { classOf } from './colours.js';
import { formatVariant, grouped, isSnv, shortened } from './coords.js';
import { busy, button, complain, fill, h, note } from './dom.js';
import { counted, score } from './format.js';
import { kindOf, placeOf } from './heatmap.js';
import { licenceMark, provenanceLine } from './marks.js';
import { strips } from './plots.js';
import { auroc, FEW } from './stats.js';

const ROWS = 200;

/** AUROC with its interval, or why there is none. @param {{kind: string, value: number | null}[]} scored */
export function verdict(scored) {
  const [pathogenic, benign] = ['pathogenic', 'benign'].map((kind) => valuesOf(scored, kind).map((value) => -value));
  const area = auroc(pathogenic, benign);
  const sizes = `${pathogenic.length} pathogenic, ${benign.length} benign`;
  if (!area) return `Too few for an AUROC: ${sizes}; at least ${FEW} of each are needed.`;
  return `AUROC ${area.value.toFixed(3)} (95% interval ${area.low.toFixed(3)} to ${area.high.toFixed(3)}; ${sizes}). Lower scores are counted as pathogenic.`;
}

/** @param {(variant: Variant) => void} choose */
export function knownPanel(root, choose) {
  const filter = h('select', { 'aria-label': 'Class of known variants' });
  const controls = h('div', { class: 'controls' });
  const message = h('div');
  const figure = h('div');
  const list = h('div', { class: 'scroll tall', tabindex: 0, role: 'region', 'aria-label': 'Known variants' });
  let locus = null;
  let heat = null;
  let scores = null;
  let running = new AbortController();

  function show(next) {
    running.abort();
    locus = next;
    scores = null;
    heat = null;
    fill(message);
    if (!next.genome.known) {
      return fill(root, note('No known variants are given for this genome: start the server with --known ', next.genome.id, '=clinvar.vcf.gz.'));
    }
    const labels = [...new Set(next.known.map((each) => each.label || 'no label'))].sort();
    fill(filter, h('option', { value: '' }, `All ${grouped(next.known.length)}`), ...labels.map((label) => h('option', { value: label }, label)));
    fill(root, controls, message, figure, list);
    return draw();
  }

  /** With the genome's name of the contig, whatever the file's is. */
  function named(each) {
    return formatVariant({ ...each, contig: locus.region.contig });
  }

  function filtered() {
    return locus.known.filter((each) => !filter.value || (each.label || 'no label') === filter.value);
  }

  function draw() {
    const limit = locus.limits.score_alleles;
    const here = locus.known.length;
    const few = here <= limit;
    fill(controls, filter,
      button('Score all as in the map', asInMap, { disabled: !heat || !here }),
      button('Score all by the model’s readout', own, { disabled: !here || !few }),
      h('span', { class: 'note' }, !here ? 'None in this region.' : !few ? `The second is for at most ${limit} variants: choose a smaller region, or score the file under VCF.`
        : !heat ? 'The map’s scores come with the map.' : ''));
    const rows = filtered();
    const rated = rows.some((each) => each.stars != null);
    const titles = ['Position', 'Change', 'Label', rated && 'Stars', 'Source', scores?.title].filter(Boolean);
    const table = h('table', h('thead', h('tr', ...titles.map((title) => h('th', { scope: 'col', class: ['Position', scores?.title].includes(title) ? 'number' : '' }, title)))),
      h('tbody', ...rows.slice(0, ROWS).map((each) => row(each, rated))));
    list.hidden = !rows.length;
    fill(list, table, rows.length > ROWS && note(`The first ${ROWS} of ${grouped(rows.length)}.`));
    drawFigure();
  }

  function row(each, rated) {
    const variant = { contig: locus.region.contig, pos: each.pos, ref: each.ref, alt: each.alt };
    return h('tr', h('th', { scope: 'row', class: 'number' }, grouped(each.pos)),
      h('td', button(`${shortened(each.ref)}>${shortened(each.alt)}`, () => choose(variant), { class: 'link mono', 'aria-label': `Open ${named(each)}` })),
      h('td', { class: `label ${classOf(each.group)}` }, each.label || 'no label'), rated && h('td', { class: 'stars', 'aria-label': `${each.stars ?? 'no'} of 4 stars` }, stars(each.stars)),
      h('td', [each.id && each.id !== '.' ? each.id : '', each.source ?? ''].filter(Boolean).join(', ')),
      scores && h('td', { class: 'number' }, score(scores.values.get(named(each)))));
  }

  function drawFigure() {
    if (!scores) return fill(figure);
    const rated = locus.known.map((each) => ({ kind: classOf(each.group), value: scores.values.get(named(each)) ?? null }));
    const groups = ['pathogenic', 'benign', 'open'].map((kind) => ({ name: kind === 'open' ? 'neither' : kind, kind, values: valuesOf(rated, kind) })).filter((group) => group.values.length);
    const canvas = h('canvas', { role: 'img', 'aria-label': `Scores by class: ${groups.map((group) => `${group.values.length} ${group.name}`).join(', ')}; the table has every value` });
    const without = rated.filter((each) => each.value === null).length;
    fill(figure, h('h3', scores.title, licenceMark(locus.model)), canvas, h('p', { class: 'verdict' }, verdict(rated), without ? ` ${counted(without, 'variant')} without a score of this kind.` : ''), provenanceLine(scores.provenance));
    if (groups.length) return strips(canvas, groups);
    return canvas.remove();
  }

  function asInMap() {
    const of = heat;
    const values = new Map(locus.known.map((each) => [named(each), isSnv(each) ? placeOf(of, each)?.value ?? null : null]));
    scores = { title: kindOf(of), provenance: of.provenance, values };
    draw();
  }

  async function own() {
    running = new AbortController();
    busy(message, `Scoring ${counted(locus.known.length, 'variant')}, a window each …`);
    const names = locus.known.map(named);
    try {
      const answer = await post('score', { genome: locus.genome.id, variants: names, ...(locus.model ? { model: locus.model.name } : {}) }, running.signal);
      const values = new Map(names.map((name, i) => [name, answer.rows[i].llr]));
      scores = { title: `Score (${answer.provenance.readout}, a window for each)`, provenance: answer.provenance, values };
      fill(message);
      draw();
    } catch (error) {
      complain(message, error);
    }
  }

  filter.addEventListener('change', draw);
  return { show, heat(next) { heat = next; if (locus?.genome.known) draw(); } };
}

function valuesOf(scored, kind) {
  return scored.filter((each) => each.kind === kind && each.value !== null).map((each) => each.value);
}

function stars(count) {
  return '★'.repeat(count ?? 0) + '☆'.repeat(4 - (count ?? 0));
}
