// A telephone: the one implementation of calling, for the page and for the button.

import * as api from './api.js';
import { EventFeed } from './events.js';
import { openMicrophone } from './microphone.js';
import { Peer } from './peer.js';
import { QualityWatch } from './quality.js';
import { Recovery } from './recovery.js';
import { isKey } from './sound.js';
import { Trouble } from './trouble.js';
import { WakeLock } from './wakelock.js';

const MEDIA_LIMIT = 20000; // milliseconds from the answer to the first sound
const PARTING = 1500; // milliseconds that the bridge has to say how the call ended
const BATCH = 60; // milliseconds in which candidates are collected
const KEPT = 200; // events kept for measuring

const OPEN = new Set(['connecting', 'up', 'held', 'transferring', 'bridged', 'ending']);
const SERVED = new Set(['up', 'held', 'transferring', 'bridged']);

// The call of this document, whoever's script made it: only one at a time.
const HOLDER = Symbol.for('ivrbridge.call');

/**
 * @typedef {object} Wish
 * @property {string} agent
 * @property {string} [language]
 * @property {Object<string, string|number|boolean>} [variables]
 * @property {() => Promise<string>} [token] asked once the microphone is open: tokens last a minute
 * @property {MediaStream} [stream] an open microphone, which the phone then owns
 * @property {string} [device] the microphone to open, if there is no stream
 * @property {RTCIceServer[]} [iceServers] asked of the bridge if missing
 */

/**
 * Places calls, one after another. It tells by events:
 * `state` {state, why, class}: idle, connecting, up, held, transferring, bridged, ending, ended, failed;
 * `event` {id, kind, data}: each event of the bridge; `quality` a Quality, every second;
 * `trouble` {error, fatal}; `link` {up}: the way to the bridge broke, or is back;
 * `stream` {microphone, remote}: what is heard changed; `mute` {muted}.
 */
export class Phone extends EventTarget {
  #sound;
  #audio = new Audio();
  #state = 'idle';
  #attempt = null;
  #peer = null;
  #microphone = null;
  #session = '';
  #feed = null;
  #recovery = null;
  #quality = null;
  #meters = { local: null, remote: null };
  #muted = false;
  #candidates = [];
  #timers = { media: 0, stats: 0, batch: 0, parting: 0 };
  #wake = new WakeLock();
  #upSince = 0;
  #events = [];

