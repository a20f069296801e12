/**
 * One variant: typed or clicked, scored by the model's own readout, and placed among all SNVs of the region by the quick
 * score of the heat map. The two are different kinds of number and are never mixed.
 */

import { ofGenome, post } from './api.js';
import { formatVariant, grouped, isSnv, parseVariant, reverseComplement, showVariant } from './coords.js';
import { busy, button, byId, complain, copier, fill, h, note } from './dom.js';
import { exact, meaning, percent, quoted, score, STATUS, tsv } from './format.js';
import { called, codingOf, codonChange, genesOf } from './genes.js';
import { kindOf, LETTERS, placeOf, valuesOf } from './heatmap.js';
import { licenceMark, notesOf, provenanceLine } from './marks.js';
import { distribution } from './plots.js';

/** What a TSV of `nexvar score` says of an allele, by the same names. @param {Record<string, any>} row */
export function tsvRow(row) {
  return { '#CHROM': row.chrom, POS: row.pos, ID: row.id ?? '.', REF: row.ref, ALT: row.alt, STATUS: row.status,
    LLR: exact(row.llr), LLR_FWD: exact(row.llr_fwd), LLR_REV: exact(row.llr_rev), CONTIG: row.contig };
}

/** A line of VCF with the keys of `nexvar score`. @param {Record<string, any>} row */
export function vcfLine(row) {
  const number = (value) => (value == null ? '.' : exact(value));
  const info = `NEXVAR_LLR=${number(row.llr)};NEXVAR_LLR_FWD=${number(row.llr_fwd)};NEXVAR_LLR_REV=${number(row.llr_rev)};NEXVAR_STATUS=${row.status}`;
  return [row.chrom, row.pos, row.id ?? '.', row.ref, row.alt, '.', '.', info].join('\t');
}

/** The same score from the command line. @param {Variant} variant @param {string} genome id @param {string} model */
export function command(variant, genome, model) {
  return `nexvar score ${quoted(formatVariant(variant))} --fasta ${quoted(`${genome}.fa`)} --model ${quoted(model)} -o score.tsv`;
}

/**
 * What a change is on the strand that its gene is read from, for people.
 * @param {Feature} gene @param {{ref: string, alt: string}} variant
 */
export function onTranscript(gene, { ref, alt }) {
  return `${gene.name} is on the minus strand: its transcript reads ${reverseComplement(ref)}>${reverseComplement(alt)}.`;
}

