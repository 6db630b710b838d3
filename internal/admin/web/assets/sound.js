// What is done with sound in the page: measuring it, and the tones of the keys.

const TONES = {
  1: [697, 1209], 2: [697, 1336], 3: [697, 1477], A: [697, 1633],
  4: [770, 1209], 5: [770, 1336], 6: [770, 1477], B: [770, 1633],
  7: [852, 1209], 8: [852, 1336], 9: [852, 1477], C: [852, 1633],
  '*': [941, 1209], 0: [941, 1336], '#': [941, 1477], D: [941, 1633],
};

const QUIET = -100;

/** Measures a stream: how loud it is and what its strongest frequency is. */
export class Meter {
  #source;
  #level;
  #spectrum;
  #samples;
  #bins;

  /**
   * @param {AudioContext} context
   * @param {MediaStream} stream a remote one has to play on an audio element too, else nothing is heard of it
   */
  constructor(context, stream) {
    this.#source = context.createMediaStreamSource(stream);
    this.#level = new AnalyserNode(context, { fftSize: 1024 });
    this.#spectrum = new AnalyserNode(context, { fftSize: 8192, smoothingTimeConstant: 0.2 });
    this.#source.connect(this.#level);
    this.#source.connect(this.#spectrum);
    this.#samples = new Float32Array(this.#level.fftSize);
    this.#bins = new Float32Array(this.#spectrum.frequencyBinCount);
  }

  /** @returns {number} the level of the last 20 ms in dBFS, -100 for silence */
  level() {
    this.#level.getFloatTimeDomainData(this.#samples);
    let power = 0;
    for (const s of this.#samples) power += s * s;
    const db = 10 * Math.log10(power / this.#samples.length);
    return Number.isFinite(db) ? Math.max(QUIET, db) : QUIET;
  }

  /** @returns {number} the strongest frequency in Hz, 0 in silence */
  frequency() {
    this.#spectrum.getFloatFrequencyData(this.#bins);
    const bins = this.#bins;
    let best = 1;
    for (let i = 2; i < bins.length - 1; i += 1) if (bins[i] > bins[best]) best = i;
    if (!(bins[best] > -90)) return 0;
    // The peak lies between bins: a parabola through three of them finds it.
    const [a, b, c] = [bins[best - 1], bins[best], bins[best + 1]];
    const bend = a - 2 * b + c;
    const shift = bend ? (0.5 * (a - c)) / bend : 0;
    return ((best + (Number.isFinite(shift) ? shift : 0)) * this.#spectrum.context.sampleRate) / this.#spectrum.fftSize;
  }

  /** Ends the measuring. The stream is left alone. */
  close() {
    this.#source.disconnect();
  }
}

/** The document's AudioContext. Wake it in the handler of a click. */
export class Sound {
  #context;

  /** @param {AudioContext} [context] one that a click has made; else the first use makes it */
  constructor(context) {
    this.#context = context;
    this.volume = 1;
  }

  get context() {
    this.#context ??= new AudioContext({ latencyHint: 'interactive' });
    return this.#context;
  }

  /** Lets sound out; browsers allow it in the handler of a click. */
  wake() {
    if (this.context.state !== 'running') this.context.resume().catch(() => {});
  }

  /**
   * Begins to measure a stream.
   * @param {MediaStream} stream
   * @returns {Meter}
   */
  meter(stream) {
    return new Meter(this.context, stream);
  }

  /**
   * Sounds a key.
   * @param {string} key one of 0 to 9, A to D, * and #
   * @param {number} [seconds]
   */
  tone(key, seconds = 0.14) {
    const pair = TONES[key];
    if (!pair || this.volume === 0) return;
    this.wake();
    const start = this.context.currentTime;
    const gain = new GainNode(this.context, { gain: 0 });
    gain.gain.setValueAtTime(0, start);
    gain.gain.linearRampToValueAtTime(0.07 * this.volume, start + 0.005);
    gain.gain.setValueAtTime(0.07 * this.volume, start + seconds - 0.01);
    gain.gain.linearRampToValueAtTime(0, start + seconds);
    gain.connect(this.context.destination);
    for (const frequency of pair) {
      const oscillator = new OscillatorNode(this.context, { frequency });
      oscillator.connect(gain);
      oscillator.start(start);
      oscillator.stop(start + seconds);
      oscillator.onended = () => gain.disconnect();
    }
  }

  /**
   * Sends the keys' tones to an output device, where the browser can.
   * @param {string} id
   */
  async speaker(id) {
    if (typeof this.context.setSinkId === 'function') await this.context.setSinkId(id).catch(() => {});
  }
}

/**
 * Tells whether a text is a key of a telephone.
 * @param {string} key
 * @returns {boolean}
 */
export function isKey(key) {
  return Object.hasOwn(TONES, key);
}
