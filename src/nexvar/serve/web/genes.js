/** Genes, codons and strands: pure functions over features of an annotation and the plus strand's bases. */

import { reverseComplement } from './coords.js';

const ORDER = 'TCAG';
const CODES = {  // NCBI's translation tables; codons in the order TTT, TTC, TTA, …
  1: 'FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG',
  2: 'FFLLSSSSYY**CCWWLLLLPPPPHHQQRRRRIIMMTTTTNNKKSS**VVVVAAAADDEEGGGG',
};

/** @param {string} codon three bases as the gene reads them @param {number} table @returns {string} one letter; X unknown */
export function translate(codon, table) {
  const at = [...codon.toUpperCase()].map((base) => ORDER.indexOf(base));
  return at.includes(-1) ? 'X' : (CODES[table] ?? CODES[1])[16 * at[0] + 4 * at[1] + at[2]];
}

/** The genetic code of a feature: its own, else that of vertebrate mitochondria on a mitochondrial contig, else the standard.
 * @param {Feature} feature */
export function codeOf(feature) {
  return Number(feature.transl_table) || (/^(chr)?M(T|tDNA)?$/i.test(feature.contig) || /^NC_012920/.test(feature.contig) ? 2 : 1);
}

/**
 * The codons of one CDS line that lie whole within a stretch of sequence; those that an intron splits are left out.
 * @param {Feature} cds @param {number} start of the sequence, 0-based @param {string} sequence plus strand
 * @returns {Codon[]} from left to right
 */
export function codons(cds, start, sequence) {
  const minus = cds.strand === '-';
  const phase = Number(cds.phase) || 0;
  const table = codeOf(cds);
  const [from, to] = minus ? [cds.start, cds.end - phase] : [cds.start + phase, cds.end];
  const skipped = minus ? (to - from) % 3 : 0;  // on the minus strand codons are counted from the right
  const made = [];
  for (let at = from + skipped; at + 3 <= to; at += 3) {
    if (at < start || at + 3 > start + sequence.length) continue;
    const plus = sequence.slice(at - start, at - start + 3);
    const bases = minus ? reverseComplement(plus) : plus.toUpperCase();
    made.push({ start: at, end: at + 3, strand: cds.strand, bases, residue: translate(bases, table) });
  }
  return made;
}

/**
 * What an SNV does to the codon that it falls in; null outside of whole codons.
 * @param {Feature} cds @param {number} pos0 @param {string} alt plus strand @param {number} start @param {string} sequence
 */
export function codonChange(cds, pos0, alt, start, sequence) {
  const codon = codons(cds, start, sequence).find((each) => each.start <= pos0 && pos0 < each.end);
  if (!codon) return null;
  const minus = codon.strand === '-';
  const at = minus ? codon.end - 1 - pos0 : pos0 - codon.start;
  const base = minus ? reverseComplement(alt) : alt;
  const after = codon.bases.slice(0, at) + base + codon.bases.slice(at + 1);
  return { before: codon.bases, after, from: codon.residue, to: translate(after, codeOf(cds)) };
}

/** Genes, not their parts. @param {Feature[]} features */
export function genesOf(features) {
  const genes = features.filter((feature) => /gene|loop|region/i.test(feature.kind));
  const names = new Set(genes.map((gene) => gene.name));
  return [...genes, ...features.filter((f) => /RNA$|transcript/i.test(f.kind) && !names.has(f.name) && !f.parent)];
}

/** Lines of coding sequence, each once, whatever transcripts share it. @param {Feature[]} features @returns {Feature[]} */
export function codingOf(features) {
  const lines = features.filter((feature) => feature.kind === 'CDS');
  return [...new Map(lines.map((cds) => [`${cds.start} ${cds.end} ${cds.strand} ${cds.phase}`, cds])).values()];
}

/** @param {Feature} gene @returns its name, and its strand where it has one */
export function called({ name, strand }) {
  return strand === '-' ? `${name}, minus strand` : strand === '+' ? `${name}, plus strand` : name;
}

/** Features in as few rows as do not overlap. @template {{start: number, end: number}} T @param {T[]} features @returns {T[][]} */
export function rowsOf(features) {
  const rows = [];
  for (const feature of [...features].sort((a, b) => a.start - b.start)) {
    const row = rows.find((each) => each.at(-1).end <= feature.start);
    if (row) row.push(feature);
    else rows.push([feature]);
  }
  return rows;
}
