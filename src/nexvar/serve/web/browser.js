/** The genome browser: igv.js with nothing but what this server and this page have. It is loaded when it is first wanted. */

import { address, authorization, keyed, ofGenome } from './api.js';
import { classOf, diverging } from './colours.js';
import { clip, formatRegion } from './coords.js';
import { complain } from './dom.js';
import { LETTERS } from './heatmap.js';
import { logoHeights } from './stats.js';

const SEQUENCE_AT_ONCE = 100_000;
const BLOCK = 10_000;
const FEATURES_AT_ONCE = 2_000_000;
const HEIGHT = 54;
const COLOURS = { pathogenic: diverging(-4, 5, false), benign: diverging(4, 5, false), open: '#6b7280' };

/** The heat map as a track: max |score| of each base. @param {Heat} heat */
export function strengths(heat) {
  return heat.scores.flatMap((row, i) => {
    const values = row.filter((value) => value !== null).map(Math.abs);
    return values.length ? [baseOf(heat, i, Math.max(...values))] : [];
  });
}

/** The heat map as a logo: the reference base, as high as in the logo of `nexvar saturate`. @param {Heat} heat */
export function logo(heat) {
  return heat.scores.flatMap((row, i) => {
    const reference = LETTERS.indexOf(heat.ref[i]);
    if (reference < 0) return [];
    const heights = logoHeights(row.map((value) => value ?? 0));
    return [baseOf(heat, i, heights[reference])];
  });
}

function baseOf({ contig, start }, i, value) {
  return { chr: contig, start: start + i, end: start + i + 1, value };
}

/** Contigs with their lengths, as igv reads them: sequences come from the API. @param {{name: string, length: number}[]} contigs */
export function stubFasta(contigs) {
  return contigs.map(({ name, length }) => `>${name}:1-1 @len=${length}\nN\n`).join('');
}

/** @param {HTMLElement} message @param {(pos0: number) => void} pick */
export function genomeBrowser(root, message, pick) {
  let igv = null;
  let genome = '';
  let library = null;
  let work = Promise.resolve();
  let current = null;
  const blocks = new Map();
  const waiting = [];  // tracks that were added before there was a browser

  /** One thing after another: igv loads tracks by itself, and in any order. */
  function next(step) {
    work = work.then(step).catch((error) => complain(message, error));
    return work;
  }

  async function open(locus) {
    library ??= (await import('./vendor/igv.esm.min.js')).default;
    if (igv) library.removeBrowser(igv);
    root.replaceChildren();
    genome = locus.genome.id;
    igv = await library.createBrowser(root, {
      loadDefaultGenomes: false, showNavigation: false, showIdeogram: false, showSVGButton: false, showTrackLabelButton: false,
      queryParametersSupported: false,
      reference: { id: genome, name: genome, fastaURL: `data:text/plain;base64,${btoa(stubFasta(locus.genome.contigs))}`, indexed: false, wholeGenomeView: false },
      tracks: [],
      locus: formatRegion(locus.region),
    });
    igv.genome.sequence.getSequence = bases;
    await igv.loadTrackList([...fixedTracks(locus), ...waiting.splice(0).map(withKey)]);
    igv.on('trackclick', (track, popover, place) => {
      if (typeof place === 'number') pick(Math.floor(place));
      return false;
    });
  }

  /** igv asks for bases one at a time, too: they come in blocks, each once. */
  async function bases(contig, start, end) {
    if (end - start > SEQUENCE_AT_ONCE) return null;
    const from = Math.max(0, Math.floor(start));
    let text = 'N'.repeat(from - Math.floor(start));
    for (let at = from - (from % BLOCK); at < end; at += BLOCK) {
      text += (await block(contig, at)).slice(Math.max(0, from - at), Math.ceil(end) - at);
    }
    return text;
  }

  function block(contig, start) {
    const key = `${genome} ${contig} ${start}`;
    const end = Math.min(start + BLOCK, lengthOf(contig));
    if (end <= start) return '';
    if (!blocks.has(key)) {
      const asked = ofGenome(genome, 'sequence', { region: formatRegion({ contig, start, end }) }).then((answer) => answer.sequence);
      blocks.set(key, asked);
      asked.catch(() => blocks.delete(key));
    }
    return blocks.get(key);
  }

  function lengthOf(contig) {
    return current.genome.contigs.find((each) => each.name === contig)?.length ?? 0;
  }

  function reader(set, shape) {
    return { readFeatures: async (contig, start, end) => {
      if (end - start > FEATURES_AT_ONCE) return [];
      const region = clip({ contig, start, end }, lengthOf(contig));
      if (!region) return [];
      const { features } = await ofGenome(genome, 'features', { set, region: formatRegion(region) });
      return shape(features);
    } };
  }

  function fixedTracks(locus) {
    const tracks = [{ type: 'sequence', name: 'Sequence', order: -10, frameTranslate: false }];
    if (locus.genome.genes) {
      tracks.push({ type: 'annotation', name: 'Genes', order: 1, height: 64, displayMode: 'EXPANDED', color: '#3c6ea5', visibilityWindow: FEATURES_AT_ONCE,
        reader: reader('genes', (features) => features.filter((each) => !each.parent).map((each) => ({ chr: each.contig, start: each.start, end: each.end, name: each.name, strand: each.strand }))) });
    }
    if (locus.genome.known) {
      tracks.push({ type: 'annotation', name: 'Known variants', order: 2, height: 34, displayMode: 'SQUISHED', visibilityWindow: FEATURES_AT_ONCE,
        reader: reader('known', (features) => features.map((each) => ({ chr: each.contig, start: each.pos - 1, end: each.pos - 1 + each.ref.length, name: `${each.ref}>${each.alt}`, color: COLOURS[classOf(each.group)] }))) });
    }
    return tracks.map((track) => ({ ...track, removable: false }));
  }

  function drop(name) {
    for (const track of igv.findTracks((each) => each.name === name)) igv.removeTrack(track);
  }

  return {
    show: (locus) => next(async () => {
      current = locus;
      if (!igv || genome !== locus.genome.id) await open(locus);
      else await igv.search(formatRegion(locus.region));
      root.dataset.ready = '1';
    }),
    heat: (heat) => next(async () => {
      if (!igv) return;
      drop('max |score|');
      drop('Logo');
      if (!heat) return;
      await igv.loadTrack({ type: 'wig', name: 'max |score|', order: 3, height: HEIGHT, color: '#4a6b8a', features: strengths(heat), min: 0, autoscale: true, removable: false });
      await igv.loadTrack({ type: 'wig', graphType: 'dynseq', name: 'Logo', order: 4, height: HEIGHT, features: logo(heat), min: 0, max: 2, autoscale: false, removable: false });
    }),
    add: (track) => next(async () => {
      if (igv) await igv.loadTrack(withKey(track));
      else waiting.push(track);
    }),
  };
}

function withKey(track) {
  return typeof track.url === 'string' && keyed() ? { headers: authorization(), ...track } : track;
}

/** A track that the operator gave by `--track`. @param {string} genome @param {string} name */
export function trackAddress(genome, name) {
  return address(`genomes/${encodeURIComponent(genome)}/tracks/${encodeURIComponent(name)}`);
}
