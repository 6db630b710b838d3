// Building blocks of the document. Nothing here takes markup: every string that
// comes from elsewhere becomes a text node or an attribute's value.

const SVG = 'http://www.w3.org/2000/svg';

const ICONS = {
  phone: 'M6.6 3.6 9 3l2 5-2.2 1.5a12 12 0 0 0 5.7 5.7L16 13l5 2-.6 2.4A3.4 3.4 0 0 1 17 20C9.8 20 4 14.2 4 7a3.4 3.4 0 0 1 2.6-3.4Z',
  hangup: 'M12 9c-3.3 0-6.3.8-8.8 2.4A2.5 2.5 0 0 0 2 13.6v2.2l5 .9 1.2-3.2a12 12 0 0 1 7.6 0l1.2 3.2 5-.9v-2.2c0-.9-.4-1.7-1.2-2.2A16 16 0 0 0 12 9Z',
  mic: 'M12 3a3 3 0 0 1 3 3v5a3 3 0 0 1-6 0V6a3 3 0 0 1 3-3Zm-6 8a6 6 0 0 0 12 0m-6 6v4m-3 0h6',
  muted: 'M9 9v2a3 3 0 0 0 4.7 2.4M15 10V6a3 3 0 0 0-5.8-1M6 11a6 6 0 0 0 9.6 4.8M18 11a6 6 0 0 1-.5 2.4M12 17v4m-3 0h6M4 4l16 16',
  keys: 'M5 5h.01M12 5h.01M19 5h.01M5 11h.01M12 11h.01M19 11h.01M5 17h.01M12 17h.01M19 17h.01M12 22h.01',
  close: 'M6 6l12 12M18 6 6 18',
};

const SOLID = new Set(['phone', 'hangup']);

/**
 * Makes an element. Functions among the attributes become listeners, strings
 * among the children text.
 * @param {string} tag
 * @param {Object<string, string|number|boolean|Function|null|undefined>} [attributes] false, null and undefined are left out
 * @param {...(Node|string|null|undefined)} children
 * @returns {HTMLElement}
 */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === 'function') node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? '' : String(value));
  }
  node.append(...children.filter((child) => child !== undefined && child !== null));
  return node;
}

/**
 * Makes a picture that screen readers pass over.
 * @param {keyof typeof ICONS} name
 * @returns {SVGElement}
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  svg.setAttribute('class', SOLID.has(name) ? 'icon solid' : 'icon');
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}

/**
 * Writes seconds as a clock shows them.
 * @param {number} seconds
 * @returns {string} such as 1:05 or 1:00:05
 */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(Number(seconds) || 0));
  const two = (n) => String(n).padStart(2, '0');
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}:${two(whole % 60)}`;
  return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}

/**
 * Shortens a text to a number of characters.
 * @param {unknown} value
 * @param {number} most
 * @returns {string}
 */
export function cut(value, most) {
  const text = String(value ?? '');
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}
