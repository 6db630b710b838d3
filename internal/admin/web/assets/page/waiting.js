// What the agent does and what it waits for.

import { cut, el } from '../dom.js';

const $ = (id) => document.getElementById(id);

const WORDS = {
  idle: 'Nobody is called.',
  connecting: 'The line is being set up.',
  speaking: 'The agent speaks. You may speak or press keys at any time.',
  listening: 'The agent listens.',
  hearing: 'The agent hears you.',
  thinking: 'The agent thinks.',
  held: 'The call is on hold.',
  transferring: 'Somebody else is being called.',
  bridged: 'You are talking with somebody else now.',
  ended: 'The call is over.',
};

/** The card that shows what the agent waits for. */
export class Waiting {
  #say;
  #timeline;
  #deadline = null; // on the bridge's clock
  #span = 0;
  #frame = 0;
  #speaking = new Set();
  #listens = false;
  #waits = '';
  #shown = '[]';
  #away = ''; // the state in which nobody converses with the agent; empty: he does

  /**
   * @param {(text: string) => Promise<boolean>} say
   * @param {import('./timeline.js').Timeline} timeline
   */
  constructor(say, timeline) {
    this.#say = say;
    this.#timeline = timeline;
  }

  /** Begins anew. @param {string} mode a key of the words */
  reset(mode) {
    this.#speaking.clear();
    this.#waits = '';
    this.#endListening();
    this.#mode(mode);
  }

  /** Follows the state of the phone. @param {string} state */
  state(state) {
    this.#away = ['held', 'transferring', 'bridged'].includes(state) ? state : '';
    if (state === 'connecting') this.reset('connecting');
    else if (this.#away) this.#mode(state);
    else if (state === 'up' && $('waiting').dataset.mode === 'connecting') this.#mode('thinking');
    else if (state === 'up') this.#settle();
    else if (state === 'ended') this.reset('ended');
    else if (state === 'failed') this.reset('idle');
    for (const b of $('choices').children) b.disabled = state !== 'up';
  }

  /** Takes an event of the bridge. @param {{kind: string, data: object}} event */
  take({ kind, data }) {
    const does = {
      agent: () => { this.#speaking.add(data.seq); this.#settle(); },
      agent_end: () => { this.#speaking.delete(data.seq); this.#settle(); },
      listen: () => this.#listen(data),
      listen_end: () => { this.#endListening(); this.#settle(); },
      caller: () => this.#caller(data),
      action: () => { if (data.waits) { this.#waits = String(data.name); this.#settle(); } },
      action_done: () => { this.#waits = ''; this.#settle(); },
    }[kind];
    does?.();
  }

  #caller(data) {
    this.#deadline = null; // the countdown stands still while the caller speaks
    this.#countdown();
    if (data.final) this.#endListening();
    this.#mode(data.final ? 'thinking' : 'hearing');
  }

  #settle() {
    if (this.#away) this.#mode(this.#away);
    else if (this.#waits) this.#mode('waiting', `The agent waits for its custom action ${cut(this.#waits, 60)}.`);
    else if (this.#speaking.size) this.#mode('speaking');
    else this.#mode(this.#listens ? 'listening' : 'thinking');
  }

  #mode(mode, words = WORDS[mode]) {
    $('waiting').dataset.mode = mode;
    $('waiting-words').textContent = words;
  }

  #listen({ no_reply: seconds, choices, keys, t }) {
    this.#listens = true;
    this.#span = Number(seconds) > 0 ? Number(seconds) : 0;
    this.#deadline = this.#span ? (Number.isFinite(t) ? t : this.#timeline.now()) + this.#span : null;
    this.#choices(Array.isArray(choices) ? choices : []);
    this.#keys(keys);
    this.#settle();
    this.#countdown();
  }

  #endListening() {
    this.#listens = false;
    this.#deadline = null;
    this.#choices([]);
    this.#keys(null);
    this.#countdown();
  }

  #choices(choices) {
    const box = $('choices');
    const shown = JSON.stringify(choices);
    if (shown === this.#shown && !box.querySelector(':disabled')) return; // the focus stays where it is
    this.#shown = shown;
    box.hidden = !choices.length;
    box.replaceChildren(...choices.slice(0, 40).map((c, i) => el('button', {
      type: 'button', class: 'choice', 'data-test': `choice-${i + 1}`,
      click: () => this.#choose(String(c?.label ?? '')),
    }, c?.key ? el('kbd', { 'aria-label': `key ${c.key}` }, String(c.key)) : null, cut(c?.label, 80))));
  }

  async #choose(label) {
    for (const b of $('choices').children) b.disabled = true;
    if (await this.#say(label)) return;
    for (const b of $('choices').children) b.disabled = false;
  }

  #keys(keys) {
    const parts = [];
    if (keys?.max > 0) parts.push(keys.max === 1 ? 'one key' : `up to ${keys.max} keys`);
    if (keys?.delimiter) parts.push(`ended by ${keys.delimiter}`);
    $('expected').hidden = !parts.length;
    $('expected').textContent = parts.length ? `Keys: ${parts.join(', ')}.` : '';
  }

  #countdown() {
    if (this.#frame) cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    $('countdown').hidden = this.#deadline === null;
    if (this.#deadline !== null) this.#tick();
  }

  #tick() {
    const left = Math.max(0, this.#deadline - this.#timeline.now());
    $('countdown').querySelector('i').style.setProperty('--level', String(Math.min(1, left / this.#span).toFixed(3)));
    $('countdown-text').textContent = left > 0 ? `No reply in ${left.toFixed(1)} s` : 'No reply';
    this.#frame = left > 0 ? requestAnimationFrame(() => this.#tick()) : 0;
  }
}
