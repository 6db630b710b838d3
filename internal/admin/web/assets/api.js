// The bridge's HTTP API of browser calls, beside which these modules are served.

const base = new URL('..', import.meta.url);

/** What kept an answer away: the bridge's refusal, or the way to it. */
export class ApiError extends Error {
  /**
   * @param {string} message one sentence, as the bridge wrote it
   * @param {{status?: number, code?: string, retry?: number, https?: string}} [more] code as in the API, or network, timeout, server; retry in seconds; https is the bridge's secure address
   */
  constructor(message, { status = 0, code = 'server', retry = 0, https = '' } = {}) {
    super(message);
    this.name = 'ApiError';
    this.status = status;
    this.code = code;
    this.retry = retry;
    this.https = https;
  }
}

async function refusal(response) {
  let body = {};
  try {
    body = await response.json();
  } catch {
    // A proxy's page: the status says enough.
  }
  const code = typeof body?.code === 'string' ? body.code : '';
  const message = typeof body?.error === 'string' ? body.error : `the bridge answered ${response.status}`;
  const https = typeof body?.https === 'string' ? body.https : '';
  return new ApiError(message, { status: response.status, code, https, retry: seconds(response.headers.get('Retry-After')) });
}

function seconds(header) {
  if (!header) return 0;
  const n = Number(header);
  if (Number.isFinite(n)) return Math.max(0, n);
  const at = Date.parse(header);
  return Number.isNaN(at) ? 0 : Math.max(0, Math.ceil((at - Date.now()) / 1000));
}

/**
 * Asks for JSON.
 * @param {string|URL} url
 * @param {RequestInit & {limit?: number}} [options] limit in milliseconds, 15 s by default
 * @returns {Promise<any>} what the answer holds; null without a body
 * @throws {ApiError}
 */
export async function request(url, { limit = 15000, ...options } = {}) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), limit);
  try {
    const response = await fetch(url, { cache: 'no-store', ...options, signal: abort.signal });
    if (!response.ok) throw await refusal(response);
    const text = await response.text();
    return text ? JSON.parse(text) : null;
  } catch (error) {
    if (error instanceof ApiError) throw error;
    if (abort.signal.aborted) throw new ApiError('no answer in time', { code: 'timeout' });
    if (error instanceof SyntaxError) throw new ApiError('the answer is not JSON', { code: 'server' });
    throw new ApiError('no connection', { code: 'network' });
  } finally {
    clearTimeout(timer);
  }
}

function address(path) {
  return new URL(`api/v1/${path}`, base);
}

function send(method, path, body, options) {
  const headers = body === undefined ? {} : { 'Content-Type': 'application/json' };
  return request(address(path), { method, headers, body: body === undefined ? undefined : JSON.stringify(body), ...options });
}

const post = (path, body, options) => send('POST', path, body, options);
const call = (session, what) => `rtc/${encodeURIComponent(session)}/${what}`;

/** @returns {Promise<{needed: boolean, signed_in: boolean}>} whether this browser has to sign in */
export const session = () => send('GET', 'session');

/** @param {string} token the bridge's http.token */
export const signIn = (token) => post('session', { token });

/** Ends the browser's session. */
export const signOut = () => send('DELETE', 'session');

/** @returns {Promise<{agents: object[], ice_servers: object[], https: string}>} who can be called, and how */
export const config = () => send('GET', 'rtc/config');

/** @param {string} agent @returns {Promise<{token: string, expires: string}>} a token for one call from this site */
export const token = (agent) => post('rtc/token', { agent });

/**
 * Begins a call.
 * @param {{sdp: string, agent: string, language?: string, variables?: object, token?: string}} wish
 * @returns {Promise<{id: string, session: string, sdp: string, agent: string, language: string}>}
 */
export const create = (wish) => post('rtc', wish, { limit: 30000 });

/** Sends a later offer. @param {string} key @param {string} sdp @returns {Promise<{sdp: string}>} */
export const offer = (key, sdp) => post(call(key, 'offer'), { sdp });

/** Tells ways to reach this browser. @param {string} key @param {RTCIceCandidateInit[]} candidates */
export const candidates = (key, candidates) => post(call(key, 'candidates'), { candidates });

/** Sends keys. @param {string} key @param {string} keys of 0 to 9, A to D, * and # */
export const keys = (key, keys) => post(call(key, 'keys'), { keys });

/** Sends what the caller typed instead of saying it. @param {string} key @param {string} text */
export const text = (key, text) => post(call(key, 'text'), { text });

/** Hangs up. @param {string} key @param {string} why */
export const hangup = (key, why) => post(call(key, 'hangup'), { why });

/**
 * Hangs up while the page goes away.
 * @param {string} key
 * @param {string} why
 */
export function farewell(key, why) {
  const url = address(call(key, 'hangup'));
  const body = JSON.stringify({ why });
  if (navigator.sendBeacon?.(url, body)) return;
  fetch(url, { method: 'POST', body, keepalive: true }).catch(() => {});
}

/** @param {string} key @returns {string} the address of a call's events */
export const eventsAddress = (key) => address(call(key, 'events')).href;
