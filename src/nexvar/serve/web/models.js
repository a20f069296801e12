/** Which models there are, what is loaded, what this machine can hold, and what each licence allows. */

import { get } from './api.js';
import { busy, complain, fill, h, note } from './dom.js';
import { grouped } from './coords.js';
import { short } from './format.js';
import { licenceMark } from './marks.js';

const TITLES = ['Model', 'Kind', 'Parameters', 'Context', 'On this machine', 'Licence of the weights', 'Compared with the original'];
const PARITY = { golden: 'on small random weights', real: 'on the released weights', native: 'made by NexVar' };

/** Does a card answer a search? All words, in any of its texts. @param {Record<string, any>} card @param {string} query */
export function matches(card, query) {
  const text = [card.name, card.architecture, card.objective, card.licence, ...(card.aliases ?? [])].join(' ').toLowerCase();
  return query.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

export function modelsView(root) {
  const list = h('div');
  const filter = h('input', { id: 'model-filter', type: 'search', placeholder: 'evo2, masked, non-commercial …', oninput: () => draw() });
  let cards = [];

  function draw() {
    const found = cards.filter((card) => matches(card, filter.value.trim()));
    if (!found.length) return fill(list, note(`No model has “${filter.value}” in its name, kind or licence.`));
    const groups = [['Loaded', found.filter((card) => card.loaded)], ...[...new Set(found.map((card) => card.architecture))].map((name) => [name.replaceAll('_', ' '), found.filter((card) => card.architecture === name && !card.loaded)])];
    return fill(list, h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Models' }, h('table', { class: 'models' },
      h('thead', h('tr', ...TITLES.map((title, i) => h('th', { scope: 'col', class: i === 2 || i === 3 ? 'number' : '' }, title)))),
      ...groups.filter(([, members]) => members.length).map(([name, members]) => h('tbody', h('tr', h('th', { class: 'group', colspan: TITLES.length, scope: 'rowgroup' }, name)), ...members.map(row))))));
  }

  function row(card) {
    return h('tr',
      h('th', { scope: 'row' }, h('span', { class: 'mono' }, card.name), licenceMark(card)), h('td', card.objective), h('td', { class: 'number' }, short(card.parameters)), h('td', { class: 'number' }, grouped(card.context)),
      h('td', card.loaded ? `on ${card.device}, ${card.dtype}` : card.fits ?? '…'), h('td', { class: 'wide' }, card.licence), h('td', PARITY[card.parity] ?? card.parity ?? ''));
  }

  return {
    async show() {
      if (!cards.length) busy(list, 'Reading the cards …');
      fill(root, h('h1', 'Models'), note('A model is loaded by the operator: nexvar serve --model NAME. Nothing is downloaded from this page.'),
        h('label', { class: 'field', for: 'model-filter' }, 'Find', filter), list);
      try {
        for (const path of ['models', 'models?fits=true']) {  // the second takes seconds
          cards = (await get(path)).models;
          draw();
        }
      } catch (error) {
        complain(list, error);
      }
    },
  };
}
