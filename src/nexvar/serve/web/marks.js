/** Small things that stand beside numbers everywhere: where they come from, and what their licence forbids. */

import { h, note } from './dom.js';

/** A visible mark beside every number of non-commercial weights; null for others. @param {{commercial?: boolean} | null} card */
export function licenceMark(card) {
  return card?.commercial === false ? h('span', { class: 'mark nc' }, 'non-commercial') : null;
}

/** What the server says beside numbers; that they are no diagnosis stands below every view. @param {string[]} lines */
export function notesOf(lines) {
  return lines.filter((line) => !/research output/.test(line)).map((line) => note(line));
}

/** One line: what made these numbers. @param {Record<string, any>} provenance */
export function provenanceLine(provenance) {
  const { model, revision, readout, window, strand, dtype, device, nexvar, settings = {} } = provenance;
  const parts = [
    model, revision && `revision ${String(revision).slice(0, 12)}`, readout && `readout ${readout}`, window && `window ${window}`,
    ...Object.entries(settings).filter(([, value]) => value != null && String(value)).map(([name, value]) => `${name} ${value}`), strand && `strand ${strand}`, dtype, device, nexvar && `nexvar ${nexvar}`,
  ];
  return h('p', { class: 'provenance' }, parts.filter(Boolean).join(' · '));
}
