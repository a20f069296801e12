/** The page begins here: what the server has, what the address asks for, and what stands around every view. */

import { connect, get, keepKey } from './api.js';
import { byId, complain, fill, h } from './dom.js';
import { generateView } from './generate.js';
import { locusView } from './locus.js';
import { licenceMark } from './marks.js';
import { modelsView } from './models.js';
import { searchBox } from './search.js';
import { current, follow, go, keyIn, onChange, parseFragment, VIEWS } from './state.js';
import { jobsView } from './vcfjob.js';

const known = { server: null, genomes: [], models: [] };

/** Shows a view. @type {(state: State, again: boolean) => unknown} */
let show;

function chosen() {
  const { genome, model } = current();
  const loaded = known.models.filter((card) => card.loaded);
  return {
    genome: known.genomes.find((each) => each.id === genome) ?? known.genomes[0],
    model: loaded.find((card) => card.name === model) ?? loaded.find((card) => card.name === known.server?.models?.[0]) ?? loaded[0] ?? null,
    limits: known.server?.limits,
    taxonomy: known.server?.taxonomy,
  };
}

/** What the address asks for and this server does not have. @param {State} state */
function missed({ genome, model }) {
  const of = (what, wanted, names) => (wanted && !names.includes(wanted) ? `This server has no ${what} ${wanted}; it has ${names.join(', ')}.` : null);
  return known.server && (of('genome', genome, known.genomes.map((each) => each.id)) ?? of('loaded model', model, known.server.models));
}

function askKey(refused) {
  const dialog = byId('key-dialog');
  fill(byId('key-message'), refused && h('p', { class: 'error', role: 'alert' }, 'The server refused this key.'));
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    byId('key-form').onsubmit = (event) => {
      event.preventDefault();
      const key = byId('key-text').value.trim();
      if (!key) return;
      dialog.close();
      resolve(key);
    };
  });
}

function presence(there) {
  byId('gone').hidden = there;
  if (there) load();
}

function begin() {
  const key = keyIn(location.hash);
  if (key) {
    keepKey(key);
    history.replaceState(null, '', location.pathname);
    follow();
  }
  connect(askKey, presence);
  const locus = locusView(chosen);
  const models = modelsView(byId('view-models'));
  const generate = generateView(byId('view-generate'), chosen);
  const jobs = jobsView(byId('view-vcf'), () => ({ genome: chosen().genome.id, model: chosen().model?.name ?? null, models: known.models }), (job, files) => {
    const { region } = current();
    const [contig] = chosen().genome.contigs;
    go({ view: 'locus', genome: job.genome, variant: null, region: region ?? { contig: contig.name, start: 0, end: Math.min(2000, contig.length) } });
    locus.add(job.name, files);
  });
  searchBox(() => chosen().genome?.id ?? '', (found) => {
    const { kind, contig, start, end, ref, alt } = found;
    if (kind === 'variant') locus.choose({ contig, pos: start + 1, ref: String(ref), alt: String(alt) });
    else go({ view: 'locus', region: { contig, start, end }, variant: null });
  });

  show = (state, again) => {
    for (const view of VIEWS) {
      byId(`view-${view}`).hidden = view !== state.view;
      byId(`to-${view}`).setAttribute('aria-current', view === state.view ? 'page' : 'false');
    }
    drawStatus();
    const missing = missed(state);
    complain(byId('start-message'), missing);
    if (missing) return undefined;
    const view = { locus: () => locus.show(state, again), vcf: () => jobs.show(), generate: () => generate.show(), models: () => models.show() }[state.view];
    return view?.();
  };
  onChange((state) => show(state, false));
  window.addEventListener('hashchange', follow);
  window.addEventListener('popstate', follow);
  for (const link of document.querySelectorAll('a[data-view]')) {
    link.addEventListener('click', (event) => { event.preventDefault(); go({ view: String(link.getAttribute('data-view')) }); });
  }
  for (const link of document.querySelectorAll('a[data-example]')) {
    link.addEventListener('click', (event) => { event.preventDefault(); go(parseFragment(link.getAttribute('href') ?? '')); });
  }
  byId('skip').addEventListener('click', (event) => { event.preventDefault(); byId('main').focus(); });
  byId('home').addEventListener('click', (event) => { event.preventDefault(); go({ view: 'locus', region: null, variant: null }); });
  load();
}

async function load() {
  try {
    const [server, { genomes }, { models }] = await Promise.all([get('server'), get('genomes'), get('models')]);
    Object.assign(known, { server, genomes, models });
    drawChoices();
    show(current(), true);
    document.body.dataset.ready = '1';
  } catch (error) {
    complain(byId('start-message'), error);
  }
}

function drawChoices() {
  const select = (id, words, values, value, change) => (values.length > 1
    ? h('label', { class: 'choice-of', for: id }, h('span', { class: 'visually-hidden' }, words), h('select', { id, onchange: (event) => change(event.target.value) }, ...values.map((each) => h('option', { value: each, selected: each === value }, each))))
    : h('span', { class: 'only', 'aria-label': words }, values[0] ?? 'none'));
  const { genome, model } = chosen();
  fill(byId('choices'), select('genome', 'Genome', known.genomes.map((each) => each.id), genome?.id, (value) => go({ genome: value, region: null, variant: null })),
    select('model', 'Model', known.models.filter((card) => card.loaded).map((card) => card.name), model?.name, (value) => go({ model: value })));
  byId('examples').hidden = !known.genomes.some((each) => each.id === 'chrM');
}

function drawStatus() {
  const { model } = chosen();
  const { server } = known;
  if (!server) return;
  fill(byId('status'), h('span', model ? model.name : 'no model', ' ', licenceMark(model)), h('span', [server.device, `nexvar ${server.version}`].join(' · ')),
    h('span', server.online ? 'online look-ups are on' : 'nothing leaves this machine'));
}

begin();
