// What can go wrong with a call, in words that say what to do.

/** A reason why there is no call, or no longer one. */
export class Trouble extends Error {
  /**
   * @param {string} code a key of the words below
   * @param {{detail?: string, retry?: number}} [more] detail as somebody else wrote it; retry in seconds
   */
  constructor(code, { detail = '', retry = 0 } = {}) {
    super(detail || code);
    this.name = 'Trouble';
    this.code = code;
    this.detail = detail;
    this.retry = retry;
  }
}

// Each: what it is, what the caller can do, and what the operator can.
const WORDS = {
  insecure: ['This page is not secure', 'Browsers give the microphone to https pages only. Open the page with https:// at the front of its address.', 'Set http.https in the bridge’s configuration, or open the page on the bridge’s own machine as http://localhost.'],
  unsupported: ['This browser cannot make calls', 'Use a current Chrome, Edge, Firefox or Safari.', ''],
  mic_refused: ['The microphone is not allowed', 'Allow it for this page: press the symbol beside the address, set Microphone to Allow, and call again. If nothing is asked, the system’s privacy settings keep it from the browser.', ''],
  mic_policy: ['The microphone is not allowed here', 'This site does not let its pages use the microphone.', 'The site’s Permissions-Policy header, or the allow attribute of the frame, has to name the microphone.'],
  mic_missing: ['No microphone was found', 'Plug in a headset or a microphone, and call again.', ''],
  mic_busy: ['The microphone does not open', 'Another program or page may be using it. Close that, or choose another microphone, and call again.', ''],
  no_candidates: ['The browser found no network to call over', 'Connect to a network. A VPN or an extension that stops WebRTC has to be turned off for this page.', ''],
  no_media: ['Sound does not get through', 'A firewall keeps it away. Try another network, such as a phone’s.', 'Open the port of rtc.listen for UDP and TCP, check the public address, or name a TURN server in rtc.ice_servers.'],
  lost: ['The connection was lost', 'The network did not come back in time. Check it, and call again.', ''],
  network: ['The line cannot be reached', 'Check the network, and try again.', 'Check that the bridge runs. A button needs the bridge in the site’s Content-Security-Policy, and the site in the agent’s web.origins.'],
  timeout: ['There is no answer', 'Call again in a moment.', 'The bridge did not answer in time. It may be overloaded.'],
  unreachable: ['The agent cannot be reached', 'Call again in a moment.', 'Voiceflow did not answer the bridge. Check the agent’s API key and environment.'],
  full: ['All lines are busy', 'Call again in a moment.', ''],
  draining: ['The line is about to restart', 'Call again in a minute.', ''],
  limit: ['Too many calls from here', 'Wait a little before the next one.', ''],
  no_agent: ['There is no such agent', 'Choose another one.', 'The names are those of agents in the bridge’s configuration.'],
  token: ['The permission for this call has expired', 'It holds for one call and one minute. Call again.', ''],
  origin: ['This site may not call the agent', 'Tell whoever runs the site.', 'Add the site’s address to the agent’s web.origins.'],
  signin: ['Sign-in is needed', 'Sign in with the bridge’s token, and call again.', ''],
  bad_offer: ['The browser and the bridge do not understand each other', 'Use a current Chrome, Edge, Firefox or Safari.', 'The browser has to offer G.711.'],
  bad_request: ['The bridge did not understand the request', 'Reload the page: it may be older than the bridge.', ''],
  gone: ['The call is no longer known', 'It has ended at the other side. Call again.', ''],
  in_call: ['There is a call already', 'Hang up the other one first: one call at a time.', ''],
  token_site: ['The site gave no permission for the call', 'Reload the page, sign in if the site asks for it, and call again.', 'The address in data-token-url has to answer with {"token": "…"}.'],
  sound: ['The browser does not play sound yet', 'Press Turn on sound.', ''],
  server: ['That did not work', 'Call again in a moment.', 'The bridge’s log says why.'],
};

const BY_STATUS = { 401: 'signin', 403: 'origin', 404: 'gone', 429: 'limit', 503: 'full' };

function again(seconds) {
  return ` Try again in ${seconds >= 120 ? `${Math.ceil(seconds / 60)} minutes` : `${Math.ceil(seconds)} s`}.`;
}

/**
 * Says what is wrong and what to do about it.
 * @param {{code?: string, message?: string, detail?: string, retry?: number}} error a Trouble, an ApiError or any other
 * @param {string} [https] the bridge's https address
 * @returns {{code: string, title: string, text: string, operator: string, detail: string, link: string}} plain text: text for the caller, operator for who runs the bridge, detail as somebody else wrote it; link is empty or begins with https://
 */
export function explain(error, https = '') {
  const code = [error?.code, BY_STATUS[error?.status]].find((c) => c && Object.hasOwn(WORDS, c)) ?? 'server';
  const [title, words, operator] = WORDS[code];
  const detail = error?.detail ?? (error?.message && error.message !== code ? error.message : '');
  const link = code === 'insecure' && /^https:\/\//i.test(https) ? https : '';
  if (link) return { code, title, text: 'Browsers give the microphone to https pages only. Open this address instead:', operator: '', detail, link };
  return { code, title, text: words + (error?.retry > 0 ? again(error.retry) : ''), operator, detail, link };
}
