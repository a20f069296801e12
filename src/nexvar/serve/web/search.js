/** One box for everything that has a place: gene, region, variant. By keyboard: type, arrows, Enter. */

import { ofGenome } from './api.js';
import { grouped, showRegion } from './coords.js';
import { button, byId, complain, fill, h } from './dom.js';

const PAUSE = 120;
const PLACE = /[:>]|^[gm]\./;  // regions and variants have nothing to be completed with

/** What stands beside a found thing. @param {Found} found */
export function described({ kind, contig, start, end, strand }) {
  if (kind === 'variant') return `variant, ${contig}:${grouped(start + 1)}`;
  return [kind, showRegion({ contig, start, end }), strand === '-' ? 'minus strand' : ''].filter(Boolean).join(', ');
}

/** @param {() => string} genome @param {(found: Found) => void} choose */
export function searchBox(genome, choose) {
  const [form, input, list, message] = ['find', 'find-text', 'find-list', 'find-message'].map(byId);
  /** @type {Found[]} */
  let results = [];
  let active = -1;
  let timer = 0;
  let running = new AbortController();

  async function ask(text) {
    running.abort();
    running = new AbortController();
    return ofGenome(genome(), 'search', { q: text }, running.signal);
  }

  async function suggest() {
    const text = input.value.trim();
    if (!text || PLACE.test(text)) return close();
    try {
      ({ results } = await ask(text));
      active = -1;
      draw();
    } catch {
      close();  // while somebody types nothing is an error
    }
    return undefined;
  }

  function draw() {
    fill(list, ...results.map((found, i) => h('li', { id: `find-${i}`, role: 'option', 'aria-selected': String(i === active), onmousedown: (event) => { event.preventDefault(); take(found); } },
      h('span', { class: 'found-name' }, found.name), h('span', { class: 'found-what' }, described(found)))));
    list.hidden = results.length === 0;
    input.setAttribute('aria-expanded', String(!list.hidden));
    if (active >= 0) input.setAttribute('aria-activedescendant', `find-${active}`);
    else input.removeAttribute('aria-activedescendant');
  }

  function close() {
    running.abort();
    results = [];
    active = -1;
    draw();
  }

  function take(found) {
    clearTimeout(timer);
    close();
    fill(message);
    input.value = found.name;
    choose(found);
  }

  async function submit() {
    clearTimeout(timer);
    const text = input.value.trim();
    if (!text) return;
    if (active >= 0) return take(results[active]);
    try {
      const answer = await ask(text);
      if (answer.results.length) return take(answer.results[0]);
      close();
      const near = (answer.near ?? []).map((name) => button(name, () => { input.value = name; submit(); }, { class: 'link' }));
      fill(message, h('p', { class: 'error', role: 'alert' }, `Nothing in ${genome()} is called “${text}”.`, ...(near.length ? [' Nearest: ', ...near] : [' Try a gene, chrM:3,230-3,304 or m.3243A>G.'])));
    } catch (error) {
      close();
      complain(message, error);
    }
  }

  form.addEventListener('submit', (event) => { event.preventDefault(); submit(); });
  input.addEventListener('input', () => { clearTimeout(timer); fill(message); timer = window.setTimeout(suggest, PAUSE); });
  input.addEventListener('blur', close);
  input.addEventListener('keydown', (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === 'Escape') close();
    if (!step || !results.length) return;
    event.preventDefault();
    active = (active + step + results.length + (active < 0 && step < 0 ? 1 : 0)) % results.length;
    draw();
  });
  document.addEventListener('keydown', (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? '');
    if (event.key !== '/' || typing || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    input.focus();
    input.select();
  });
}
