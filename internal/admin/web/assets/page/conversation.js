// The conversation: what was said by both sides, and what happened in between.

import { el } from '../dom.js';
import * as entries from './entries.js';

const MOST = 1500; // entries shown
const NEAR = 60; // pixels from the end within which the list follows

/** The list of all that happens in a call, in the order in which it happened. */
export class Conversation {
  #list;
  #scroll;
  #items = [];
  #agent = new Map();
  #turns = new Map();
  #actions = [];
  #caller = { spoken: null, keyed: null }; // what is not final yet
  #transfer = null;
  #last = 0;
  #scale = 2000;
  #follow = true;
  #onNews;

  /**
   * @param {HTMLElement} list
   * @param {HTMLElement} scroll what scrolls the list where the page does not
   * @param {{said: (who: string, text: string) => void, behind: (behind: boolean) => void}} on said: a complete text of one side; behind: whether the end is out of sight
   */
  constructor(list, scroll, on) {
    this.#list = list;
    this.#scroll = scroll;
    this.#onNews = on;
    const watch = () => { this.#follow = this.#nearEnd(); on.behind(!this.#follow); };
    scroll.addEventListener('scroll', watch, { passive: true });
    addEventListener('scroll', watch, { passive: true });
  }

  /** Whether there is nothing to show. */
  get empty() { return this.#items.length === 0; }

  /** Forgets all. */
  clear() {
    this.#list.replaceChildren();
    this.#items = [];
    this.#agent.clear();
    this.#turns.clear();
    this.#actions = [];
    this.#caller = { spoken: null, keyed: null };
    this.#transfer = null;
    this.#last = 0;
    this.#scale = 2000;
    this.#follow = true;
    this.#onNews.behind(false);
  }

  /** Takes an event of the bridge. @param {{kind: string, data: object}} event */
  take({ kind, data }) {
    const t = Number.isFinite(data.t) ? data.t : this.#last;
    this.#last = Math.max(this.#last, t);
    const does = {
      caller: () => this.#callerSays(t, data),
      agent: () => this.#agentSays(t, data),
      agent_end: () => this.#agent.get(data.seq)?.end(data),
      trace: () => this.#add(entries.trace(t, data)),
      action: () => this.#actions.push(this.#add(entries.action(t, data))),
      action_done: () => this.#actionDone(data),
      turn: () => this.#turn(t, data),
      transfer: () => this.#transferred(t, data),
      note: () => this.#add(entries.note(t, data)),
      state: () => this.#state(t, data),
    }[kind];
    does?.();
    this.toEnd(false);
  }

  /**
   * The conversation as text, one line for each entry.
   * @param {{traces: boolean}} wanted
   * @returns {string}
   */
  text({ traces }) {
    return this.#items.filter((i) => traces || i.kind !== 'trace').map((i) => i.line()).join('\n');
  }

  /** Shows the end of the list. @param {boolean} force even if the reader has scrolled away */
  toEnd(force) {
    if (!force && !this.#follow) return;
    this.#follow = true;
    const pane = this.#pane();
    pane.scrollTop = pane.scrollHeight;
    this.#onNews.behind(false);
  }

  #pane() {
    const own = getComputedStyle(this.#scroll).overflowY !== 'visible';
    return own ? this.#scroll : document.scrollingElement;
  }

  #nearEnd() {
    const pane = this.#pane();
    return pane.scrollHeight - pane.scrollTop - pane.clientHeight < NEAR;
  }

  /** Puts an entry where its time belongs. */
  #add(item) {
    let at = this.#items.length;
    while (at > 0 && comesAfter(this.#items[at - 1], item)) at -= 1;
    this.#list.insertBefore(item.node, this.#items[at]?.node ?? null);
    this.#items.splice(at, 0, item);
    while (this.#items.length > MOST) this.#items.shift().node.remove();
    this.#group(at);
    this.#group(at + 1);
    return item;
  }

  /** Marks an entry that goes on with what the same side said just before. */
  #group(at) {
    const item = this.#items[at];
    if (!item?.said) return;
    let before = at - 1;
    while (before >= 0 && this.#items[before].kind === 'trace') before -= 1;
    item.node.classList.toggle('goes-on', this.#items[before]?.kind === item.kind);
  }

  #callerSays(t, data) {
    const how = data.keyed ? 'keyed' : 'spoken';
    this.#caller[how] ??= this.#add(entries.caller(t));
    this.#caller[how].update(data);
    if (!data.final) return;
    if (data.text) this.#onNews.said('Caller', String(data.text));
    this.#caller[how] = null;
  }

  #agentSays(t, data) {
    const item = this.#add(entries.agent(t, data));
    this.#agent.set(data.seq, item);
    if (data.text && data.kind !== 'music') this.#onNews.said('Agent', String(data.text));
  }

  #actionDone(data) {
    const at = this.#actions.findIndex((a) => a.name === String(data.name));
    if (at >= 0) this.#actions.splice(at, 1)[0].done(data);
  }

  #turn(t, data) {
    const item = entries.turn(t, data);
    for (const how of ['spoken', 'keyed']) { // what nothing came of
      if (this.#caller[how]?.t <= item.t) this.#caller[how] = null;
    }
    const before = this.#turns.get(data.n);
    if (before) {
      before.node.remove();
      this.#items.splice(this.#items.indexOf(before), 1);
    }
    this.#turns.set(data.n, this.#add(item));
    this.#scale = Math.max(this.#scale, item.total);
    this.#list.style.setProperty('--scale', String(this.#scale));
  }

  #transferred(t, data) {
    this.#transfer ??= this.#add(entries.transfer(t));
    this.#transfer.update(data);
    if (data.outcome) this.#transfer = null;
  }

  #state(t, { state, why }) {
    const words = { held: 'On hold', up: '', bridged: 'The caller talks with somebody else', ended: 'The call ended' }[state];
    if (words) this.#add(entries.note(t, { text: why ? `${words}: ${why}` : words, level: 'state' }));
  }
}

// What a turn brings stands below it, even if it came within the same millisecond.
const BROUGHT = new Set(['trace', 'action', 'agent']);

function comesAfter(other, item) {
  return other.t > item.t || (item.kind === 'turn' && other.t === item.t && BROUGHT.has(other.kind));
}

/**
 * Makes what announces texts to screen readers, one after another.
 * @param {HTMLElement} region with aria-live
 * @returns {(text: string) => void}
 */
export function announcer(region) {
  return (text) => {
    region.append(el('p', {}, text));
    while (region.children.length > 5) region.firstElementChild.remove();
  };
}
