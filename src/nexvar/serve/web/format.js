/** Numbers and words for people: pure functions. */

import { grouped } from './coords.js';

/** What became of an allele, in words. */
export const STATUS = {
  OK: 'scored',
  EDGE: 'scored in a window that was shifted or cut at the end of the contig',
  REF_MISMATCH: 'the reference base given is not what this genome has here',
  SYMBOLIC: 'a symbolic allele has no sequence to read',
  STAR: '* stands for a base that another record deletes',
  MISSING_ALT: 'there is no alternative allele',
  SAME_AS_REF: 'the alternative is the reference',
  N_AT_SITE: 'the genome or the allele has an N or an ambiguity code here',
  UNKNOWN_CONTIG: 'this genome has no such contig',
  OUT_OF_RANGE: 'the position lies beyond the end of the contig',
  TOO_LONG: 'an allele is longer than half the window',
};

/** @param {number | null | undefined} value @param {number} digits @returns {string} with a real minus; – for none */
export function score(value, digits = 3) {
  if (value == null || !Number.isFinite(value)) return '–';
  const text = value.toFixed(digits);
  return Number(text) === 0 ? (0).toFixed(digits) : text.replace('-', '−');
}

/** Seven digits, as the command line writes scores (C's %.7g). @param {number | null | undefined} value */
export function exact(value) {
  if (value == null) return 'NA';
  if (value === 0) return '0';
  const exponent = Number(value.toExponential(6).split('e')[1]);
  if (exponent >= -4 && exponent < 7) return trimZeros(value.toFixed(6 - exponent));
  const [digits, power] = value.toExponential(6).split('e');
  return `${trimZeros(digits)}e${power[0]}${power.slice(1).padStart(2, '0')}`;
}

/** A log-ratio in words. @param {number} llr natural logarithm */
export function likelihoodWords(llr) {
  const times = Math.exp(Math.abs(llr));
  if (times < 1.05) return 'about as likely as the reference';
  const shown = times >= 1e6 ? `e^${Math.abs(llr).toFixed(0)}` : grouped(Number(times.toPrecision(2)));
  return `${shown} times ${llr < 0 ? 'less' : 'more'} likely than the reference`;
}

/** What a readout's value means, in a sentence. @param {string} readout its name, with or without settings @param {number} value */
export function meaning(readout, value) {
  const [name] = readout.toLowerCase().split(/[ ,+(]/);
  if (['site', 'masked_llr', 'unmasked_llr', 'pll', 'llr_sum', 'llr_acgt_sum'].includes(name)) return `The model finds this allele ${likelihoodWords(value)}.`;
  if (name.startsWith('llr')) return `Per base of the window, the allele is ${value < 0 ? 'less' : 'more'} likely than the reference.`;
  return 'A distance between what the model sees with the reference and with this allele.';
}

/** @param {number} share 0 to 1 @returns {string} never 0 % or 100 % of something that is neither */
export function percent(share) {
  const value = 100 * share;
  if (value > 0 && value < 1) return '<1%';
  if (value > 99 && value < 100) return '>99%';
  return `${Math.round(value)}%`;
}

/** @param {number | null | undefined} seconds */
export function duration(seconds) {
  if (seconds == null || !Number.isFinite(seconds)) return '–';
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

/** @param {number} count @returns {string} 2.3 M, 40 B */
export function short(count) {
  if (count >= 1e9) return `${trimmed(count / 1e9)} B`;
  if (count >= 1e6) return `${trimmed(count / 1e6)} M`;
  return count >= 1e3 ? `${trimmed(count / 1e3)} k` : String(count);
}

/** One noun or several. @param {number} count @param {string} noun @param {string} many */
export function counted(count, noun, many = `${noun}s`) {
  return `${grouped(count)} ${count === 1 ? noun : many}`;
}

/** A word of the command line: quoted where a shell would read more than text. @param {string} text */
export function quoted(text) {
  return /^[\w./:=+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** A field of a TSV: nothing in it can end it. @param {unknown} value */
export function field(value) {
  return String(value ?? '').replace(/[\t\r\n]/g, ' ');
}

/** Rows as a TSV with a header: all keys of the first. @param {Record<string, unknown>[]} rows */
export function tsv(rows) {
  const names = Object.keys(rows[0] ?? {});
  return [names, ...rows.map((row) => names.map((name) => row[name]))].map((row) => row.map(field).join('\t')).join('\n');
}

/** FASTA with 60 letters a line. @param {string} name @param {string} sequence */
export function fasta(name, sequence) {
  return `>${field(name)}\n${(sequence.match(/.{1,60}/g) ?? []).join('\n')}\n`;
}

function trimZeros(digits) {
  return digits.includes('.') ? digits.replace(/\.?0+$/, '') : digits;
}

function trimmed(value) {
  return Number(value.toPrecision(3)).toString();
}
