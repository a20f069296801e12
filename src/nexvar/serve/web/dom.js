/** The page's elements, made in one way: text is always text, never HTML. */

import { ApiError, stopped } from './api.js';

/** @param {string} tag @param {...any} children first, perhaps, its properties: attributes, `on` + event; then nodes and text */
export function h(tag, ...children) {
  const properties = children[0]?.constructor === Object ? children.shift() : {};
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value != null) element.setAttribute(name, String(value));
  }
  fill(element, ...children);
  return element;
}

/** A sentence in small letters. @param {...any} children */
export function note(...children) {
  return h('p', { class: 'note' }, ...children);
}

/** @param {string | Node} words @param {() => unknown} onclick @param {Record<string, any>} [rest] */
export function button(words, onclick, rest = {}) {
  return h('button', { type: 'button', ...rest, onclick }, words);
}

/** @param {string} id */
export function byId(id) {
  return document.getElementById(id);
}

/** Puts children in place of what was there; the focus stays on the control that stands where it was.
 * @param {Element} parent @param {...any} children */
export function fill(parent, ...children) {
  const at = parent.contains(document.activeElement) ? controls(parent).indexOf(document.activeElement) : -1;
  parent.replaceChildren(...children.filter((child) => child != null && child !== false).map((child) => (child instanceof Node ? child : String(child))));
  if (at >= 0) controls(parent)[at]?.focus();
}

function controls(parent) {
  return [...parent.querySelectorAll('a, button, input, select, [tabindex]')];
}

/** Says what went wrong where the eye is; an error that is null takes the words away. @param {Element} place @param {unknown} error */
export function complain(place, error) {
  if (error === null) return fill(place);
  if (stopped(error)) return undefined;
  const text = error instanceof Error ? error.message : String(error);
  const fix = error instanceof ApiError ? error.fix : null;
  if (error instanceof Error && !(error instanceof ApiError)) console.error(error);
  return fill(place, h('p', { class: 'error', role: 'alert' }, text, fix && ` ${fix}`));
}

/** Says that something is being computed. @param {Element} place @param {string} words */
export function busy(place, words) {
  fill(place, h('p', { class: 'busy', role: 'status' }, words));
}

/** A table with a caption for those who cannot see what it stands behind.
 * @param {string} caption @param {string[]} titles @param {(string | Node)[][]} rows */
export function table(caption, titles, rows) {
  return h('table', h('caption', caption), h('thead', h('tr', ...titles.map((title) => h('th', { scope: 'col' }, title)))),
    h('tbody', ...rows.map((row) => h('tr', ...row.map((cell, i) => h(i ? 'td' : 'th', i ? {} : { scope: 'row' }, cell))))));
}

/** The same, made when it is opened. @param {string} words @param {() => Element} make */
export function unfolding(words, make) {
  const details = h('details', h('summary', words));
  details.addEventListener('toggle', () => {
    if (details.open && details.childElementCount === 1) details.append(h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': words }, make()));
  });
  return details;
}

/** A button that copies text and says so. @param {string} words @param {() => string} text */
export function copier(words, text) {
  const made = button(words, async () => {
    const done = await navigator.clipboard?.writeText(text()).then(() => true, () => false);  // none without TLS, off this machine
    made.textContent = done ? 'Copied' : 'Cannot copy here';
    setTimeout(() => { made.textContent = words; }, 1500);
  }, { class: 'small' });
  return made;
}

/** Hands the user a file. @param {string} name @param {Blob} content */
export function download(name, content) {
  const url = URL.createObjectURL(content);
  h('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** A canvas of so many CSS pixels, sharp on this screen. @param {HTMLCanvasElement} canvas @param {number} width
 * @param {number} height @returns {CanvasRenderingContext2D} */
export function sized(canvas, width, height) {
  const ratio = Math.min(devicePixelRatio || 1, 30_000 / width);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext('2d');
  context.scale(ratio, ratio);
  context.font = '11px Inter, system-ui, sans-serif';
  return context;
}

/** A colour of app.css. @param {string} name */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
