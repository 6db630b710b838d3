// What the page remembers in this browser. Where storage is closed, nothing is.

const PREFIX = 'ivrbridge.';

/**
 * Reads what was remembered.
 * @param {string} name
 * @param {string} [otherwise]
 * @returns {string}
 */
export function recall(name, otherwise = '') {
  try {
    return localStorage.getItem(PREFIX + name) ?? otherwise;
  } catch {
    return otherwise;
  }
}

/**
 * Remembers.
 * @param {string} name
 * @param {string} value
 */
export function remember(name, value) {
  try {
    localStorage.setItem(PREFIX + name, value);
  } catch {
    // Only the memory is lost.
  }
}

/**
 * Lets a check box keep its state.
 * @param {HTMLInputElement} box its id is the name
 * @param {(on: boolean) => void} apply is called at once and at each change
 */
export function keepSwitch(box, apply) {
  box.checked = recall(box.id, box.checked ? 'on' : 'off') === 'on';
  apply(box.checked);
  box.addEventListener('change', () => {
    remember(box.id, box.checked ? 'on' : 'off');
    apply(box.checked);
  });
}
