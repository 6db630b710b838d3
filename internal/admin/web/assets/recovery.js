// Finding the way back to the bridge when the network changes under a call.

import { Trouble } from './trouble.js';

const PATIENCE = 30000; // milliseconds without sound after which the call is given up
const RETRY = 2500; // milliseconds that a restart has to bring the sound back

/** Restarts ICE (RFC 8445, section 2.4) until there is sound again, or it has taken too long. */
export class Recovery {
  #peer;
  #send;
  #on;
  #since = 0;
  #timer = 0;
  #busy = false;
  #closed = false;

  /**
   * @param {import('./peer.js').Peer} peer
   * @param {(sdp: string) => Promise<{sdp: string}>} send brings an offer to the bridge
   * @param {{lost: () => void, back: () => void, gone: (error: Error) => void}} on
   */
  constructor(peer, send, on) {
    this.#peer = peer;
    this.#send = send;
    this.#on = on;
  }

  /** Takes each state of the connection. @param {RTCPeerConnectionState} state */
  watch(state) {
    if (this.#closed) return;
    if (state === 'connected') this.#back();
    else if ((state === 'disconnected' || state === 'failed') && !this.#since) this.#lost();
  }

  /** The network has changed: does not wait for the next attempt. */
  nudge() {
    if (this.#since) this.#try();
  }

  /** Ends all attempts. */
  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #lost() {
    this.#since = performance.now();
    this.#on.lost();
    this.#try();
  }

  #back() {
    clearTimeout(this.#timer);
    if (!this.#since) return;
    this.#since = 0;
    this.#on.back();
  }

  async #try() {
    clearTimeout(this.#timer);
    if (this.#busy || this.#closed) return;
    if (performance.now() - this.#since > PATIENCE) {
      this.#on.gone(new Trouble('lost'));
      return;
    }
    this.#busy = true;
    try {
      await this.#restart();
    } catch (error) {
      if (!this.#closed && error.status === 404) this.#on.gone(new Trouble('lost', { detail: error.message }));
    } finally {
      this.#busy = false;
    }
    if (!this.#closed && this.#since) this.#timer = setTimeout(() => this.#try(), RETRY);
  }

  async #restart() {
    const sdp = await this.#peer.offer(true);
    const answer = await this.#send(sdp);
    if (!this.#closed) await this.#peer.accept(answer.sdp);
  }
}
