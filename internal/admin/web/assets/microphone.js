// The microphone and the list of sound devices.

import { Trouble } from './trouble.js';

const WISHES = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: { ideal: 1 } };

const REFUSALS = {
  NotAllowedError: 'mic_refused',
  SecurityError: 'mic_refused',
  NotFoundError: 'mic_missing',
  NotReadableError: 'mic_busy',
  AbortError: 'mic_busy',
};

/**
 * Opens a microphone. A device that is no longer there is replaced by the
 * system's choice.
 * @param {string} [device] its id; empty: the system's choice
 * @returns {Promise<MediaStream>} the caller stops its tracks
 * @throws {Trouble}
 */
export async function openMicrophone(device = '') {
  if (!globalThis.isSecureContext) throw new Trouble('insecure');
  if (!navigator.mediaDevices?.getUserMedia || !globalThis.RTCPeerConnection) throw new Trouble('unsupported');
  try {
    return await ask(device);
  } catch (error) {
    if (device && (error.name === 'OverconstrainedError' || error.name === 'NotFoundError')) return openMicrophone('');
    if (error.name === 'NotAllowedError' && forbidden()) throw new Trouble('mic_policy');
    throw new Trouble(REFUSALS[error.name] ?? 'mic_busy', { detail: error.message });
  }
}

function ask(device) {
  const audio = device ? { ...WISHES, deviceId: { exact: device } } : WISHES;
  return navigator.mediaDevices.getUserMedia({ audio, video: false });
}

/** Whether the site's Permissions-Policy, not the user, keeps the microphone away. */
function forbidden() {
  const policy = document.permissionsPolicy ?? document.featurePolicy;
  return policy?.allowsFeature?.('microphone') === false;
}

/**
 * Lists sound devices. Before the microphone was allowed once, they have no names.
 * @returns {Promise<{microphones: {id: string, name: string}[], speakers: {id: string, name: string}[]}>}
 */
export async function soundDevices() {
  const all = (await navigator.mediaDevices?.enumerateDevices?.().catch(() => [])) ?? [];
  const of = (kind) => all
    .filter((d) => d.kind === kind && d.deviceId && d.deviceId !== 'default' && d.deviceId !== 'communications')
    .map((d, i) => ({ id: d.deviceId, name: d.label || `${kind === 'audioinput' ? 'Microphone' : 'Speaker'} ${i + 1}` }));
  return { microphones: of('audioinput'), speakers: of('audiooutput') };
}

/** Whether the output device can be chosen here. @returns {boolean} */
export function choosesSpeaker() {
  return typeof globalThis.HTMLMediaElement?.prototype.setSinkId === 'function';
}
