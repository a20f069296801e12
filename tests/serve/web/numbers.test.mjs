import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { classOf, diverging } from '../../../src/nexvar/serve/web/colours.js';
import { parseEvents } from '../../../src/nexvar/serve/web/events.js';
import * as format from '../../../src/nexvar/serve/web/format.js';
import { placeOf } from '../../../src/nexvar/serve/web/heatmap.js';
import { sliding } from '../../../src/nexvar/serve/web/plots.js';
import * as stats from '../../../src/nexvar/serve/web/stats.js';

test('scores have a real minus, and none is no number', () => {
  assert.equal(format.score(-8.205574), '−8.206');
  assert.equal(format.score(-0.0001), '0.000');
  assert.equal(format.score(null), '–');
});

test('seven digits as the command line writes them', () => {
  const written = { '-8.205574': -8.2055740001, 0: 0, 1e-7: '1e-07', 123456789: '1.234568e+08', 0.0009765625: '0.0009765625', 12: '12', 0.1: '0.1' };
  for (const [value, text] of Object.entries(written)) assert.equal(format.exact(Number(value)), String(typeof text === 'number' ? Number(text.toPrecision(7)) : text));
  assert.equal(format.exact(null), 'NA');
});

test('words say what a number means and never too much', () => {
  assert.match(format.meaning('site, span 64', -8.2), /3,600 times less likely/);
  assert.match(format.meaning('llr', -0.002), /Per base/);
  assert.match(format.meaning('cosine', 0.2), /distance/);
  assert.equal(format.percent(0.999), '>99%');
  assert.equal(format.percent(0.001), '<1%');
  assert.equal(format.percent(1), '100%');
});

test('a TSV has as many fields as its header whatever the names are', () => {
  const lines = format.tsv([{ A: 'x\ty', B: 'line\nbreak' }]).split('\n');
  assert.deepEqual(lines.map((line) => line.split('\t').length), [2, 2]);
});

test('a shell reads a quoted word as text', () => {
  assert.equal(format.quoted('chrM:3243A>G'), "'chrM:3243A>G'");
  assert.equal(format.quoted("a'b"), "'a'\\''b'");
  assert.equal(format.quoted('chrM.fa'), 'chrM.fa');
});

test('a place among SNVs is found on the right row and nowhere else', () => {
  const heat = { contig: 'c', start: 10, end: 12, ref: 'AC', scores: [[null, -1, -2, -3], [0.5, null, 1, 2]], percentiles: [[null, 40, 25, 8], [60, null, 75, 92]], readout: 'SITE_TILED', provenance: {} };
  assert.deepEqual(placeOf(heat, { pos: 11, alt: 'T' }), { value: -3, share: 0.08, count: 6 });
  assert.equal(placeOf(heat, { pos: 11, alt: 'A' }), null);
  assert.equal(placeOf(heat, { pos: 13, alt: 'A' }), null);
  assert.equal(placeOf(heat, { pos: 11, alt: 'TT' }), null);
});

test('too few of a class have no AUROC', () => {
  assert.equal(stats.auroc(Array(9).fill(1), Array(50).fill(0)), null);
  assert.equal(stats.auroc(Array(10).fill(1), Array(10).fill(0)).value, 1);
});

test('a logo of equal bases has no height', () => {
  assert.ok(stats.logoHeights([0, 0, 0, 0]).every((height) => Math.abs(height) < 1e-12));
  assert.ok(Math.abs(stats.logoHeights([0, -99, -99, -99])[0] - 2) < 1e-9);
});

test('sliding means', () => assert.deepEqual(sliding([1, 0, 1, 1], 2), [1, 0.5, 0.5, 1]));

test('colours are symmetric about zero, and end', () => {
  for (const dark of [false, true]) {
    assert.equal(diverging(0, 5, dark), diverging(-0, 5, dark));
    assert.equal(diverging(-9, 5, dark), diverging(-5, 5, dark));
    assert.notEqual(diverging(-5, 5, dark), diverging(5, 5, dark));
  }
});

/** WCAG's contrast ratio of two colours. */
function contrast(...colours) {
  const luminance = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) / 255)
    .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)).reduce((sum, x, i) => sum + [0.2126, 0.7152, 0.0722][i] * x, 0);
  const [dark, light] = colours.map(luminance).sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

test('every text can be read on every ground it stands on, by day and by night', () => {
  const style = readFileSync(new URL('../../../src/nexvar/serve/web/app.css', import.meta.url), 'utf8');
  const schemes = [...style.matchAll(/:root \{([^}]*)\}/g)].map((match) => Object.fromEntries([...match[1].matchAll(/--(\w[\w-]*): (#[0-9a-f]{6})/g)].map(([, name, value]) => [name, value])));
  assert.equal(schemes.length, 2);
  for (const colours of schemes) {
    const pairs = ['text', 'muted', 'accent', 'A', 'C', 'G', 'T', 'pathogenic', 'benign', 'open'].flatMap((name) => ['page', 'surface', 'soft', 'tint'].map((ground) => [name, ground]));
    pairs.push(['error', 'error-tint'], ['mark', 'mark-tint'], ['on-accent', 'accent'], ['good', 'surface'], ['mark', 'surface']);
    for (const [name, ground] of pairs) assert.ok(contrast(colours[name], colours[ground]) >= 4.5, `${name} on ${ground}: ${contrast(colours[name], colours[ground]).toFixed(2)}`);
  }
});

test('only two groups have a colour of their own', () => {
  assert.equal(classOf('pathogenic'), 'pathogenic');
  for (const group of ['conflicting', 'uncertain', 'other', undefined]) assert.equal(classOf(group), 'open');
});

test('events that arrive in pieces are read once and whole', () => {
  const text = 'id: 1\nevent: progress\ndata: {"done": 1}\n\n: still here\n\nevent: done\ndata: {"done":\ndata: 2}\n\n';
  for (let cut = 0; cut <= text.length; cut++) {
    const first = parseEvents(text.slice(0, cut));
    const second = parseEvents(first.rest + text.slice(cut));
    assert.deepEqual([...first.events, ...second.events], [{ event: 'progress', id: '1', data: { done: 1 } }, { event: 'done', id: '', data: { done: 2 } }], `cut at ${cut}`);
  }
});
