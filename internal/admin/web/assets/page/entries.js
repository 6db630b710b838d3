// The entries of a conversation: what each kind of event looks like.

import { clock, cut, el } from '../dom.js';

const LONGEST = 20000; // characters of a payload that are shown

/**
 * @typedef {object} Entry
 * @property {string} kind
 * @property {number} t seconds since the call began
 * @property {HTMLElement} node
 * @property {() => string} line as copied text
 * @property {boolean} [said] whether somebody said it
 */

function row(kind, t, ...body) {
  return el('li', { class: `entry ${kind}`, 'data-kind': kind, 'data-test': `entry-${kind}` },
    el('time', { class: 'at', title: `${t.toFixed(2)} s` }, clock(t)), el('div', { class: 'body' }, ...body));
}

const stamp = (t) => `[${clock(t)}]`;

/**
 * What the caller says or keys; it grows until it is final.
 * @param {number} t
 * @returns {Entry & {update: (data: object) => void}}
 */
export function caller(t) {
  const words = el('p', { class: 'words' });
  const meta = el('span', { class: 'meta' });
  const node = row('caller', t, el('span', { class: 'who' }, 'Caller'), words, meta);
  let said = '';
  const update = ({ text, final, keyed, confidence }) => {
    const now = String(text ?? '');
    said = keyed && !final ? said + now : now; // keys come one by one
    words.replaceChildren(...(keyed ? [...said].slice(0, 60).map((key) => el('kbd', {}, key)) : [said || '…']));
    node.classList.toggle('interim', !final);
    node.classList.toggle('keyed', Boolean(keyed));
    meta.textContent = final && confidence > 0 && confidence < 1 && !keyed ? `${Math.round(confidence * 100)} % sure` : '';
  };
  return { kind: 'caller', t, node, said: true, update, line: () => `${stamp(t)} Caller: ${said}` };
}

const HEARD = { speech: '', audio: 'plays audio', prompt: 'says by itself', music: 'plays music' };
const ENDED = { stopped: 'interrupted', starved: 'broken off: sound came too late' };

/**
 * What is heard of the agent.
 * @param {number} t
 * @param {{text?: string, kind?: string}} data
 * @returns {Entry & {end: (data: {heard?: number, why?: string}) => void}}
 */
export function agent(t, { text, kind = 'speech' }) {
  const how = HEARD[kind] ?? kind;
  const words = String(text || { music: '♪', audio: '♪' }[kind] || '…');
  const meta = el('span', { class: 'meta' }, how);
  const node = row('agent', t, el('span', { class: 'who' }, kind === 'prompt' || kind === 'music' ? 'Bridge' : 'Agent'), el('p', { class: 'words' }, words), meta);
  node.classList.add('now');
  const end = ({ heard, why }) => {
    node.classList.remove('now');
    if (kind === 'music') return; // it ends when it is no longer needed
    node.classList.toggle('broken', Boolean(ENDED[why]));
    const after = ENDED[why] && Number.isFinite(heard) ? ` after ${heard.toFixed(1)} s` : '';
    meta.textContent = [how, ENDED[why] ? ENDED[why] + after : ''].filter(Boolean).join(', ');
  };
  return { kind: 'agent', t, node, said: true, end, line: () => `${stamp(t)} Agent: ${words}${meta.textContent ? ` (${meta.textContent})` : ''}` };
}

/** Text of any JSON value, with bounds. */
function json(value) {
  return cut(typeof value === 'string' ? value : JSON.stringify(value ?? null, null, 2), LONGEST);
}

/** What a payload is about, in a few words. */
function gist(payload) {
  if (payload === null || payload === undefined) return '';
  if (typeof payload !== 'object') return cut(payload, 120);
  for (const key of ['message', 'name', 'label', 'src', 'value', 'timeout', 'reason', 'path']) {
    if (typeof payload[key] === 'string' || typeof payload[key] === 'number') return cut(payload[key], 120);
  }
  if (Array.isArray(payload.buttons)) return cut(payload.buttons.map((b) => b?.name ?? '').join(' · '), 120);
  return cut(JSON.stringify(payload), 120);
}

function unfolding(badge, title, payload, ...more) {
  const empty = payload === undefined || payload === null || payload === '';
  const head = [el('code', { class: 'badge' }, badge), el('span', { class: 'gist' }, title), ...more];
  if (empty) return el('p', { class: 'plain' }, ...head);
  return el('details', {}, el('summary', {}, ...head), el('pre', { tabindex: '0' }, json(payload)));
}

/**
 * A trace as Voiceflow sent it.
 * @param {number} t
 * @param {{type: string, payload: any}} data
 * @returns {Entry}
 */
export function trace(t, { type, payload }) {
  const node = row('trace', t, unfolding(cut(type, 40), gist(payload), payload));
  return { kind: 'trace', t, node, line: () => `${stamp(t)} trace ${type}: ${cut(JSON.stringify(payload ?? null), 2000)}` };
}

/**
 * A custom action.
 * @param {number} t
 * @param {{name: string, waits: boolean, body: any}} data
 * @returns {Entry & {name: string, done: (data: {path?: string}) => void}}
 */