/** @param {(variant: Variant) => void} choose called with a variant that the user wants to see */
export function variantPanel(choose) {
  const [form, input, choices, answer] = ['variant-form', 'variant-text', 'variant-choices', 'variant-answer'].map(byId);
  let locus = null;
  let heat = null;
  let shown = null;
  let result = null;
  let running = new AbortController();

  async function ask(variant) {
    running.abort();
    running = new AbortController();
    shown = variant;
    result = null;
    input.value = formatVariant(variant);
    offer(variant.contig, variant.pos - 1, variant.ref.length > 1 ? '' : locus.bases[variant.pos - 1 - locus.detail.start] ?? variant.ref);
    busy(answer, `Scoring ${showVariant(variant)} …`);
    try {
      const body = { genome: locus.genome.id, variants: [formatVariant(variant)], ...(locus.model ? { model: locus.model.name } : {}) };
      result = await post('score', body, running.signal);
      draw();
    } catch (error) {
      complain(answer, error);
    }
  }

  function draw() {
    if (!result || !shown) return;
    const row = result.rows[0];
    const scored = row.status === 'OK' || row.status === 'EDGE';
    const place = heat && placeOf(heat, shown);
    fill(answer, ...title(row), scored && numbers(row), !scored && h('p', { class: 'error', role: 'alert' }, refusal(row)), ...(scored ? [among(place)] : []), knownHere(),
      h('div', { class: 'actions' }, copier('Copy TSV', () => tsv([tsvRow(row)])), copier('Copy VCF line', () => vcfLine(row)),
        copier('Copy command', () => command(shown, locus.genome.id, result.provenance.model))),
      ...notesOf(result.notes), provenanceLine(result.provenance));
    answer.dataset.ready = '1';
    if (scored && place) distribution(answer.querySelector('canvas'), valuesOf(heat), place.value);
  }

  function title(row) {
    const { pos, ref, alt } = shown;
    const inside = (feature) => feature.start < pos && feature.end >= pos;
    const features = locus.features.filter(inside);
    const genes = genesOf(features);
    const changes = isSnv({ ref, alt }) ? codingOf(features).map((cds) => codonChange(cds, pos - 1, alt, locus.detail.start, locus.bases)) : [];
    return [
      h('h3', { class: 'variant-name' }, showVariant({ ...row, contig: row.contig || row.chrom })),
      genes.length > 0 && h('p', { class: 'genes' }, genes.map(called).join('; ')),
      ...genes.filter((gene) => gene.strand === '-' && /^[ACGTN]+$/.test(ref + alt)).map((gene) => note(onTranscript(gene, { ref, alt }))),
      ...changes.filter(Boolean).map(({ before, after, from, to }) => note(`Codon ${before} to ${after}: ${from === to ? `${from} stays` : `${from} to ${to}`}.`)),
    ];
  }

  function numbers(row) {
    const { readout, window, settings } = result.provenance;
    const value = row.llr ?? Object.values(row.extra ?? {})[0];
    return h('div', { class: 'score-block' },
      h('p', { class: 'score', 'data-score': exact(value) }, score(value), h('span', { class: 'unit' }, readout, settings.span && `, span ${settings.span}`), licenceMark(locus.model)),
      h('p', meaning(readout, value)),
      h('dl', { class: 'pairs' }, h('dt', 'Forward strand'), h('dd', score(row.llr_fwd)), h('dt', 'Reverse strand'), h('dd', score(row.llr_rev)),
        h('dt', 'Window'), h('dd', row.window_start == null ? String(window) : `${grouped(row.window_start + 1)}–${grouped(row.window_end)}`),
        h('dt', 'Status'), h('dd', STATUS[row.status] ?? row.status)));
  }

  function refusal(row) {
    return `No score: ${STATUS[row.status] ?? row.status}${row.detail ? ` (${row.detail})` : ''}.`;
  }

  function among(place) {
    if (!heat) return note('Its place among all SNVs of the region shows when the heat map is computed.');
    if (!place) return note('It is not among the SNVs of the heat map, so it has no place there.');
    return h('div', { class: 'among' },
      h('h4', 'Among all SNVs of the heat map'),
      h('p', `Lower than ${percent(1 - place.share)} of ${grouped(place.count)}, by the ${kindOf(heat)}: ${score(place.value)}.`),
      h('canvas', { role: 'img', 'aria-label': `Distribution of ${grouped(place.count)} scores; this variant at ${score(place.value)}` }),
      note('The map reads other windows than the score above: it is another kind of number. Compare each with its own kind only.'));
  }

  function knownHere() {
    const found = locus.known.filter((each) => each.pos === shown?.pos && each.ref === shown?.ref && each.alt === shown?.alt);
    return found.length > 0 && note(`Known: ${found.map((each) => [each.label, each.source].filter(Boolean).join(', ')).join('; ')}. The score does not use this.`);
  }

  function offer(contig, pos0, base) {
    fill(choices, ...(/^[ACGT]$/.test(base) ? LETTERS : []).map((letter) => button(letter, () => choose({ contig, pos: pos0 + 1, ref: base, alt: letter }), {
      class: `choice base ${letter}`, disabled: letter === base, 'aria-pressed': String(letter === shown?.alt),
      'aria-label': letter === base ? `${letter}, the reference` : `${base} to ${letter} at ${grouped(pos0 + 1)}`,
    })));
  }

  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const text = input.value.trim();
    try {
      const variant = parseVariant(text) ?? (await searched(text));
      if (variant) choose(variant);
      else complain(answer, `“${text}” is no variant. Write contig:positionREF>ALT, such as chrM:3243A>G, or m.3243A>G.`);
    } catch (error) {
      complain(answer, error);
    }
  });

  async function searched(text) {
    const { results } = await ofGenome(locus.genome.id, 'search', { q: text });
    const found = results.find((each) => each.kind === 'variant');
    return found && { contig: found.contig, pos: found.start + 1, ref: found.ref, alt: found.alt };
  }

  return {
    open(pos0, base) {
      running.abort();
      shown = null;
      result = null;
      const contig = locus.region.contig;
      input.value = `${contig}:${pos0 + 1}${base}>`;
      offer(contig, pos0, base);
      fill(answer, note(`${contig}:${grouped(pos0 + 1)} is ${base} in this genome. Choose what it changes to.`));
      delete answer.dataset.ready;
      (choices.querySelector('button:not([disabled])') ?? input).focus();
    },
    show(variant) {
      delete answer.dataset.ready;
      if (variant) ask(variant);
      else if (shown) {
        running.abort();
        shown = null;
        result = null;
        fill(choices);
        fill(answer, note('Click a base, a cell of the heat map or a known variant, or type one.'));
      }
    },
    know(next) { locus = next; draw(); },
    heat(next) { heat = next; draw(); },
  };
}
