import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as coords from '../../../src/nexvar/serve/web/coords.js';
import { formatFragment, keyIn, parseFragment } from '../../../src/nexvar/serve/web/state.js';

test('regions are 1-based in text and 0-based inside', () => {
  assert.deepEqual(coords.parseRegion('chrM:3,230-3,304'), { contig: 'chrM', start: 3229, end: 3304 });
  assert.equal(coords.formatRegion({ contig: 'chrM', start: 3229, end: 3304 }), 'chrM:3230-3304');
  assert.deepEqual(coords.parseRegion('HLA-A*01:01:5-9'), { contig: 'HLA-A*01:01', start: 4, end: 9 });
  for (const wrong of ['', 'chrM', 'chrM:0-5', 'chrM:9-5', 'chrM:a-b', 'MT-ND6']) assert.equal(coords.parseRegion(wrong), null, wrong);
});

test('variants of any alleles go to text and back', () => {
  for (const text of ['chrM:3243A>G', 'chr17:41197722TCA>T', 'HLA-A*01:01:5A>C']) assert.equal(coords.formatVariant(coords.parseVariant(text)), text);
  for (const wrong of ['chrM:3243', 'chrM:0A>G', '3243A>G', 'chrM:3243A>']) assert.equal(coords.parseVariant(wrong), null, wrong);
});

test('windows stay on the contig and keep their size', () => {
  for (const pos0 of [0, 3, 500, 996, 999]) {
    const { start, end } = coords.around('c', pos0, 100, 1000);
    assert.equal(end - start, 100);
    assert.ok(start >= 0 && end <= 1000 && start <= pos0 && pos0 < end);
  }
  assert.deepEqual(coords.around('c', 5, 100, 30), { contig: 'c', start: 0, end: 30 });
  assert.equal(coords.clip({ contig: 'c', start: 40, end: 50 }, 30), null);
  assert.deepEqual(coords.clip({ contig: 'c', start: 2.7, end: 31.2 }, 30), { contig: 'c', start: 2, end: 30 });
  assert.deepEqual(coords.zoomed({ contig: 'c', start: 40, end: 60 }, 2, 1000), { contig: 'c', start: 30, end: 70 });
});

test('the other strand twice is this strand', () => {
  assert.equal(coords.reverseComplement('GATTACAN'), 'NTGTAATC');
  assert.equal(coords.reverseComplement(coords.reverseComplement('ACGTN')), 'ACGTN');
});

test('the address keeps everything but sequences', () => {
  const state = { view: 'locus', genome: 'chrM', model: null, region: { contig: 'chrM', start: 3229, end: 3304 }, variant: coords.parseVariant('chrM:3243A>G') };
  assert.deepEqual(parseFragment(formatFragment(state)), state);
  const long = { ...state, variant: { contig: 'chrM', pos: 9, ref: 'A', alt: 'ACGT'.repeat(20) } };
  assert.ok(!formatFragment(long).includes('ACGTACGT'));
  assert.equal(parseFragment('#/nowhere?region=%3Cimg%3E').view, 'locus');
  assert.equal(parseFragment('#/vcf').region, null);
  assert.equal(keyIn('#key=a%2Fb'), 'a/b');
  assert.equal(keyIn('#key=50%!'), '50%!');
  assert.equal(keyIn('#/locus'), null);
});
