// What measuring tools may see of a phone.

/**
 * Makes the read-only object by which tests and support measure a call.
 * @param {() => (import('./phone.js').Phone|null)} phone
 * @returns {{peer: () => RTCPeerConnection|null, remoteLevel: () => number, remoteFrequency: () => number, events: {id: string, kind: string, data: object}[], state: string}} levels in dBFS, frequencies in Hz
 */
export function probe(phone) {
  return Object.freeze({
    peer: () => phone()?.connection ?? null,
    localLevel: () => phone()?.levels().local ?? -100,
    remoteLevel: () => phone()?.levels().remote ?? -100,
    remoteFrequency: () => phone()?.remoteFrequency() ?? 0,
    get events() { return phone()?.events ?? []; },
    get state() { return phone()?.state ?? 'idle'; },
  });
}
