/** Coordinates and variants as text, and back. Inside: 0-based half-open (`start`, `end`, `pos0`); in text: 1-based. */

const COMPLEMENT = { A: 'T', C: 'G', G: 'C', T: 'A', N: 'N' };

/** @param {string} text `chrM:3,230-3,304` @returns {Region | null} */
export function parseRegion(text) {
  const match = /^\s*(.+):([\d,]+)\s*[-–]\s*([\d,]+)\s*$/.exec(text);
  if (!match) return null;
  const start = toNumber(match[2]) - 1;
  const end = toNumber(match[3]);
  return start >= 0 && end > start ? { contig: match[1], start, end } : null;
}

/** @param {Region} region @returns {string} `chrM:3230-3304` */
export function formatRegion({ contig, start, end }) {
  return `${contig}:${start + 1}-${end}`;
}

/** @param {Region} region @returns {string} for people: `chrM:3,230–3,304` */
export function showRegion({ contig, start, end }) {
  return `${contig}:${grouped(start + 1)}–${grouped(end)}`;
}

/** @param {string} text `chrM:3243A>G` @returns {Variant | null} */
export function parseVariant(text) {
  const match = /^\s*(.+):([\d,]+)\s*([A-Za-z]+)>([A-Za-z]+)\s*$/.exec(text);
  if (!match) return null;
  const pos = toNumber(match[2]);
  return pos > 0 ? { contig: match[1], pos, ref: match[3].toUpperCase(), alt: match[4].toUpperCase() } : null;
}

/** @param {Variant} variant @returns {string} `chrM:3243A>G` */
export function formatVariant({ contig, pos, ref, alt }) {
  return `${contig}:${pos}${ref}>${alt}`;
}

/** @param {Variant} variant @returns {string} for people: `chrM:3,243 A>G` */
export function showVariant({ contig, pos, ref, alt }) {
  return `${contig}:${grouped(pos)} ${shortened(ref)}>${shortened(alt)}`;
}

/** Is it a change of one base into another? @param {{ref: string, alt: string}} variant */
export function isSnv({ ref, alt }) {
  return /^[ACGT]$/.test(ref) && /^[ACGT]$/.test(alt) && ref !== alt;
}

/** The part of a region that lies on a contig of so many bases; null where nothing does.
 * @param {Region} region @param {number} length @returns {Region | null} */
export function clip({ contig, start, end }, length) {
  const kept = { contig, start: Math.max(0, Math.floor(start)), end: Math.min(length, Math.ceil(end)) };
  return kept.end > kept.start ? kept : null;
}

/** So many bases around a place, moved inwards at the ends of a contig of so many.
 * @param {string} contig @param {number} pos0 @param {number} size @param {number} length @returns {Region} */
export function around(contig, pos0, size, length) {
  const start = Math.max(0, Math.min(pos0 - Math.floor(size / 2), length - size));
  return { contig, start, end: Math.min(length, start + size) };
}

/** The same middle, `factor` times as wide, on the contig. @param {Region} region @param {number} factor
 * @param {number} length of the contig @returns {Region} */
export function zoomed({ contig, start, end }, factor, length) {
  const size = Math.max(10, Math.min(length, Math.round((end - start) * factor)));
  return around(contig, Math.floor((start + end) / 2), size, length);
}

/** @param {string} sequence plus strand @returns {string} as the other strand reads it */
export function reverseComplement(sequence) {
  return [...sequence.toUpperCase()].reverse().map((base) => COMPLEMENT[base] ?? 'N').join('');
}

/** @param {number} value @returns {string} with commas, as everywhere in NexVar */
export function grouped(value) {
  return value.toLocaleString('en-US');
}

/** @param {string} allele */
export function shortened(allele) {
  return allele.length <= 12 ? allele : `${allele.slice(0, 8)}… (${grouped(allele.length)} bases)`;
}

function toNumber(text) {
  return Number(text.replaceAll(',', ''));
}
