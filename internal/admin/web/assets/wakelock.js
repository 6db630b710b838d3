// Keeping the screen awake during a call.

/** Holds a screen wake lock, and again whenever the page is seen again. */
export class WakeLock {
  #lock = null;
  #wanted = false;
  #seen = () => { if (document.visibilityState === 'visible') this.#ask(); };

  /** Asks for the lock; browsers without one do nothing. */
  hold() {
    if (this.#wanted || !navigator.wakeLock) return;
    this.#wanted = true;
    document.addEventListener('visibilitychange', this.#seen);
    this.#ask();
  }

  /** Gives the lock back. */
  release() {
    this.#wanted = false;
    document.removeEventListener('visibilitychange', this.#seen);
    this.#lock?.release().catch(() => {});
    this.#lock = null;
  }

  async #ask() {
    try {
      const lock = await navigator.wakeLock.request('screen');
      if (this.#wanted) this.#lock = lock;
      else await lock.release();
    } catch {
      // Not now: the battery is low, or the page is hidden.
    }
  }
}
