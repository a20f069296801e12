/** Tracks beside the genome: the operator's, a file of the user's own, and what a model with track heads predicts. */

import { get, post } from './api.js';
import { trackAddress } from './browser.js';
import { formatRegion } from './coords.js';
import { busy, button, complain, fill, h, note } from './dom.js';
import { counted } from './format.js';
import { licenceMark, provenanceLine } from './marks.js';

/** How igv reads a file, by its ending; null: not at all. @param {string} name */
export function formatOf(name) {
  const ending = /\.([a-z0-9]+)(\.gz)?$/i.exec(name)?.[1]?.toLowerCase() ?? '';
  const format = { bw: 'bigwig', bb: 'bigbed', gff: 'gff3' }[ending] ?? ending;
  const types = { wig: ['bigwig', 'bedgraph', 'wig'], annotation: ['bed', 'gff3', 'gtf', 'bigbed'], variant: ['vcf'] };
  const type = Object.keys(types).find((each) => types[each].includes(format));
  return type ? { type, format } : null;
}

/** Values of a track head as igv's features. @param {{start: number, step: number, values: number[]}} track @param {string} contig */
export function stretches({ start, step, values }, contig) {
  return values.map((value, i) => ({ chr: contig, start: start + i * step, end: start + (i + 1) * step, value }));
}

export function trackControls(root, browser) {
  const message = h('div');
  let locus = null;
  const file = h('input', { type: 'file', id: 'track-file', class: 'visually-hidden', onchange: async () => {
    const chosen = file.files?.[0];
    const format = chosen && formatOf(chosen.name);
    fill(message);
    if (chosen && format) await browser.add({ ...format, url: chosen, name: chosen.name, indexed: false, height: 60, order: 20 });
    else if (chosen) complain(message, `${chosen.name} is no track that can be drawn. Give a bigWig, bedGraph, BED, GFF3, GTF or VCF.`);
    file.value = '';
  } });

  const species = h('select', { 'aria-label': 'Species of the tracks', onchange: () => suggest() });
  const list = h('datalist', { id: 'track-list' });
  const names = h('input', { type: 'text', list: 'track-list', 'aria-label': 'Tracks to predict, by commas', placeholder: 'tracks, by commas' });
  let offered = {};

  function suggest() {
    names.value = offered[species.value]?.[0] ?? '';
    fill(list, ...(offered[species.value] ?? []).map((name) => h('option', { value: name })));
  }

  async function ask(model) {
    offered = (await get(`models/${encodeURIComponent(model)}`)).tracks;
    fill(species, ...Object.keys(offered).map((name) => h('option', { value: name }, name || 'any species')));
    suggest();
  }

  async function predict() {
    busy(message, `Predicting ${counted(locus.region.end - locus.region.start, 'base')} with ${locus.model.name} …`);
    try {
      const wanted = names.value.split(',').map((name) => name.trim()).filter(Boolean);
      const answer = await post('tracks', { genome: locus.genome.id, region: formatRegion(locus.region), model: locus.model.name, species: species.value || null, names: wanted });
      for (const track of answer.tracks) {
        await browser.add({ type: 'wig', name: `${track.name}, predicted`, height: 60, order: 10, features: stretches(track, locus.region.contig), autoscale: true });
      }
      fill(message, note(`${counted(answer.tracks.length, 'predicted track')}. `, licenceMark(locus.model)), provenanceLine(answer.provenance));
    } catch (error) {
      complain(message, error);
    }
  }

  return {
    show(next) {
      locus = next;
      const predicts = next.model?.heads.includes('tracks');
      const own = next.genome.tracks.map((name) => button(name, () => browser.add({ name, url: trackAddress(next.genome.id, name), type: 'wig', format: 'bigwig', height: 60, order: 15 })));
      if (predicts) ask(next.model.name).catch((error) => complain(message, error));
      fill(root, h('div', { class: 'controls' }, ...own, h('label', { for: 'track-file', class: 'button' }, 'Add a file of mine'), file,
        predicts && species, predicts && names, list, button('Predict coverage', predict, { disabled: !predicts }),
        h('span', { class: 'note' }, `A file of yours stays on this machine.${predicts ? '' : ' The loaded model has no track heads.'}`)), message);
    },
  };
}
