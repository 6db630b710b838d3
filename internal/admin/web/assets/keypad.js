// The twelve keys of a telephone.

import { el } from './dom.js';

const KEYS = [
  ['1', ''], ['2', 'ABC'], ['3', 'DEF'], ['4', 'GHI'], ['5', 'JKL'], ['6', 'MNO'],
  ['7', 'PQRS'], ['8', 'TUV'], ['9', 'WXYZ'], ['*', ''], ['0', '+'], ['#', ''],
];

const NAMES = { '*': 'star', '#': 'pound' };

/**
 * Makes the keys.
 * @param {(key: string) => void} press
 * @returns {HTMLElement} its buttons have data-key
 */
export function keypad(press) {
  const pad = el('div', { class: 'pad', role: 'group', 'aria-label': 'Key pad' });
  for (const [key, letters] of KEYS) {
    pad.append(el('button', {
      type: 'button', class: 'key', 'data-key': key, 'data-test': `key-${NAMES[key] ?? key}`,
      'aria-label': NAMES[key] ?? key, click: () => press(key),
    }, el('span', { class: 'digit' }, key), el('span', { class: 'letters', 'aria-hidden': 'true' }, letters)));
  }
  return pad;
}

/**
 * Shows a key as pressed for a moment.
 * @param {HTMLElement} pad
 * @param {string} key
 */
export function flash(pad, key) {
  const button = [...pad.children].find((b) => b.dataset.key === key);
  if (!button) return;
  button.classList.add('pressed');
  setTimeout(() => button.classList.remove('pressed'), 150);
}

/**
 * The telephone key that a typed key means.
 * @param {KeyboardEvent} event
 * @returns {string} empty where it means none, or is typed into a field
 */
export function typedKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.defaultPrevented) return '';
  if (!/^[0-9*#]$/.test(event.key)) return '';
  const [target] = event.composedPath();
  const field = target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName));
  return field ? '' : event.key;
}
