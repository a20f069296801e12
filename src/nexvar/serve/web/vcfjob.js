/** A VCF becomes a job of the server: it goes on without this page, and is found again after a reload. */

import { address, blob, events, get, keyed, post, remove, stopped, upload } from './api.js';
import { busy, button, complain, download, fill, h, note } from './dom.js';
import { counted, duration } from './format.js';
import { licenceMark } from './marks.js';

const OVER = ['done', 'failed', 'cancelled'];

/** How far a job is, in words. @param {Job} job */
export function progressWords(job) {
  if (job.state === 'queued') return 'Waiting for its turn.';
  const of = job.total ? `${job.done.toLocaleString('en-US')} of ${counted(job.total, 'allele')}` : counted(job.done, 'allele');
  if (job.state !== 'running') return of;
  return [of, job.rate ? `${job.rate.toFixed(job.rate < 10 ? 1 : 0)} a second` : '', job.eta != null ? `${duration(job.eta)} left` : ''].filter(Boolean).join(' · ');
}

/** @param {(job: Job, files: any) => void} show in the browser */
export function jobsView(root, chosen, show) {
  const input = h('input', { type: 'file', id: 'vcf-file', class: 'visually-hidden', onchange: () => { take(input.files?.[0]); input.value = ''; } });
  const zone = h('div', { class: 'drop' }, h('p', h('strong', 'Drop a VCF here'), ' or ', h('label', { for: 'vcf-file', class: 'button' }, 'choose a file'), input),
    note('VCF, BCF or a table of variants, plain or gzip. It goes to the server on this machine and nowhere else.'));
  const formats = ['vcf.gz', 'tsv', 'parquet'].map((name) => h('label', { class: 'check' }, h('input', { type: 'checkbox', name: 'outputs', value: name, checked: name !== 'parquet' }), name));
  const message = h('div');
  const list = h('ul', { class: 'jobs', 'aria-label': 'Jobs' });
  /** @type {Map<string, AbortController>} jobs that are being watched */
  const watched = new Map();

  async function take(file) {
    if (!file) return;
    const outputs = [...root.querySelectorAll('input[name=outputs]:checked')].map((box) => box.value);
    if (!file.size) return complain(message, `${file.name} is empty.`);
    if (!outputs.length) return complain(message, 'Choose at least one kind of result.');
    const stop = new AbortController();
    const bar = h('progress', { max: 1, value: 0, 'aria-label': `Sending ${file.name}` });
    fill(message, h('p', { class: 'busy' }, `Sending ${file.name}, ${(file.size / 1e6).toFixed(1)} MB `, bar, button('Stop', () => stop.abort())));
    try {
      const sent = await upload(file, (share) => { bar.value = share; }, stop.signal);
      busy(message, 'Reading the file …');
      const { genome, model } = chosen();
      const job = await post('jobs', { kind: 'score', file: sent.id, genome, outputs, ...(model ? { model } : {}) });
      fill(message);
      place(job);
    } catch (error) {
      if (stopped(error)) fill(message);
      else complain(message, error);
    }
  }

  function place(job) {
    const old = list.querySelector(`[data-job="${CSS.escape(job.id)}"]`);
    const made = card(job);
    const focused = old?.contains(document.activeElement);
    if (old) old.replaceWith(made);
    else list.prepend(made);
    if (focused) made.querySelector('.actions > :last-child')?.focus();
    list.querySelector('.empty')?.remove();
    if (!OVER.includes(job.state) && !watched.has(job.id)) watch(job.id);
  }

  async function watch(id) {
    const control = new AbortController();
    watched.set(id, control);
    let last = '';
    try {
      while (watched.get(id) === control) {
        try {
          for await (const { data, id: number } of events(`jobs/${id}/events`, { last, signal: control.signal })) {
            last = number || last;
            place(data);
            if (OVER.includes(data.state)) return;
          }
          const job = await get(`jobs/${id}`);
          place(job);
          if (OVER.includes(job.state)) return;
        } catch (error) {
          if (control.signal.aborted) return;
          if (error instanceof Error && 'status' in error && error.status === 404) return;
        }
        await new Promise((resolve) => setTimeout(resolve, 1500));  // the server will be back
      }
    } finally {
      watched.delete(id);
    }
  }

  function card(job) {
    const bar = h('progress', { max: job.total || 1, 'aria-label': `Progress of ${job.name}` });
    if (job.total || OVER.includes(job.state)) bar.value = job.state === 'done' ? job.total || 1 : job.done;
    const url = address(`jobs/${job.id}/result/vcf.gz`);
    const model = chosen().models.find((each) => each.name === job.model);
    return h('li', { class: `job ${job.state}`, 'data-job': job.id },
      h('div', { class: 'job-head' }, h('strong', job.name || 'unnamed file'), h('span', { class: `state ${job.state}` }, job.state),
        h('span', { class: 'note' }, `${job.genome} · ${job.model} · ${new Date(1000 * job.created).toLocaleString()}`), licenceMark(model)),
      !['failed', 'cancelled'].includes(job.state) && bar, h('p', { class: 'numbers', role: 'status' }, progressWords(job)),
      job.error && h('p', { class: 'error', role: 'alert' }, job.error),
      ...job.summary.map((line) => h('p', { class: 'summary' }, line)),
      h('div', { class: 'actions' }, ...(job.state === 'done' ? job.outputs.map((format) => result(job, format)) : []),
        job.state === 'done' && job.outputs.includes('vcf.gz') && button('Open in browser', () => show(job, { url, indexURL: `${url}.tbi` })),
        button(OVER.includes(job.state) ? 'Delete' : 'Cancel', () => discard(job))));
  }

  function result(job, format) {
    const path = `jobs/${job.id}/result/${format}`;
    const name = `${job.name.replace(/\.(vcf|bcf)?(\.gz|\.bgz)?$/i, '') || 'scored'}.nexvar.${format}`;
    if (!keyed()) return h('a', { class: 'button', href: address(path), download: name }, `Download ${format}`);
    return button(`Download ${format}`, () => blob(path).then((content) => download(name, content), (error) => complain(message, error)));
  }

  async function discard(job) {
    try {
      await remove(`jobs/${job.id}`);
      if (OVER.includes(job.state)) list.querySelector(`[data-job="${CSS.escape(job.id)}"]`)?.remove();
      else place(await get(`jobs/${job.id}`));
      empty();
    } catch (error) {
      complain(message, error);
    }
  }

  function empty() {
    if (!list.childElementCount) list.append(h('li', { class: 'empty note' }, 'No jobs yet. A job runs on when this page is closed, and is listed here when you come back.'));
  }

  for (const [event, inside] of [['dragenter', true], ['dragover', true], ['dragleave', false], ['drop', false]]) {
    zone.addEventListener(event, (dragged) => {
      dragged.preventDefault();
      zone.classList.toggle('over', inside);
      if (event === 'drop') take(dragged.dataTransfer?.files[0]);
    });
  }
  fill(root, h('h1', 'Score a VCF'), zone, h('fieldset', { class: 'controls' }, h('legend', 'Results'), ...formats), message, h('h2', 'Jobs'), list);

  return {
    async show() {
      try {
        const { jobs } = await get('jobs');
        for (const job of [...jobs].reverse()) if (job.kind === 'score') place(job);
        empty();
      } catch (error) {
        complain(message, error);
      }
    },
  };
}