  /** @param {import('./sound.js').Sound} sound woken by a click */
  constructor(sound) {
    super();
    this.#sound = sound;
    this.#audio.autoplay = true;
    this.#audio.setAttribute('playsinline', '');
    addEventListener('pagehide', () => this.#leave());
    addEventListener('online', () => this.#recovery?.nudge());
  }

  /** The state as the `state` event tells it. */
  get state() { return this.#state; }

  /** Whether there is a call, or the beginning or end of one. */
  get busy() { return OPEN.has(this.#state); }

  /** Whether the call can be talked in. */
  get served() { return SERVED.has(this.#state); }

  /** Seconds since the call was up; 0 before. */
  get seconds() { return this.#upSince ? (performance.now() - this.#upSince) / 1000 : 0; }

  /** Whether the microphone is muted. */
  get muted() { return this.#muted; }

  /** The peer connection of the call; null without one. */
  get connection() { return this.#peer?.connection ?? null; }

  /** The last 200 events of the bridge, the oldest first. */
  get events() { return [...this.#events]; }

  /** Levels in dBFS, -100 where nothing is measured. @returns {{local: number, remote: number}} */
  levels() {
    return { local: this.#meters.local?.level() ?? -100, remote: this.#meters.remote?.level() ?? -100 };
  }

  /** The strongest frequency heard from the agent, in Hz. @returns {number} */
  remoteFrequency() { return this.#meters.remote?.frequency() ?? 0; }

  /**
   * Places a call. What goes wrong is told by `trouble` and the state `failed`.
   * @param {Wish} wish
   */
  async call(wish) {
    if (this.busy || globalThis[HOLDER]?.busy) {
      wish.stream?.getTracks().forEach((t) => t.stop());
      this.#tell('trouble', { error: new Trouble('in_call'), fatal: false });
      return;
    }
    globalThis[HOLDER] = this;
    const attempt = { over: false };
    this.#attempt = attempt;
    this.#events = [];
    this.#upSince = 0;
    this.#muted = false;
    this.#set('connecting');
    try {
      await this.#connect(wish, attempt);
    } catch (error) {
      if (!attempt.over) this.#fail(error);
    }
  }

  async #connect(wish, attempt) {
    this.#sound.wake();
    const microphone = wish.stream ?? await openMicrophone(wish.device);
    if (attempt.over) return microphone.getTracks().forEach((t) => t.stop());
    this.#listen(microphone);
    // The token first: with it a site that the bridge does not know may read more.
    const token = await wish.token?.();
    const iceServers = wish.iceServers ?? await api.config().then((c) => c.ice_servers, () => []);
    if (attempt.over) return undefined;
    const peer = new Peer(iceServers ?? [], microphone, this.#sink(attempt));
    this.#peer = peer;
    const sdp = await peer.offer();
    if (attempt.over) return undefined;
    const { agent, language, variables } = wish;
    const answer = await api.create({ sdp, agent, language: language || undefined, variables, token });
    if (attempt.over) return api.farewell(answer.session, 'the caller hung up before the answer');
    this.#session = answer.session;
    this.#begin(attempt);
    await peer.accept(answer.sdp);
    return this.#sendCandidates();
  }

  /** What runs beside a call from its answer to its end. */
  #begin(attempt) {
    this.#wake.hold();
    this.#quality = new QualityWatch();
    this.#recovery = new Recovery(this.#peer, (sdp) => api.offer(this.#session, sdp), {
      lost: () => this.#tell('link', { up: false }),
      back: () => this.#tell('link', { up: true }),
      gone: (error) => this.#fail(error),
    });
    this.#feed = new EventFeed(this.#session, (e) => this.#receive(e), () => this.#deaf(attempt));
    this.#timers.stats = setInterval(() => this.#measure(attempt), 1000);
    this.#timers.media = setTimeout(() => this.#fail(new Trouble('no_media')), MEDIA_LIMIT);
  }

  #sink(attempt) {
    const alive = (f) => (value) => { if (!attempt.over) f(value); };
    return {
      candidate: alive((c) => this.#candidate(c)),
      gathered: alive((count) => { if (count === 0) this.#fail(new Trouble('no_candidates')); }),
      state: alive((state) => this.#linked(state)),
      stream: alive((stream) => this.#hear(stream)),
    };
  }

  #linked(state) {
    if (state === 'connected') {
      clearTimeout(this.#timers.media);
      if (this.#state === 'connecting') this.#set('up');
    } else if (state === 'failed' && !this.#upSince) {
      this.#fail(new Trouble('no_media'));
      return;
    }
    if (this.#upSince) this.#recovery?.watch(state);
  }

  #candidate({ candidate, sdpMid, sdpMLineIndex }) {
    this.#candidates.push({ candidate, sdpMid, sdpMLineIndex });
    if (!this.#timers.batch) this.#timers.batch = setTimeout(() => this.#sendCandidates(), BATCH);
  }

  async #sendCandidates() {
    clearTimeout(this.#timers.batch);
    this.#timers.batch = 0;
    if (!this.#session || !this.#candidates.length) return;
    // Without them the bridge sees from where we come; they are a help, no more.
    await api.candidates(this.#session, this.#candidates.splice(0)).catch(() => {});
  }

  /** Takes a microphone for the call. */
  #listen(microphone) {
    this.#microphone = microphone;
    const [track] = microphone.getAudioTracks();
    track.enabled = !this.#muted;
    track.onended = () => { if (this.#microphone === microphone) this.setMicrophone('').catch(() => {}); };
    this.#meters.local?.close();
    this.#meters.local = this.#sound.meter(microphone);
    this.#tell('stream', { microphone, remote: this.#audio.srcObject });
  }

  #hear(stream) {
    this.#audio.srcObject = stream;
    this.#meters.remote?.close();
    this.#meters.remote = this.#sound.meter(stream);
    this.#tell('stream', { microphone: this.#microphone, remote: stream });
    this.play();
  }

  /** Lets the agent be heard; to be called by a click where the browser held it back. */
  play() {
    this.#sound.wake();
    this.#audio.play().catch((error) => {
      if (error.name === 'NotAllowedError') this.#tell('trouble', { error: new Trouble('sound'), fatal: false });
    });
  }

  #receive(event) {
    this.#events.push(event);
    if (this.#events.length > KEPT) this.#events.shift();
    this.#tell('event', event);
    if (event.kind === 'stats') this.#quality?.bridge(event.data);
    if (event.kind === 'state') this.#served(event.data);
  }

  #served({ state, why = '', class: cause = '' }) {
    if (state === 'ended') this.#end('ended', { why, class: cause });
    else if (SERVED.has(state) && this.#state !== 'ending') this.#set(state, { why, class: cause });
  }

  /** Nothing comes from the bridge any longer; as long as there is sound, the call goes on. */
  #deaf(attempt) {
    if (attempt.over) return;
    if (this.#state === 'ending') this.#end('ended');
    else if (this.connection?.connectionState !== 'connected') this.#fail(new Trouble('gone'));
    else this.#tell('trouble', { error: new Trouble('network'), fatal: false });
  }

  async #measure(attempt) {
    const report = await this.connection?.getStats().catch(() => null);
    if (!report || attempt.over) return;
    this.#quality.browser(report);
    this.#tell('quality', this.#quality.now());
  }

  /**
   * Hangs up.
   * @param {string} [why]
   */
  hangup(why = 'the caller hung up') {
    if (!this.busy || this.#state === 'ending') return;
    this.#microphone?.getTracks().forEach((t) => t.stop());
    this.#audio.pause();
    if (!this.#session) {
      this.#end('ended', { why });
      return;
    }
    this.#set('ending');
    api.hangup(this.#session, why).catch(() => this.#end('ended', { why }));
    this.#timers.parting = setTimeout(() => this.#end('ended', { why }), PARTING);
  }

  /** The page goes away. */
  #leave() {
    if (!this.busy) return;
    if (this.#session) api.farewell(this.#session, 'the caller left the page');
    this.#end('ended', { why: 'the caller left the page' });
  }

  #fail(error) {
    if (!this.busy) return;
    if (this.#session) api.farewell(this.#session, `the browser gave up: ${error.code ?? error.name}`);
    this.#tell('trouble', { error, fatal: true });
    this.#end('failed', { why: error.message, class: error.code ?? '' });
  }

  #end(state, detail = {}) {
    if (!this.busy) return;
    this.#attempt.over = true;
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    this.#timers = { media: 0, stats: 0, batch: 0, parting: 0 };
    this.#feed?.close();
    this.#recovery?.close();
    this.#peer?.close();
    this.#microphone?.getTracks().forEach((t) => { t.onended = null; t.stop(); });
    this.#meters.local?.close();
    this.#meters.remote?.close();
    this.#audio.srcObject = null;
    this.#wake.release();
    this.#feed = this.#recovery = this.#peer = this.#microphone = null;
    this.#meters = { local: null, remote: null };
    this.#session = '';
    this.#candidates = [];
    if (globalThis[HOLDER] === this) delete globalThis[HOLDER];
    this.#set(state, detail);
  }

  /** @param {boolean} muted */
  setMuted(muted) {
    this.#muted = muted;
    this.#microphone?.getAudioTracks().forEach((t) => { t.enabled = !muted; });
    this.#tell('mute', { muted });
  }

  /**
   * Speaks through another microphone from now on.
   * @param {string} device its id; empty: the system's choice
   */
  async setMicrophone(device) {
    const attempt = this.#attempt;
    if (!this.#peer || !attempt || attempt.over) return;
    try {
      const fresh = await openMicrophone(device);
      if (attempt.over || !this.#peer) return void fresh.getTracks().forEach((t) => t.stop());
      const old = this.#microphone;
      await this.#peer.replace(fresh.getAudioTracks()[0]);
      this.#listen(fresh);
      old?.getTracks().forEach((t) => { t.onended = null; t.stop(); });
    } catch (error) {
      if (!attempt.over) this.#tell('trouble', { error, fatal: false });
    }
  }

  /** @param {number} volume of the agent, 0 to 1 */
  setVolume(volume) {
    this.#audio.volume = volume;
    this.#sound.volume = volume;
  }

  /** @param {string} device the output's id; empty: the system's choice */
  async setSpeaker(device) {
    await this.#audio.setSinkId?.(device);
    await this.#sound.speaker(device);
  }

  /**
   * Presses keys: each sounds here and is sent.
   * @param {string} keys of 0 to 9, A to D, * and #; others are left out
   */
  press(keys) {
    const good = [...keys.toUpperCase()].filter(isKey).join('');
    if (!good) return;
    this.#sound.tone(good[0]);
    if (!this.served || this.#peer?.dial(good)) return;
    api.keys(this.#session, good).catch((error) => this.#tell('trouble', { error, fatal: false }));
  }

  /**
   * Says by writing.
   * @param {string} text
   * @returns {Promise<boolean>} whether the bridge took it
   */
  async say(text) {
    if (!this.served || !text.trim()) return false;
    try {
      await api.text(this.#session, text.trim());
      return true;
    } catch (error) {
      this.#tell('trouble', { error, fatal: false });
      return false;
    }
  }

  #set(state, detail = {}) {
    if (state === this.#state && !detail.why) return;
    if (SERVED.has(state) && !this.#upSince) this.#upSince = performance.now();
    this.#state = state;
    this.#tell('state', { state, why: '', class: '', ...detail });
  }

  #tell(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }
}
