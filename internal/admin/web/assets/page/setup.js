// What is chosen before a call: agent, language, devices, volume, variables.

import { el } from '../dom.js';
import { choosesSpeaker, soundDevices } from '../microphone.js';
import { recall, remember } from './store.js';

const $ = (id) => document.getElementById(id);

/** The fields of the call. */
export class Setup {
  #agents = [];
  #locked = false;
  #phone;

  /** @param {import('../phone.js').Phone} phone */
  constructor(phone) {
    this.#phone = phone;
    $('agent').addEventListener('change', () => { remember('agent', $('agent').value); this.#languages(); });
    $('language').addEventListener('change', () => remember(`language.${$('agent').value}`, $('language').value));
    $('microphone').addEventListener('change', () => remember('microphone', $('microphone').value));
    this.#output();
    $('variables').value = recall('variables');
    $('more').open = Boolean($('variables').value);
    $('variables').addEventListener('change', () => { remember('variables', $('variables').value); this.variables(); });
    navigator.mediaDevices?.addEventListener?.('devicechange', () => this.devices());
  }

  #output() {
    const volume = $('volume');
    const apply = () => { this.#phone.setVolume(volume.value / 100); volume.setAttribute('aria-valuetext', `${volume.value} %`); };
    volume.value = recall('volume', '100');
    apply();
    volume.addEventListener('input', () => { apply(); remember('volume', volume.value); });
    $('speaker').hidden = $('speaker-label').hidden = !choosesSpeaker();
    $('speaker').addEventListener('change', () => {
      remember('speaker', $('speaker').value);
      this.#phone.setSpeaker($('speaker').value).catch(() => { $('speaker').value = ''; });
    });
  }

  /**
   * Shows who can be called.
   * @param {{name: string, language: string, languages?: string[]}[]} agents
   */
  show(agents) {
    this.#agents = agents;
    const asked = new URLSearchParams(location.search);
    $('agent').replaceChildren(...agents.map((a) => el('option', { value: a.name }, a.name)));
    pick($('agent'), asked.get('agent') ?? recall('agent'));
    this.#languages(asked.get('language'));
  }

  #languages(asked) {
    const agent = this.#agents.find((a) => a.name === $('agent').value);
    const all = [...new Set([agent?.language, ...(agent?.languages ?? [])].filter(Boolean))];
    $('language').replaceChildren(...all.map((tag) => el('option', { value: tag }, languageName(tag))));
    if (!all.length) $('language').append(el('option', { value: '' }, 'As the agent speaks'));
    pick($('language'), asked ?? recall(`language.${agent?.name}`));
  }

  /** Lists the sound devices anew: they have names once the microphone is allowed. */
  async devices() {
    const { microphones, speakers } = await soundDevices();
    fill($('microphone'), microphones, recall('microphone'));
    fill($('speaker'), speakers, recall('speaker'));
    const speaker = $('speaker').value;
    if (speaker) await this.#phone.setSpeaker(speaker).catch(() => {});
  }

  /**
   * Makes room during a call: only devices can be changed then.
   * @param {boolean} locked
   */
  lock(locked) {
    if (locked === this.#locked) return;
    this.#locked = locked;
    $('whom').hidden = $('more').hidden = locked;
    $('devices').open = !locked;
    $('check').disabled = locked;
  }

  /** Whom the call goes to, in words. @returns {string} */
  title() {
    return [$('agent').value, $('language').selectedOptions[0]?.label].filter(Boolean).join(', ');
  }

  /** @returns {{agent: string, language: string, device: string, variables: object|null}} variables is null where they cannot be read */
  wish() {
    return { agent: $('agent').value, language: $('language').value, device: $('microphone').value, variables: this.variables() };
  }

  /** Reads the variables and says what is wrong with them. @returns {object|null} */
  variables() {
    const out = {};
    const lines = $('variables').value.split('\n').map((l) => l.trim()).filter(Boolean);
    const wrong = lines.find((line) => !/^[A-Za-z_]\w*\s*=/.test(line));
    $('variables-error').textContent = wrong ? `“${wrong}” is not name = value.` : '';
    $('variables').setAttribute('aria-invalid', String(Boolean(wrong)));
    if (wrong) return null;
    for (const line of lines) {
      const at = line.indexOf('=');
      out[line.slice(0, at).trim()] = typed(line.slice(at + 1).trim());
    }
    return out;
  }
}

/** Numbers and truths are sent as such; what is quoted, or has leading zeros, stays text. */
function typed(text) {
  if (/^(true|false)$/.test(text)) return text === 'true';
  if (/^-?(0|[1-9]\d{0,14})(\.\d+)?$/.test(text)) return Number(text);
  return text.replace(/^"(.*)"$/, '$1');
}

function pick(select, value) {
  if (value && [...select.options].some((o) => o.value === value)) select.value = value;
}

function fill(select, devices, wanted) {
  const before = select.value || wanted;
  select.replaceChildren(el('option', { value: '' }, 'System default'), ...devices.map((d) => el('option', { value: d.id }, d.name)));
  pick(select, before);
}

/** The name of a language in English, with its tag. */
function languageName(tag) {
  try {
    return `${new Intl.DisplayNames(['en'], { type: 'language' }).of(tag)} (${tag})`;
  } catch {
    return tag;
  }
}
