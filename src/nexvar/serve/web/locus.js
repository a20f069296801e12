/** The view of one place: everything that is known of a region, loaded once and handed to the parts of the page. */

import { ofGenome, post, stopped } from './api.js';
import { around, clip, formatRegion, grouped, showRegion, zoomed } from './coords.js';
import { genomeBrowser } from './browser.js';
import { busy, button, byId, complain, fill, h, note } from './dom.js';
import { called, genesOf } from './genes.js';
import { heatmap } from './heatmap.js';
import { knownPanel } from './known.js';
import { licenceMark, notesOf, provenanceLine } from './marks.js';
import { overview, stretchOf } from './overview.js';
import { sequence } from './sequence.js';
import { current, go } from './state.js';
import { trackControls } from './tracks.js';
import { variantPanel } from './variant.js';

const DETAIL = 2000;  // bases that are drawn as text and scored at once
const QUICK = 20e6;  // parameters: a model of this size scores a region at once, unasked
const AROUND = 76;  // bases beside a variant that was asked for alone

/** The part of a region that is drawn in detail: around a place in it, or from its beginning.
 * @param {Region} region @param {number | null} pos0 @returns {Region} */
export function detailOf(region, pos0) {
  if (region.end - region.start <= DETAIL) return region;
  const inside = pos0 !== null && pos0 >= region.start && pos0 < region.end;
  const steps = inside ? Math.floor((pos0 - region.start) / DETAIL) : 0;
  const start = region.start + steps * DETAIL;
  return { contig: region.contig, start, end: Math.min(region.end, start + DETAIL) };
}

