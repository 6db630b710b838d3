// How good the sound of a call is.

const WINDOW = 10; // measurements

/**
 * Rates sound as a simplified E-model does (ITU-T G.107 for G.711 with loss
 * concealment): from delay and loss alone.
 * @param {number} loss share of packets lost, 0 to 1
 * @param {number} delay one way, in milliseconds
 * @returns {{r: number, word: 'good'|'fair'|'poor'}} r from 0 to 93.2
 */
export function rate(loss, delay) {
  const late = Math.max(0, delay - 177.3);
  const percent = Math.min(100, Math.max(0, loss * 100));
  const r = Math.max(0, 93.2 - (0.024 * delay + 0.11 * late) - (95 * percent) / (percent + 25.1));
  return { r, word: r >= 80 ? 'good' : r >= 70 ? 'fair' : 'poor' };
}

/** Turns counters that only grow into the share lost of late. */
class Losses {
  #samples = [];

  add(received, lost) {
    this.#samples.push({ received, lost });
    if (this.#samples.length > WINDOW) this.#samples.shift();
  }

  share() {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (!first || first === last) return 0;
    const lost = Math.max(0, last.lost - first.lost);
    const received = Math.max(0, last.received - first.received);
    return lost + received > 0 ? lost / (lost + received) : 0;
  }
}

/**
 * @typedef {{lost: number, loss: number, jitter: number|null}} Direction lost in packets, loss as a share of late, jitter in milliseconds
 * @typedef {{word: string, r: number, rtt: number|null, heard: Direction, sent: Direction}} Quality rtt in milliseconds; heard: what this browser receives; sent: what the bridge receives
 */

/** Follows the quality of one call in both directions. */
export class QualityWatch {
  #heard = new Losses();
  #sent = new Losses();
  #ours = { received: 0, lost: 0, jitter: null, buffer: 0 };
  #theirs = { lost: 0, jitter: null };
  #rtt = null;
  #buffer = { delay: 0, count: 0 };

  /** Takes what the browser measured. @param {RTCStatsReport} report */
  browser(report) {
    for (const s of report.values()) {
      if (s.type === 'inbound-rtp' && s.kind === 'audio') this.#inbound(s);
      else if (s.type === 'candidate-pair' && s.nominated && s.state === 'succeeded' && Number.isFinite(s.currentRoundTripTime)) {
        this.#rtt = s.currentRoundTripTime * 1000;
      }
    }
  }

  #inbound(s) {
    const delay = s.jitterBufferDelay ?? 0;
    const count = s.jitterBufferEmittedCount ?? 0;
    const fresh = count - this.#buffer.count;
    const buffer = fresh > 0 ? ((delay - this.#buffer.delay) / fresh) * 1000 : this.#ours.buffer;
    this.#buffer = { delay, count };
    this.#ours = { received: s.packetsReceived ?? 0, lost: Math.max(0, s.packetsLost ?? 0), jitter: Number.isFinite(s.jitter) ? s.jitter * 1000 : null, buffer };
    this.#heard.add(this.#ours.received, this.#ours.lost);
  }

  /** Takes a `stats` event of the bridge. @param {{jitter_ms?: number, lost?: number, received?: number, rtt_ms?: number}} stats */
  bridge(stats) {
    this.#theirs = { lost: Math.max(0, stats.lost ?? 0), jitter: Number.isFinite(stats.jitter_ms) ? stats.jitter_ms : null };
    this.#sent.add(stats.received ?? 0, this.#theirs.lost);
    if (this.#rtt === null && stats.rtt_ms > 0) this.#rtt = stats.rtt_ms;
  }

  /** @returns {Quality} */
  now() {
    const heard = { lost: this.#ours.lost, loss: this.#heard.share(), jitter: this.#ours.jitter };
    const sent = { lost: this.#theirs.lost, loss: this.#sent.share(), jitter: this.#theirs.jitter };
    const way = (this.#rtt ?? 0) / 2 + 20;
    const ours = rate(heard.loss, way + this.#ours.buffer);
    const theirs = rate(sent.loss, way + 2 * (sent.jitter ?? 0));
    const worse = ours.r <= theirs.r ? ours : theirs;
    return { word: worse.word, r: worse.r, rtt: this.#rtt, heard, sent };
  }
}
