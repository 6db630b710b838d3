// The events of a call, as the bridge streams them.

import { eventsAddress } from './api.js';

const KINDS = ['state', 'caller', 'agent', 'agent_end', 'trace', 'action', 'action_done', 'listen', 'listen_end', 'turn', 'transfer', 'note', 'stats'];

const PAUSES = [500, 1000, 2000, 4000, 8000];

/** Follows the events of one call through broken connections: each comes once, in order. */
export class EventFeed {
  #key;
  #take;
  #lost;
  #source = null;
  #last = -1;
  #failures = 0;
  #timer = 0;
  #closed = false;

  /**
   * @param {string} key of the call
   * @param {(event: {id: string, kind: string, data: object}) => void} take
   * @param {() => void} lost is told once when the bridge no longer knows the call, or cannot be reached
   */
  constructor(key, take, lost) {
    this.#key = key;
    this.#take = take;
    this.#lost = lost;
    this.#open();
  }

  /** Ends the following. */
  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#source?.close();
  }

  #open() {
    const source = new EventSource(eventsAddress(this.#key));
    this.#source = source;
    source.onopen = () => { this.#failures = 0; };
    // The browser reconnects by itself, with the last id, unless it was refused.
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) this.#again(); };
    for (const kind of KINDS) source.addEventListener(kind, (e) => this.#receive(kind, e));
  }

  #again() {
    if (this.#closed) return;
    if (this.#failures >= PAUSES.length) {
      this.close();
      this.#lost();
      return;
    }
    this.#timer = setTimeout(() => this.#open(), PAUSES[this.#failures]);
    this.#failures += 1;
  }

  #receive(kind, event) {
    if (this.#closed) return;
    const id = Number(event.lastEventId);
    if (event.lastEventId !== '' && Number.isFinite(id)) {
      if (id <= this.#last) return; // told again after a reconnection
      this.#last = id;
    }
    let data;
    try {
      data = JSON.parse(event.data);
    } catch {
      return;
    }
    if (data && typeof data === 'object') this.#take({ id: event.lastEventId, kind, data });
  }
}
