/** The server, asked: JSON, streams of events, uploads. Errors are its own sentences. */

import { parseEvents } from './events.js';

const ROOT = new URL('../api/v1/', import.meta.url);
const HEALTH = new URL('../v1/health/live', import.meta.url);
const KEY = 'nexvar-key';
const UNSAID = /^(q|file|region|prompts\[0\]|variants\[0\]): /;

/** What went wrong, and what to do about it, in words for people. */
export class ApiError extends Error {
  /** @param {number} status 0: no answer @param {string} message @param {string | null} fix */
  constructor(status, message, fix = null) {
    super(message);
    this.status = status;
    this.fix = fix;
  }
}

/** Asks the user for a key: `refused` says that the last one was wrong. */
let askForKey = () => Promise.reject(new ApiError(401, 'This server wants a key.', 'open the address that it printed'));
let tellPresence = () => {};
let there = true;
let question = null;  // one for all requests that wait

/** @param {typeof askForKey} ask @param {typeof tellPresence} tell called when the server goes and when it is back */
export function connect(ask, tell) {
  askForKey = ask;
  tellPresence = tell;
}

/** @param {string} key */
export function keepKey(key) {
  sessionStorage.setItem(KEY, key);
}

/** @param {string} path below /api/v1/ */
export function address(path) {
  return new URL(path, ROOT).href;
}

/** Does every request carry a key? Then a plain link would not. */
export function keyed() {
  return sessionStorage.getItem(KEY) !== null;
}

/** @returns {Record<string, string>} */
export function authorization() {
  const key = sessionStorage.getItem(KEY);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** GET. @param {string} path */
export async function get(path, signal) {
  return (await send(path, { signal })).json();
}

/** What a genome has of `what`: sequence, features, search. @param {string} genome @param {string} what @param {object} query */
export async function ofGenome(genome, what, query, signal) {
  return get(`genomes/${encodeURIComponent(genome)}/${what}?${new URLSearchParams(query)}`, signal);
}

/** POST of JSON. @param {string} path @param {object} body */
export async function post(path, body, signal) {
  return (await send(path, { ...json(body), signal })).json();
}

/** DELETE. @param {string} path */
export async function remove(path) {
  await send(path, { method: 'DELETE' });
}

/** A result as a file in memory, where a link cannot carry the key. @param {string} path @returns {Promise<Blob>} */
export async function blob(path) {
  return (await send(path, {})).blob();
}

/**
 * Server-sent events, read with the key in a header.
 * @param {string} path @param {{body?: object, last?: string, signal?: AbortSignal}} options
 */
export async function* events(path, { body, last, signal } = {}) {
  const headers = { Accept: 'text/event-stream', ...(last ? { 'Last-Event-ID': last } : {}) };
  const request = body ? json(body) : { headers: {} };
  const response = await send(path, { ...request, headers: { ...request.headers, ...headers }, signal });
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parsed = parseEvents(rest + value);
      rest = parsed.rest;
      yield* parsed.events;
    }
  } catch (error) {
    throw signal?.aborted ? error : gone();
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** Sends a file as it is. XMLHttpRequest tells how much is sent. @param {File} file @param {(share: number) => void} progress */
export function upload(file, progress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open('POST', address('files'));
    request.responseType = 'json';
    request.setRequestHeader('Content-Type', 'application/octet-stream');
    request.setRequestHeader('X-Filename', encodeURIComponent(file.name));
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => progress(event.loaded / Math.max(1, event.total));
    request.onload = () => (request.status < 400 ? resolve(request.response) : reject(refusal(request.status, request.response)));
    request.onerror = () => reject(gone());
    request.onabort = () => reject(new DOMException('stopped', 'AbortError'));
    signal.addEventListener('abort', () => request.abort());
    request.send(file);
  });
}

/** @param {unknown} error @returns {boolean} was it stopped on purpose? */
export function stopped(error) {
  return error instanceof DOMException && error.name === 'AbortError';
}

function json(body) {
  return { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) };
}

async function send(path, options) {
  for (let refused = keyed(); ; refused = true) {
    let response;
    try {
      response = await fetch(address(path), { ...options, headers: { ...options.headers, ...authorization() } });
    } catch (error) {
      throw stopped(error) ? error : gone();
    }
    present(true);
    if (response.ok) return response;
    if (response.status !== 401) throw refusal(response.status, await response.json().catch(() => null));
    question ??= askForKey(refused).then(keepKey).finally(() => { question = null; });
    await question;
  }
}

/** The server's sentence, without the request's field where the page has one box for it. */
function refusal(status, body) {
  return new ApiError(status, body?.error?.replace(UNSAID, '') ?? `The server answered ${status}.`);
}

function gone() {
  present(false);
  return new ApiError(0, 'The server does not answer.', 'Is `nexvar serve` still running? What you typed is kept.');
}

function present(now) {
  if (now === there) return;
  there = now;
  tellPresence(now);
  if (!now) knock();
}

function knock() {
  setTimeout(() => fetch(HEALTH).then((answer) => (answer.ok ? present(true) : knock()), knock), 2000);
}
