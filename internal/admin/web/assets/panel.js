// What the call button shows while it is used. button.js loads this when it is pressed.

import * as api from './api.js';
import { clock, cut, el, icon } from './dom.js';
import { flash, keypad, typedKey } from './keypad.js';
import { STYLE } from './panelstyle.js';
import { Phone } from './phone.js';
import { probe } from './probe.js';
import { Sound } from './sound.js';
import { explain, Trouble } from './trouble.js';

const WORDS = {
  connecting: 'Connecting…', up: 'Connected', held: 'On hold', transferring: 'You are being put through…',
  bridged: 'You are through', ending: 'Hanging up…', ended: 'Call ended', failed: 'No call',
};
const STAY = 4000; // milliseconds that the end of a call is shown

/**
 * @typedef {object} Settings
 * @property {string} agent
 * @property {string} label
 * @property {string} [language]
 * @property {Object<string, string|number|boolean>} [variables]
 * @property {string} [tokenURL] of the site's own endpoint; empty: the bridge gives the token
 */

/** The panel of one button. */
export class Panel {
  #settings;
  #on;
  #phone;
  #parts;
  #panel;
  #pad;
  #close = 0;
  #clock = 0;

  /**
   * @param {ShadowRoot} root
   * @param {AudioContext} context woken by the click
   * @param {Settings} settings
   * @param {{state: (detail: object) => void, close: (focus: boolean) => void}} on close: whether the focus was in the panel
   */
  constructor(root, context, settings, on) {
    this.#settings = settings;
    this.#on = on;
    this.#phone = new Phone(new Sound(context ?? undefined));
    this.probe = probe(() => this.#phone);
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    root.adoptedStyleSheets = [...root.adoptedStyleSheets, sheet];
    this.#draw();
    root.append(this.#panel);
    this.#follow();
  }

  /** The phone's state. */
  get state() { return this.#phone.state; }

  /** Shows itself and calls. What goes wrong is shown. */
  async start() {
    clearTimeout(this.#close);
    const { trouble, choices, fine } = this.#parts;
    trouble.hidden = choices.hidden = true;
    fine.textContent = '';
    this.#panel.hidden = false;
    this.#openPad(false);
    const { agent, language, variables, tokenURL } = this.#settings;
    const placed = this.#phone.call({
      agent, language, variables,
      token: () => (tokenURL ? siteToken(tokenURL, agent) : api.token(agent).then((t) => t.token)),
    });
    this.#parts.hangup.focus();
    await placed;
  }

  /** Hangs up, if there is a call. */
  hangup() { this.#phone.hangup(); }

  #draw() {
    const button = (test, name, symbol, click) => el('button', { type: 'button', class: test, 'data-test': test, click }, icon(symbol), el('span', {}, name));
    const p = {
      state: el('p', { class: 'state', role: 'status', 'data-test': 'state' }),
      timer: el('p', { class: 'timer', role: 'timer', 'aria-live': 'off', 'aria-label': 'Length of the call', 'data-test': 'timer' }, '0:00'),
      fine: el('p', { class: 'fine' }),
      title: el('strong', {}), text: el('p', {}),
      choices: el('div', { class: 'choices', role: 'group', 'aria-label': 'Choices', hidden: true }),
      mute: button('mute', 'Mute', 'mic', () => this.#phone.setMuted(!this.#phone.muted)),
      keys: button('keys', 'Keys', 'keys', () => this.#openPad(this.#pad.hidden)),
      hangup: button('hangup', 'Hang up', 'hangup', () => this.#phone.hangup()),
      again: button('again', 'Call again', 'phone', () => this.start()),
      close: button('close', 'Close', 'close', () => this.#shut()),
      sound: el('button', { type: 'button', 'data-test': 'sound', hidden: true, click: () => this.#turnOn() }, 'Turn on sound'),
    };
    p.trouble = el('div', { class: 'trouble', role: 'alert', 'data-test': 'trouble', hidden: true }, p.title, p.text, p.sound);
    this.#parts = p;
    this.#pad = keypad((key) => this.#press(key));
    this.#pad.hidden = true;
    this.#panel = el('section', { class: 'panel', 'aria-label': this.#settings.label, 'data-test': 'panel', hidden: true, keydown: (e) => this.#typed(e) },
      el('div', { class: 'head' }, el('span', { class: 'lamp', 'aria-hidden': 'true' }), p.state, p.timer),
      p.fine, p.trouble, p.choices, this.#pad,
      el('div', { class: 'bar', role: 'group', 'aria-label': 'Call controls' }, p.mute, p.keys, p.hangup, p.again, p.close));
  }

  #follow() {
    this.#phone.addEventListener('state', (e) => this.#show(e.detail));
    this.#phone.addEventListener('trouble', (e) => this.#trouble(e.detail.error));
    this.#phone.addEventListener('event', (e) => this.#event(e.detail));
    this.#phone.addEventListener('mute', (e) => this.#muted(e.detail.muted));
    this.#phone.addEventListener('link', (e) => { this.#parts.state.textContent = e.detail.up ? WORDS[this.state] : 'Connection lost, trying again…'; });
  }

  #show({ state, why = '', class: cause = '' }) {
    const p = this.#parts;
    const { busy, served, seconds } = this.#phone;
    const over = !busy;
    this.#panel.dataset.state = state;
    p.state.textContent = WORDS[state] ?? state;
    for (const part of [p.mute, p.keys]) part.hidden = !served;
    const focused = this.#focused();
    p.hangup.hidden = over;
    p.hangup.disabled = state === 'ending';
    p.again.hidden = p.close.hidden = !over;
    if (focused && over) p.close.focus();
    if (over) this.#choices([]);
    if (over) this.#openPad(false);
    if (state === 'connecting') this.#muted(false);
    this.#tick(busy);
    if (state === 'ended') this.#close = setTimeout(() => this.#shut(), STAY);
    this.#on.state({ state, why, class: cause, seconds: Math.round(seconds * 10) / 10 });
  }

  #tick(busy) {
    clearInterval(this.#clock);
    const show = () => { this.#parts.timer.textContent = clock(this.#phone.seconds); };
    show();
    if (busy) this.#clock = setInterval(show, 250);
  }

  #trouble(error) {
    const { code, title, text, operator, detail } = explain(error);
    const p = this.#parts;
    this.#panel.dataset.error = code;
    p.title.textContent = title;
    p.text.textContent = text;
    p.sound.hidden = code !== 'sound';
    p.trouble.hidden = false;
    if (code === 'in_call' && !this.#phone.busy) this.#show({ state: 'failed', class: code });
    console.warn(`ivrbridge: ${[title, operator, detail].filter(Boolean).join('. ')}`);
  }

  #turnOn() {
    this.#parts.trouble.hidden = true;
    this.#phone.play();
  }

  #event({ kind, data }) {
    if (kind === 'listen') this.#choices(Array.isArray(data.choices) ? data.choices : []);
    else if (kind === 'listen_end' || (kind === 'caller' && data.final)) this.#choices([]);
    else if (kind === 'transfer' && data.outcome) this.#parts.fine.textContent = '';
  }

  #choices(choices) {
    const box = this.#parts.choices;
    const focused = box.contains(box.getRootNode().activeElement);
    box.hidden = !choices.length;
    box.replaceChildren(...choices.slice(0, 12).map((c, i) => el('button', {
      type: 'button', 'data-test': `choice-${i + 1}`, click: () => this.#phone.say(String(c?.label ?? '')),
    }, cut(c?.label, 60))));
    if (focused) this.#parts.hangup.focus();
  }

  #muted(muted) {
    const { mute } = this.#parts;
    mute.setAttribute('aria-pressed', String(muted));
    mute.replaceChildren(icon(muted ? 'muted' : 'mic'), el('span', {}, muted ? 'Muted' : 'Mute'));
  }

  #openPad(open) {
    this.#pad.hidden = !open;
    this.#parts.keys.setAttribute('aria-expanded', String(open));
  }

  #press(key) {
    this.#phone.press(key);
    flash(this.#pad, key);
  }

  #typed(event) {
    if (event.key === 'Escape' && !this.#pad.hidden) {
      this.#openPad(false);
      this.#parts.keys.focus();
      return;
    }
    const key = this.#phone.served ? typedKey(event) : '';
    if (key) this.#press(key);
  }

  #focused() {
    return this.#panel.contains(this.#panel.getRootNode().activeElement);
  }

  #shut() {
    clearTimeout(this.#close);
    if (this.#phone.busy) return;
    const focused = this.#focused();
    this.#panel.hidden = true;
    this.#on.close(focused);
  }
}

/** Asks the site for a token: by POST, or where it takes none by GET. */
async function siteToken(url, agent) {
  const ask = (options) => api.request(url, { headers: { Accept: 'application/json' }, ...options });
  try {
    const answer = await ask({ method: 'POST', headers: { 'Content-Type': 'application/json', Accept: 'application/json' }, body: JSON.stringify({ agent }) })
      .catch((error) => { if (error.status === 404 || error.status === 405) return ask({ method: 'GET' }); throw error; });
    if (typeof answer?.token === 'string' && answer.token) return answer.token;
  } catch (error) {
    throw new Trouble('token_site', { detail: error.message, retry: error.retry });
  }
  throw new Trouble('token_site', { detail: 'the answer holds no token' });
}
