/** What the page's modules hand to each other. Inside: positions 0-based half-open; `pos` is 1-based, as in a VCF. */

interface Region { contig: string; start: number; end: number }

interface Variant { contig: string; pos: number; ref: string; alt: string }

/** What the address says; no sequence is in it. */
interface State { view: string; genome: string | null; model: string | null; region: Region | null; variant: Variant | null }

/** A line of an annotation. */
interface Feature {
  contig: string; start: number; end: number; strand: string; kind: string; name: string;
  id?: string; parent?: string; type?: string; phase?: number | null; transl_table?: number;
}

interface Codon { start: number; end: number; strand: string; bases: string; residue: string }

/** Scores of A, C, G, T at each position of a stretch, null at the reference base, and the percentile of each among all.
 * readout: the column's name. */
interface Heat {
  contig: string; start: number; end: number; ref: string; scores: (number | null)[][]; percentiles: (number | null)[][]; readout: string;
  provenance: Record<string, any>;
}

/** What the search box finds. */
interface Found { kind: string; name: string; contig: string; start: number; end: number; strand?: string; ref?: string; alt?: string }

interface Job {
  id: string; kind: string; state: string; name: string; genome: string; model: string; outputs: string[];
  done: number; total: number | null; rate: number | null; eta: number | null; error: any; summary: string[] | null; created: number;
}
