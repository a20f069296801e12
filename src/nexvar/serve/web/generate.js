/** A model writes: bases come as they are drawn. The prompt is kept on this page alone, never in the address. */

import { events, stopped } from './api.js';
import { button, complain, copier, download, fill, h, table, unfolding } from './dom.js';
import { counted, fasta, percent, score } from './format.js';
import { licenceMark, provenanceLine } from './marks.js';
import { line, sliding } from './plots.js';

const WINDOW = 50;
const DRAFT = 'nexvar-prompt';
const NOT_FOR_HARM = 'Do not use any of this to design, reconstruct or enhance a pathogen or a toxin, or to help anybody who does. '
  + 'Sequences that a model writes are hypotheses: screen what you have synthesised, as your supplier and your institution require.';

/** What was typed, as letters alone: FASTA headers and white space go. @param {string} text */
export function cleaned(text) {
  return text.split('\n').filter((each) => !each.startsWith('>')).join('').replace(/\s/g, '');
}

/** Share of G and C among the four bases; NaN without any. @param {string} sequence */
export function gc(sequence) {
  const bases = sequence.match(/[ACGT]/gi)?.length ?? 0;
  return bases ? (sequence.match(/[GC]/gi)?.length ?? 0) / bases : NaN;
}

/** @param {() => {model: any}} chosen */
export function generateView(root, chosen) {
  const number = (id, words, value, rest) => h('label', { class: 'field', for: id }, words, h('input', { id, type: 'number', value, required: true, ...rest }));
  const prompt = h('textarea', { id: 'prompt', rows: 5, spellcheck: 'false', autocapitalize: 'off', class: 'mono', placeholder: 'ACGT … or FASTA', oninput: () => sessionStorage.setItem(DRAFT, prompt.value) });
  const species = h('input', { id: 'species', type: 'text', placeholder: 'Escherichia coli', autocomplete: 'off' });
  const write = h('button', { type: 'submit', class: 'primary' }, 'Write');
  const stop = button('Stop', () => running.abort(), { disabled: true });
  const form = h('form', { class: 'generate-form' },
    h('label', { class: 'field', for: 'prompt' }, 'Prompt', prompt), h('label', { class: 'field', for: 'species' }, 'A species, whose tag goes before the prompt', species),
    h('div', { class: 'fields' }, number('n-tokens', 'Bases', 200, { min: 1, max: 4096 }), number('temperature', 'Temperature', 0.9, { min: 0.01, max: 2, step: 'any' }),
      number('top-k', 'Top k (0: all)', 4, { min: 0 }), number('top-p', 'Top p', 1, { min: 0.01, max: 1, step: 'any' }), number('seed', 'Seed', 1, { min: 0 })),
    h('div', { class: 'actions' }, write, stop));
  const message = h('div');
  const output = h('div');
  let running = new AbortController();
  prompt.value = sessionStorage.getItem(DRAFT) ?? '';

  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const value = (id) => form.querySelector(`#${id}`).valueAsNumber;
    const text = cleaned(prompt.value);
    const records = prompt.value.match(/^>/gm)?.length ?? 0;
    if (records > 1) return complain(message, `The prompt has ${records} FASTA records. Give one at a time.`);
    if (!text && !species.value.trim()) return complain(message, 'Type some bases, or the name of a species, to begin with.');
    const { model } = chosen();
    const body = { prompts: [text], ...(species.value.trim() ? { tag: { species: species.value.trim() } } : {}), ...(model ? { model: model.name } : {}),
      n_tokens: value('n-tokens'), temperature: value('temperature'), top_k: value('top-k'), top_p: value('top-p'), seed: value('seed') };
    running = new AbortController();
    write.disabled = true;
    stop.disabled = false;
    fill(message);
    return draw(body, model).finally(() => { write.disabled = false; stop.disabled = true; });
  });

  async function draw(body, model) {
    const letters = h('div', { class: 'written mono', role: 'region', 'aria-label': 'Written bases', tabindex: 0 });
    const numbers = h('p', { class: 'numbers', role: 'status' }, 'Beginning …');
    const rest = h('div');
    fill(output, numbers, letters, rest);
    let sequence = '';
    const logprobs = [];
    try {
      for await (const { event, data } of events('generate', { body, signal: running.signal })) {
        if (event === 'token') {
          sequence += data.text;
          logprobs.push(data.logprob);
          letters.append(...[...data.text].map((base) => h('span', { class: `base ${base}` }, base)));
          numbers.textContent = summary(sequence, logprobs, body.seed);
        }
        if (event === 'failed' || event === 'error') throw new Error(data.error);
        if (event === 'done') return finish(rest, sequence, logprobs, data, model);
      }
    } catch (error) {
      complain(message, error);
      numbers.textContent = (stopped(error) ? 'Stopped. ' : '') + (sequence && summary(sequence, logprobs, body.seed));
    }
    if (sequence) finish(rest, sequence, logprobs, { seed: body.seed }, model);
    return undefined;
  }

  function summary(sequence, logprobs, seed) {
    const mean = logprobs.reduce((a, b) => a + b, 0) / Math.max(1, logprobs.length);
    return `${counted(sequence.length, 'base')} · GC ${percent(gc(sequence))} · mean log-probability ${score(mean)} · seed ${seed}`;
  }

  function finish(rest, sequence, logprobs, { seed, provenance }, model) {
    const composition = sliding([...sequence].map((base) => ('GC'.includes(base) ? 1 : 0)), WINDOW);
    const figures = [[`GC of the last ${WINDOW} bases, 0 to 1`, composition, [0, 1]], ['Log-probability of each base, −4 to 0', logprobs, [-4, 0]]]
      .map(([words, ...drawn]) => ({ drawn, words, canvas: h('canvas', { role: 'img', 'aria-label': words }) }));
    const name = `nexvar model=${model?.name ?? provenance?.model ?? ''} seed=${seed}`;
    fill(rest, h('div', { class: 'figures' }, ...figures.map(({ canvas, words }) => h('figure', canvas, h('figcaption', words)))),
      h('div', { class: 'actions' }, button('Download FASTA', () => download('nexvar.fa', new Blob([fasta(name, sequence)]))), copier('Copy', () => sequence), licenceMark(model)),
      unfolding('Table of log-probabilities', () => table('Log-probability of each base', ['Base', 'Letter', 'Log-probability'], logprobs.map((value, i) => [String(i + 1), sequence[i] ?? '', score(value)]))),
      provenance && provenanceLine(provenance));
    for (const { canvas, drawn } of figures) line(canvas, ...drawn);
  }

  fill(root, h('h1', 'Generate'), h('p', { class: 'warning' }, h('strong', 'Not for harm. '), NOT_FOR_HARM), form, message, output);

  return {
    show() {
      const { model, taxonomy } = chosen();
      species.parentElement.hidden = !taxonomy;
      if (model && model.objective !== 'causal') complain(message, `${model.name} is a masked model: it fills gaps and does not continue a prompt. Load a causal model.`);
      else fill(message);
    },
  };
}