/** @param {() => {genome: any, model: any, limits: any}} chosen */
export function locusView(chosen) {
  const choose = (variant) => {
    const { region } = current();
    const inside = region && variant.contig === region.contig && variant.pos > region.start && variant.pos <= region.end;
    const length = lengthOf(variant.contig);
    go({ view: 'locus', variant, ...(inside || !length ? {} : { region: around(variant.contig, variant.pos - 1, 2 * AROUND, length) }) });
  };
  const variants = variantPanel(choose);
  const bases = sequence(byId('sequence'), (pos0, base) => variants.open(pos0, base), (start, end) => go({ region: { contig: locus.region.contig, start, end } }));
  const heat = heatmap(byId('heat'), choose);
  const known = knownPanel(byId('known'), choose);
  const browser = genomeBrowser(byId('igv'), byId('igv-message'), (pos0) => {
    const base = locus.bases[pos0 - locus.detail.start];
    if (base) variants.open(pos0, base);
    else go({ region: around(locus.region.contig, pos0, 2 * AROUND, locus.length), variant: null });
  });
  const tracks = trackControls(byId('tracks'), browser);
  const [title, move, map, heatNote, heatMade, place] = ['locus-title', 'locus-move', 'overview', 'heat-note', 'heat-made', 'place'].map(byId);
  const kind = h('select', { 'aria-label': 'Kind of score', onchange: () => compute() }, h('option', { value: 'tiled' }, 'Quick score'), h('option', { value: 'anchored' }, 'The model’s own readout'));
  let locus = null;
  let running = new AbortController();

  function lengthOf(contig) {
    return chosen().genome?.contigs.find((each) => each.name === contig)?.length ?? 0;
  }

  async function load(region, pos0) {
    running.abort();
    running = new AbortController();
    const { signal } = running;
    const { genome, model, limits } = chosen();
    const length = lengthOf(region.contig);
    const clipped = clip(region, length) ?? region;  // the server says what is wrong with it
    const detail = detailOf(clipped, pos0);
    const stretch = stretchOf(clipped, length);
    const ask = (set, of) => ofGenome(genome.id, 'features', { set, region: formatRegion(of) }, signal).then((answer) => answer.features);
    busy(title, `Reading ${showRegion(clipped)} …`);
    try {
      const [{ sequence: text }, features, variantsHere] = await Promise.all([
        ofGenome(genome.id, 'sequence', { region: formatRegion(detail) }, signal),
        genome.genes ? ask('genes', stretch) : [], genome.known ? ask('known', clipped) : [],
      ]);
      locus = { genome, model, limits, region: clipped, detail, bases: text.toUpperCase(), features, known: variantsHere, length };
    } catch (error) {
      complain(title, error);
      fill(move);
      return;
    }
    place.hidden = false;
    drawHead();
    overview(map, clipped, stretch, locus.features, toGene);
    bases.show(detail, locus.bases, locus.features, locus.known);
    variants.know(locus);
    variants.heat(null);
    known.show(locus);
    tracks.show(locus);
    byId('view-locus').dataset.ready = '1';
    browser.show(locus);
    browser.heat(null);
  }

  /** The first contig, if it is a short one: a gene is a click away. */
  async function welcome() {
    const { genome } = chosen();
    const [{ name, length }] = genome.contigs;
    const stretch = stretchOf({ contig: name, start: 0, end: Math.min(length, DETAIL) }, length);
    if (!genome.genes || stretch.end < length) return fill(byId('welcome-map'));
    const { features } = await ofGenome(genome.id, 'features', { set: 'genes', region: formatRegion(stretch) });
    return overview(byId('welcome-map'), null, stretch, features, toGene);
  }

  function toGene(gene) {
    go({ region: { contig: gene.contig, start: gene.start, end: gene.end }, variant: null });
  }

  function drawHead() {
    const { region, length } = locus;
    const genes = genesOf(locus.features).filter((gene) => gene.start < region.end && gene.end > region.start);
    const whole = genes.find((gene) => gene.start === region.start && gene.end === region.end);
    const size = region.end - region.start;
    const half = Math.floor(size / 2);
    const moved = (by) => around(region.contig, region.start + half + by, size, length);
    const to = (words, sign, next) => button(sign, () => go({ region: next }), { class: 'quiet', 'aria-label': words });
    fill(title, h('h1', whole ? whole.name : showRegion(region)),
      note([whole && showRegion(region), `${grouped(size)} bases`, whole ? called(whole) : genes.slice(0, 6).map((gene) => gene.name).join(', ')].filter(Boolean).join(' · ')));
    fill(move, to('To the left', '←', moved(-half)), to('To the right', '→', moved(half)),
      to('Zoom in', '+', zoomed(region, 0.5, length)), to('Zoom out', '−', zoomed(region, 2, length)));
    const page = (words, sign, middle) => to(words, sign, around(region.contig, middle, DETAIL, length));
    fill(byId('sequence-pages'), ...(size > DETAIL ? [h('span', { class: 'note' }, `${showRegion(locus.detail)} of ${grouped(size)} bases; the browser shows the whole. `),
      page('Earlier bases', '‹', locus.detail.start - DETAIL / 2), page('Later bases', '›', locus.detail.end + DETAIL / 2)] : []));
  }

  function offerHeat() {
    const { model } = locus;
    heat.clear();
    fill(heatNote, licenceMark(model), model && kind);
    fill(heatMade);
    if (!model) return fill(byId('heat'), note('No model is loaded.'));
    if (model.parameters <= QUICK) return compute();
    return fill(byId('heat'), note(`${model.name} is large: all changes of ${grouped(locus.detail.end - locus.detail.start)} bases take a while. `, button('Compute', compute)));
  }

  async function compute() {
    const { signal } = running;
    const { genome, model, detail } = locus;
    busy(byId('heat'), `Scoring every change of ${grouped(detail.end - detail.start)} bases …`);
    try {
      const answer = await post('saturate', { genome: genome.id, region: formatRegion(detail), windowing: kind.value, model: model.name }, signal);
      heat.show(answer, locus.known);
      heat.mark(current().variant);
      fill(heatMade, ...notesOf(answer.notes), provenanceLine(answer.provenance));
      variants.heat(answer);
      known.heat(answer);
      byId('heat').dataset.ready = '1';
      await browser.heat(answer);
    } catch (error) {
      if (!stopped(error)) complain(byId('heat'), error);
    }
  }

  return {
    choose,
    /** again: load even what is there. @param {State} state @param {boolean} again */
    async show({ region, variant }, again) {
      byId('welcome').hidden = Boolean(region);
      byId('workspace').hidden = !region;
      if (!region) return welcome();
      const pos0 = variant ? variant.pos - 1 : null;
      const { genome, model } = chosen();
      const same = locus && !again && locus.genome === genome && locus.model === model && formatRegion(locus.region) === formatRegion(region);
      if (!same) {
        delete byId('view-locus').dataset.ready;
        delete byId('heat').dataset.ready;
        locus = null;
        place.hidden = true;
        await load(region, pos0);
        if (!locus || current().region !== region) return;
      }
      bases.mark(pos0);
      heat.mark(variant);
      variants.show(variant);
      if (!same) offerHeat();
    },
    add: (name, files) => browser.add({ type: 'variant', format: 'vcf', name, ...files, height: 60, order: 12 }),
  };
}
