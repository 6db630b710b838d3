// The call button for any site:
//
//   <script src="https://BRIDGE/button.js" data-agent="pizza" data-label="Call us" async></script>
//
// It loads nothing else and asks for nothing before it is pressed. The guide is
// docs/guides/browser.md.
(() => {
  'use strict';

  const NAME = 'ivrbridge-button';
  const script = document.currentScript;
  if (!script?.src) {
    console.error('ivrbridge: button.js has to be loaded by a <script src> without type="module"');
    return;
  }

  const STYLE = `
    :host { all: initial; display: inline-block; font: 16px/1.4 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
    :host([position="bottom-right"]), :host([position="bottom-left"]) { position: fixed; bottom: calc(20px + var(--place, 0) * 64px); z-index: 2147483000; }
    :host([position="bottom-right"]) { right: 20px; }
    :host([position="bottom-left"]) { left: 20px; }
    :host([hidden]) { display: none; }
    [hidden] { display: none !important; }
    .launch { display: inline-flex; align-items: center; gap: 10px; min-height: 48px; padding: 0 20px 0 16px; border: 0; border-radius: 24px;
      background: var(--color, #12784a); color: var(--ink, #fff); font: inherit; font-weight: 600; cursor: pointer; box-shadow: 0 2px 10px rgb(0 0 0 / 22%); }
    .launch:hover { filter: brightness(1.07); }
    .launch:focus-visible { outline: 3px solid var(--color, #12784a); outline-offset: 3px; }
    .launch[aria-disabled="true"] { opacity: .75; cursor: progress; }
    svg { width: 20px; height: 20px; fill: currentColor; flex: none; }
    .failed { max-width: 280px; margin: 0 0 10px; padding: 10px 14px; border-radius: 12px; background: #fff; color: #b32625; border: 1px solid #b32625; font-size: 14px; }
    @media (prefers-reduced-motion: no-preference) { .launch { transition: filter .15s; } }
  `;

  const HANDSET = 'M6.6 3.6 9 3l2 5-2.2 1.5a12 12 0 0 0 5.7 5.7L16 13l5 2-.6 2.4A3.4 3.4 0 0 1 17 20C9.8 20 4 14.2 4 7a3.4 3.4 0 0 1 2.6-3.4Z';

  function handset() {
    const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    svg.setAttribute('viewBox', '0 0 24 24');
    svg.setAttribute('aria-hidden', 'true');
    const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
    path.setAttribute('d', HANDSET);
    svg.append(path);
    return svg;
  }

  /** Black or white, whichever can be read on a colour. */
  function ink(color) {
    const canvas = document.createElement('canvas').getContext('2d');
    if (!canvas) return '#fff';
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((v) => ((v / 255) <= 0.04 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? '#000' : '#fff';
  }

  class IvrbridgeButton extends HTMLElement {
    #settings = null;
    #launch = null;
    #failed = null;
    #panel = null;
    #context = null;
    #busy = false;

    /** Takes what the script element said; once, before it is put into the page. */
    setup(settings) {
      if (this.#settings) return;
      this.#settings = settings;
      this.setAttribute('position', settings.position);
      const root = this.attachShadow({ mode: 'open' });
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(STYLE);
      root.adoptedStyleSheets = [sheet];
      this.#failed = document.createElement('p');
      this.#failed.className = 'failed';
      this.#failed.setAttribute('role', 'alert');
      this.#failed.hidden = true;
      this.#launch = document.createElement('button');
      this.#launch.type = 'button';
      this.#launch.className = 'launch';
      this.#launch.dataset.test = 'launch';
      const label = document.createElement('span');
      label.textContent = settings.label;
      this.#launch.append(handset(), label);
      this.#launch.addEventListener('click', () => this.call());
      root.append(this.#failed, this.#launch);
      if (settings.color && CSS.supports('color', settings.color)) {
        this.style.setProperty('--color', settings.color);
        this.style.setProperty('--ink', ink(settings.color));
      }
    }

    /** The state of the call: idle, connecting, up, held, transferring, bridged, ending, ended or failed. */
    get state() { return this.#panel?.state ?? 'idle'; }

    /** The same as window.ivrbridge of the bridge's own page, for measuring; null before the first call. */
    get probe() { return this.#panel?.probe ?? null; }

    /** Calls; to be used in the handler of a click, or browsers keep the sound back. */
    async call() {
      if (this.#busy) return;
      this.#busy = true;
      this.#failed.hidden = true;
      this.#launch.setAttribute('aria-disabled', 'true');
      try {
        // Made here, because later the click no longer counts.
        if (globalThis.AudioContext) {
          this.#context ??= new AudioContext({ latencyHint: 'interactive' });
          this.#context.resume().catch(() => {});
        }
        this.#panel ??= await this.#load();
        this.#launch.hidden = true;
        await this.#panel.start();
      } catch (error) {
        this.#broken(error);
      } finally {
        this.#busy = false;
        this.#launch.removeAttribute('aria-disabled');
      }
    }

    /** Hangs up, if there is a call. */
    hangup() { this.#panel?.hangup(); }

    async #load() {
      const { Panel } = await import(new URL('assets/panel.js', this.#settings.bridge).href);
      return new Panel(this.shadowRoot, this.#context, this.#settings, {
        state: (detail) => this.#tell(detail),
        close: (focus) => {
          this.#launch.hidden = false;
          if (focus) this.#launch.focus();
        },
      });
    }

    #broken(error) {
      console.error(`ivrbridge: the button could not load from ${this.#settings.bridge}: ${error.message}. A Content-Security-Policy has to allow it in script-src and connect-src.`);
      this.#launch.hidden = false;
      this.#failed.textContent = 'The line cannot be reached. Check the network, and try again.';
      this.#failed.hidden = false;
      this.#tell({ state: 'failed', why: error.message, class: 'network', seconds: 0 });
    }

    #tell(detail) {
      this.dispatchEvent(new CustomEvent('ivrbridge:state', { bubbles: true, composed: true, detail: { agent: this.#settings.agent, ...detail } }));
    }

    disconnectedCallback() {
      // Moved within the page it is back at once; taken out, the call ends.
      queueMicrotask(() => { if (!this.isConnected) this.hangup(); });
    }
  }

  function variables(text) {
    if (!text) return undefined;
    try {
      const value = JSON.parse(text);
      if (value && typeof value === 'object' && !Array.isArray(value)) return value;
    } catch {
      // Told below.
    }
    console.error('ivrbridge: data-variables is not a JSON object; it is left out');
    return undefined;
  }

  function read({ dataset, src }) {
    const position = ['bottom-right', 'bottom-left', 'inline'].includes(dataset.position) ? dataset.position : 'bottom-right';
    return {
      bridge: new URL('.', src).href,
      agent: dataset.agent ?? '',
      label: dataset.label || 'Call us',
      color: dataset.color ?? '',
      language: dataset.language ?? '',
      variables: variables(dataset.variables),
      tokenURL: dataset.tokenUrl ? new URL(dataset.tokenUrl, document.baseURI).href : '',
      position,
    };
  }

  function place(settings) {
    const button = document.createElement(NAME);
    const fixed = settings.position !== 'inline' || script.closest('head') || !script.isConnected;
    if (fixed && settings.position === 'inline') settings.position = 'bottom-right';
    button.setup(settings);
    if (!fixed) {
      script.after(button);
      return;
    }
    button.style.setProperty('--place', String(document.querySelectorAll(`${NAME}[position="${settings.position}"]`).length));
    document.body.append(button);
  }

  if (!customElements.get(NAME)) customElements.define(NAME, IvrbridgeButton);
  const settings = read(script);
  if (document.body) place(settings);
  else document.addEventListener('DOMContentLoaded', () => place(settings), { once: true });
})();