export function action(t, { name, waits, body }) {
  const status = el('span', { class: 'status' }, waits ? 'the agent waits' : 'in passing');
  const node = row('action', t, unfolding('action', cut(name, 60), body, status));
  node.classList.toggle('now', Boolean(waits));
  const done = ({ path }) => {
    node.classList.remove('now');
    status.textContent = path ? `path: ${cut(path, 60)}` : 'done';
  };
  return { kind: 'action', t, node, name: String(name), done, line: () => `${stamp(t)} custom action ${name} (${status.textContent})` };
}

/**
 * Something worth knowing.
 * @param {number} t
 * @param {{text: string, level?: string}} data
 * @returns {Entry}
 */
export function note(t, { text, level = 'info' }) {
  const node = row('note', t, el('p', {}, cut(text, 600)));
  node.classList.toggle('warn', level === 'warn');
  node.classList.toggle('mark', level === 'state');
  return { kind: 'note', t, node, line: () => `${stamp(t)} ${level === 'warn' ? 'warning: ' : ''}${text}` };
}

const OUTCOMES = {
  connected: 'connected', human: 'somebody answered', busy: 'busy', no_answer: 'no answer', declined: 'declined',
  unreachable: 'unreachable', refused: 'not allowed', unconfirmed: 'nobody said what became of it',
};
const GOOD = new Set(['connected', 'human']);

/** Progress by SIP status, RFC 3261 section 21. */
function progress(status) {
  if (status === 180 || status === 183) return 'it rings';
  return status >= 100 && status < 200 ? 'it is called' : 'it begins';
}

/**
 * A transfer; it is updated until its outcome is known.
 * @param {number} t
 * @returns {Entry & {update: (data: object) => void}}
 */
export function transfer(t) {
  const where = el('strong', { class: 'gist' });
  const status = el('span', { class: 'status' });
  const node = row('transfer', t, el('p', { class: 'plain' }, el('code', { class: 'badge' }, 'transfer'), where, status));
  node.classList.add('now');
  const update = ({ target, status: code, outcome, cause }) => {
    if (target) where.textContent = cut(target, 120);
    const sip = code > 0 ? ` (${code})` : '';
    const words = outcome ? OUTCOMES[outcome] ?? outcome : progress(code);
    status.textContent = cut(words + sip + (outcome && cause ? `: ${cause}` : ''), 200);
    node.classList.toggle('now', !outcome);
    node.classList.toggle('good', GOOD.has(outcome));
    node.classList.toggle('broken', Boolean(outcome) && !GOOD.has(outcome));
  };
  return { kind: 'transfer', t, node, update, line: () => `${stamp(t)} transfer to ${where.textContent}: ${status.textContent}` };
}

// The stages of a turn, each from the stamp before it to its own.
const STAGES = [
  ['transcript', 'understood', 'end of speech to transcript'],
  ['sent', 'sent', 'transcript to the request'],
  ['first_trace', 'agent', 'request to the first trace'],
  ['first_audio', 'voice', 'first trace to the first audio'],
  ['first_packet', 'line', 'first audio to the first packet'],
];

/** The stages that happened, with their lengths in milliseconds. */
function stages(data) {
  let at = data.speech_end;
  const out = [];
  for (const [key, name, words] of STAGES) {
    const stamp = data[key];
    if (!Number.isFinite(stamp)) continue;
    if (Number.isFinite(at)) out.push({ key, name, words, ms: Math.max(0, Math.round((stamp - at) * 1000)) });
    at = Number.isFinite(at) ? Math.max(at, stamp) : stamp;
  }
  return out;
}

/**
 * How long a turn took, and where.
 * @param {number} t
 * @param {object} data seconds since the call began, null where a stage did not happen
 * @returns {Entry & {total: number}} total in milliseconds
 */
export function turn(t, data) {
  const parts = stages(data);
  const total = parts.reduce((sum, p) => sum + p.ms, 0);
  const began = [data.sent, data.transcript, data.speech_end].find(Number.isFinite) ?? t;
  const bar = el('div', { class: 'turn-bar', 'aria-hidden': 'true' });
  for (const p of parts) {
    const piece = el('i', { 'data-stage': p.key, title: `${p.words}: ${p.ms} ms` });
    piece.style.setProperty('--ms', String(p.ms));
    bar.append(piece);
  }
  const figures = el('ul', { class: 'turn-figures', 'aria-label': `Turn ${data.n}, ${total} milliseconds` }, ...parts.map((p) => el('li', { title: p.words },
    el('i', { 'data-stage': p.key, 'aria-hidden': 'true' }), `${p.name} ${p.ms}`)));
  const node = row('turn', began, el('div', { class: 'turn-head' }, el('span', { class: 'turn-name' }, `Turn ${data.n}`),
    data.action ? el('code', { class: 'badge' }, cut(data.action, 40)) : null, bar, el('strong', { class: 'turn-total' }, `${total} ms`)), figures);
  return { kind: 'turn', t: began, node, total, line: () => `${stamp(began)} turn ${data.n}: ${parts.map((p) => `${p.name} ${p.ms} ms`).join(', ')}, together ${total} ms` };
}
