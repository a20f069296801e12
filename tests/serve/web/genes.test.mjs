import assert from 'node:assert/strict';
import { test } from 'node:test';

import { reverseComplement } from '../../../src/nexvar/serve/web/coords.js';
import { logo, strengths, stubFasta } from '../../../src/nexvar/serve/web/browser.js';
import { cleaned, gc } from '../../../src/nexvar/serve/web/generate.js';
import * as genes from '../../../src/nexvar/serve/web/genes.js';
import { detailOf } from '../../../src/nexvar/serve/web/locus.js';
import { perLine, residues } from '../../../src/nexvar/serve/web/sequence.js';
import { formatOf } from '../../../src/nexvar/serve/web/tracks.js';
import { command, tsvRow, vcfLine } from '../../../src/nexvar/serve/web/variant.js';

const plus = { contig: 'c', start: 2, end: 11, strand: '+', kind: 'CDS', name: 'P', phase: 0 };

test('codons of the plus strand', () => {
  const found = genes.codons(plus, 0, 'GGATGAAATGAGG');
  assert.deepEqual(found.map((codon) => [codon.start, codon.bases, codon.residue]), [[2, 'ATG', 'M'], [5, 'AAA', 'K'], [8, 'TGA', '*']]);
});

test('codons of the minus strand are read from the right, on the other strand', () => {
  const minus = { ...plus, strand: '-' };
  const sequence = `GG${reverseComplement('ATGAAATGA')}GG`;
  assert.deepEqual(genes.codons(minus, 0, sequence).map((codon) => codon.residue).reverse(), ['M', 'K', '*']);
  const change = genes.codonChange(minus, 10, 'G', 0, sequence);  // the first base of ATG, as the plus strand has it: T>G
  assert.deepEqual(change, { before: 'ATG', after: 'CTG', from: 'M', to: 'L' });
});

test('phase, pieces of a sequence and a length that is no multiple of three', () => {
  assert.deepEqual(genes.codons({ ...plus, start: 0, phase: 2 }, 0, 'GGATGAAATGAGG').map((codon) => codon.residue), ['M', 'K', '*']);
  assert.deepEqual(genes.codons({ ...plus, end: 12 }, 4, 'GAAATGAGG').map((codon) => codon.start), [5, 8]);
  const minus = { ...plus, strand: '-', end: 12 };  // ten bases: the left one is over
  assert.deepEqual(genes.codons(minus, 0, 'G'.repeat(14)).map((codon) => codon.start), [3, 6, 9]);
});

test('the code of mitochondria is their own', () => {
  assert.equal(genes.translate('TGA', 1), '*');
  assert.equal(genes.translate('TGA', 2), 'W');
  assert.equal(genes.translate('AGA', 2), '*');
  assert.equal(genes.translate('ATN', 1), 'X');
  assert.equal(genes.codeOf({ ...plus, contig: 'chrM' }), 2);
  assert.equal(genes.codeOf({ ...plus, contig: 'chr1' }), 1);
});

test('overlapping features have rows of their own', () => {
  const rows = genes.rowsOf([{ start: 0, end: 5 }, { start: 4, end: 9 }, { start: 5, end: 7 }]);
  assert.deepEqual(rows.map((row) => row.map((each) => each.start)), [[0, 5], [4]]);
});

test('lines hold whole tens; residues stand above the middle of their codons', () => {
  assert.deepEqual([perLine(1000, 8), perLine(330, 8), perLine(20, 8), perLine(830, 0.1)], [100, 40, 10, 100]);
  assert.equal(residues(plus, 0, 13, 0, 'GGATGAAATGAGG'), '   M  K  *   ');
});

test('a long region is drawn where one looks', () => {
  const region = { contig: 'c', start: 1000, end: 9000 };
  assert.deepEqual(detailOf(region, null), { contig: 'c', start: 1000, end: 3000 });
  assert.deepEqual(detailOf(region, 8999), { contig: 'c', start: 7000, end: 9000 });
  assert.deepEqual(detailOf({ ...region, end: 3000 }, 5), { contig: 'c', start: 1000, end: 3000 });
});

test('tracks of a heat map', () => {
  const heat = { contig: 'c', start: 5, ref: 'AN', scores: [[null, -1, -4, 2], [null, null, null, null]] };
  assert.deepEqual(strengths(heat), [{ chr: 'c', start: 5, end: 6, value: 4 }]);
  assert.equal(logo(heat).length, 1);
  assert.equal(stubFasta([{ name: 'c', length: 9 }]), '>c:1-1 @len=9\nN\n');
});

test('files are known by their endings', () => {
  assert.deepEqual(formatOf('x.bw'), { type: 'wig', format: 'bigwig' });
  assert.deepEqual(formatOf('x.VCF.gz'), { type: 'variant', format: 'vcf' });
  assert.equal(formatOf('x.exe'), null);
});

test('prompts', () => {
  assert.equal(cleaned('>name\nAC GT\nTT\n'), 'ACGTTT');
  assert.equal(gc('GCAT'), 0.5);
});

test('rows as the command line writes them', () => {
  const row = { chrom: 'chrM', pos: 3243, id: '.', ref: 'A', alt: 'G', status: 'OK', llr: -8.2055740001, llr_fwd: -7.833209, llr_rev: null, contig: 'chrM' };
  assert.equal(vcfLine(row), 'chrM\t3243\t.\tA\tG\t.\t.\tNEXVAR_LLR=-8.205574;NEXVAR_LLR_FWD=-7.833209;NEXVAR_LLR_REV=.;NEXVAR_STATUS=OK');
  assert.equal(tsvRow(row).LLR_REV, 'NA');
  assert.equal(command({ contig: 'chrM', pos: 3243, ref: 'A', alt: 'G' }, 'chrM', 'nexvar_mito'), "nexvar score 'chrM:3243A>G' --fasta chrM.fa --model nexvar_mito -o score.tsv");
});
