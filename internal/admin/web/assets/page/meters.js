// Levels and the quality of the sound.

const FLOOR = -60; // dBFS

/** Draws two levels as long as there is something to measure. */
export class Levels {
  #measure;
  #local;
  #remote;
  #frame = 0;
  #told = 0;

  /**
   * @param {HTMLElement} local
   * @param {HTMLElement} remote
   * @param {() => ({local: number, remote: number}|null)} measure levels in dBFS; null ends the drawing
   */
  constructor(local, remote, measure) {
    this.#local = local;
    this.#remote = remote;
    this.#measure = measure;
  }

  /** Begins to draw, if it has not begun. */
  start() {
    if (!this.#frame) this.#frame = requestAnimationFrame((now) => this.#draw(now));
  }

  #draw(now) {
    const levels = this.#measure();
    this.#frame = levels ? requestAnimationFrame((next) => this.#draw(next)) : 0;
    const tell = now - this.#told > 1000 || !levels;
    if (tell) this.#told = now;
    show(this.#local, levels?.local ?? FLOOR, tell);
    show(this.#remote, levels?.remote ?? FLOOR, tell);
  }
}

function show(meter, level, tell) {
  const db = Math.min(0, Math.max(FLOOR, level));
  meter.firstElementChild.style.setProperty('--level', String((1 - db / FLOOR).toFixed(3)));
  if (!tell) return;
  meter.setAttribute('aria-valuenow', String(Math.round(db)));
  meter.setAttribute('aria-valuetext', db <= FLOOR ? 'silence' : `${Math.round(db)} dB`);
}

const WORDS = { good: 'good', fair: 'fair', poor: 'poor' };

/**
 * Shows the quality of the sound.
 * @param {import('../quality.js').Quality|null} quality null: none is measured
 */
export function showQuality(quality) {
  const put = (id, text) => { document.getElementById(id).textContent = text; };
  const word = document.getElementById('quality');
  word.dataset.word = quality ? quality.word : 'none';
  word.textContent = quality ? WORDS[quality.word] : 'not measured';
  word.title = quality ? `R ${quality.r.toFixed(0)} of 93` : '';
  for (const way of ['heard', 'sent']) {
    const figures = quality?.[way];
    put(`lost-${way}`, figures ? `${figures.lost} (${(figures.loss * 100).toFixed(1)} %)` : '–');
    put(`jitter-${way}`, milliseconds(figures?.jitter));
  }
  put('rtt', milliseconds(quality?.rtt));
}

function milliseconds(value) {
  return Number.isFinite(value) ? `${value < 10 ? value.toFixed(1) : Math.round(value)} ms` : '–';
}
