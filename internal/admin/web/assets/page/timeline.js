// The bridge's clock of a call, as well as it can be known here.

/** Turns the `t` of events into times of this page. */
export class Timeline {
  #offset = Infinity;

  /** Begins a new call. */
  reset() {
    this.#offset = Infinity;
  }

  /** Takes the time of an event that has just come. @param {number} t seconds since the call began */
  take(t) {
    if (!Number.isFinite(t)) return;
    // Events come late, never early: the least difference is the truest.
    this.#offset = Math.min(this.#offset, performance.now() / 1000 - t);
  }

  /** Seconds since the call began; 0 before its first event. */
  now() {
    return Number.isFinite(this.#offset) ? performance.now() / 1000 - this.#offset : 0;
  }
}
