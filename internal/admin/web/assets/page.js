// The page of the bridge's phone: it brings the parts together.

import * as api from './api.js';
import { clock } from './dom.js';
import { flash, keypad, typedKey } from './keypad.js';
import { openMicrophone } from './microphone.js';
import { Phone } from './phone.js';
import { probe } from './probe.js';
import { Sound } from './sound.js';
import { explain, Trouble } from './trouble.js';
import { announcer, Conversation } from './page/conversation.js';
import { Levels, showQuality } from './page/meters.js';
import { Setup } from './page/setup.js';
import { keepSwitch, recall, remember } from './page/store.js';
import { Timeline } from './page/timeline.js';
import { Waiting } from './page/waiting.js';

const $ = (id) => document.getElementById(id);
const root = document.documentElement;

const STATES = {
  idle: 'Ready to call', connecting: 'Connecting…', up: 'In call', held: 'On hold', transferring: 'Transferring…',
  bridged: 'Connected to somebody else', ending: 'Hanging up…', ended: 'Call ended', failed: 'No call',
};
const CHECK_LIMIT = 60000; // milliseconds after which a forgotten check of the microphone ends

const sound = new Sound();
const phone = new Phone(sound);
const setup = new Setup(phone);
const timeline = new Timeline();
const waiting = new Waiting((text) => phone.say(text), timeline);
let settings = { agents: [], ice_servers: [], https: '' };
let check = null; // {stream, meter, timer} while the microphone is checked
let linked = true;

const announce = announcer($('live'));
const conversation = new Conversation($('log'), $('scroll'), {
  said: (who, text) => { if ($('announce').checked) announce(`${who}: ${text}`); },
  behind: (behind) => { $('newest').hidden = !behind || conversation.empty; },
});
const levels = new Levels($('level-local'), $('level-remote'), () => {
  if (phone.busy) return phone.levels();
  return check ? { local: check.meter.level(), remote: -100 } : null;
});
const pad = keypad(press);

Object.defineProperty(window, 'ivrbridge', { value: probe(() => phone), writable: false, configurable: false });

function showTrouble(error) {
  const { code, title, text, operator, detail, link } = explain(error, settings.https);
  root.dataset.error = code;
  $('trouble-title').textContent = title;
  $('trouble-text').textContent = [text, operator].filter(Boolean).join(' ');
  $('trouble-detail').textContent = detail ? `In detail: ${detail}` : '';
  $('trouble-link').hidden = !link;
  if (link) {
    $('trouble-link').href = link;
    $('trouble-link').textContent = link;
  }
  $('trouble-sound').hidden = code !== 'sound';
  $('trouble-retry').hidden = settings.agents.length > 0 || !['network', 'timeout', 'server'].includes(code);
  $('trouble').hidden = false;
  if (code === 'signin') showSignIn();
}

function hideTrouble() {
  $('trouble').hidden = true;
  delete root.dataset.error;
}

function showSignIn() {
  $('signin').hidden = false;
  $('desk').hidden = true;
  $('sign-out').hidden = true;
  $('signin-token').focus();
}

/** Learns who can be called, or that one has to sign in first. */
async function load() {
  hideTrouble();
  try {
    if (!isSecureContext || !navigator.mediaDevices) return await insecure();
    const session = await api.session();
    if (session?.needed && !session.signed_in) return showSignIn();
    settings = { agents: [], ice_servers: [], https: '', ...(await api.config()) };
    $('sign-out').hidden = !session?.needed;
    $('signin').hidden = true;
    $('desk').hidden = false;
    setup.show(settings.agents);
    showState({ state: phone.state });
    if (!settings.agents.length) showTrouble(new Trouble('no_agent', { detail: 'no agent is configured' }));
    await setup.devices();
  } catch (error) {
    showTrouble(error);
  }
  return undefined;
}

/** Without https there is no microphone, and no token is sent: the page only says where to go. */
async function insecure() {
  settings.https = await api.config().then((c) => c.https, (e) => e.https ?? '');
  showTrouble(new Trouble(isSecureContext ? 'unsupported' : 'insecure'));
  showState({ state: phone.state });
}

async function signIn(event) {
  event.preventDefault();
  $('signin-submit').disabled = true;
  $('signin-error').textContent = '';
  try {
    await api.signIn($('signin-token').value);
    $('signin-token').value = '';
    await load();
    $('call').focus();
  } catch (error) {
    const { text } = explain(error);
    $('signin-error').textContent = error.status === 401 ? 'This is not the token. Look it up as http.token in the configuration.' : error.status ? `Not signed in: ${error.message}.` : text;
    $('signin-token').select();
  } finally {
    $('signin-submit').disabled = false;
  }
}

async function signOut() {
  phone.hangup('the caller signed out');
  await api.signOut().catch(() => {});
  await load();
}

async function placeCall() {
  if (phone.busy) return;
  const wish = setup.wish();
  if (!wish.variables) {
    $('more').open = true;
    $('variables').focus();
    return;
  }
  hideTrouble();
  sound.wake();
  timeline.reset();
  conversation.clear();
  showQuality(null);
  $('pressed').textContent = '';
  const stream = check?.stream;
  endCheck(false);
  linked = true;
  await phone.call({ ...wish, stream, iceServers: settings.ice_servers });
}

function showState({ state, why = '' }) {
  root.dataset.state = state;
  root.dataset.link = linked ? 'up' : 'lost';
  $('state').textContent = linked || !phone.served ? STATES[state] : 'Connection lost, trying again…';
  $('why').textContent = phone.busy ? setup.title() : state === 'failed' ? '' : why;
  const busy = phone.busy;
  swap($('call'), $('hangup'), busy);
  $('call').disabled = !settings.agents.length;
  $('hangup').disabled = state === 'ending';
  $('mute').disabled = !phone.served;
  for (const id of ['say-text', 'say-send']) $(id).disabled = !['up', 'held'].includes(state);
  $('empty').hidden = !conversation.empty || busy;
  setup.lock(busy);
  waiting.state(state);
}

/** Shows one of two buttons and leaves the focus where it was. */
function swap(first, second, showSecond) {
  const focused = document.activeElement === first || document.activeElement === second;
  first.hidden = showSecond;
  second.hidden = !showSecond;
  if (focused) (showSecond ? second : first).focus();
}

function showTime() {
  if (phone.busy) $('timer').textContent = $('timer-small').textContent = clock(phone.seconds);
}

function showMute(muted) {
  $('mute').setAttribute('aria-pressed', String(muted));
  $('mute').lastChild.data = muted ? 'Muted' : 'Mute';
}

function takeEvent(event) {
  timeline.take(event.data.t);
  conversation.take(event);
  waiting.take(event);
  $('empty').hidden = !conversation.empty || phone.busy;
  $('copy').disabled = conversation.empty;
}

function press(key) {
  phone.press(key);
  flash(pad, key);
  if (phone.served) $('pressed').textContent = ($('pressed').textContent + key).slice(-24);
}

async function toggleCheck() {
  if (check) return endCheck(true);
  sound.wake();
  try {
    const stream = await openMicrophone($('microphone').value);
    hideTrouble();
    check = { stream, meter: sound.meter(stream), timer: setTimeout(() => endCheck(true), CHECK_LIMIT) };
    $('check').setAttribute('aria-pressed', 'true');
    $('check').textContent = 'Stop';
    levels.start();
    await setup.devices();
  } catch (error) {
    showTrouble(error);
  }
  return undefined;
}

function endCheck(stop) {
  if (!check) return;
  clearTimeout(check.timer);
  check.meter.close();
  if (stop) check.stream.getTracks().forEach((t) => t.stop());
  check = null;
  $('check').setAttribute('aria-pressed', 'false');
  $('check').textContent = 'Check';
}

async function changeMicrophone() {
  const device = $('microphone').value;
  if (phone.busy) await phone.setMicrophone(device);
  else if (check) {
    endCheck(true);
    await toggleCheck();
  }
}

async function copy() {
  const text = conversation.text({ traces: $('show-traces').checked });
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyOldWay(text);
  }
  $('copied').textContent = 'The transcript was copied.';
  $('copy').textContent = 'Copied';
  setTimeout(() => { $('copy').textContent = 'Copy'; $('copied').textContent = ''; }, 2000);
}

function copyOldWay(text) {
  const field = document.createElement('textarea');
  field.value = text;
  field.className = 'sr';
  document.body.append(field);
  field.select();
  document.execCommand('copy');
  field.remove();
  $('copy').focus();
}

async function say(event) {
  event.preventDefault();
  const field = $('say-text');
  if (await phone.say(field.value)) field.value = '';
  field.focus();
}

function chooseTheme() {
  const theme = $('theme').value;
  remember('theme', theme);
  if (theme === 'auto') delete root.dataset.theme;
  else root.dataset.theme = theme;
}

function togglePad() {
  const open = root.dataset.pad !== 'open';
  root.dataset.pad = open ? 'open' : 'shut';
  $('pad-toggle').setAttribute('aria-expanded', String(open));
}

function typed(event) {
  const key = $('typing').checked ? typedKey(event) : '';
  if (!key || !phone.busy) return;
  event.preventDefault();
  press(key);
}

function followPhone() {
  phone.addEventListener('state', (e) => {
    showState(e.detail);
    if (e.detail.state === 'connecting') levels.start();
  });
  phone.addEventListener('event', (e) => takeEvent(e.detail));
  phone.addEventListener('quality', (e) => showQuality(e.detail));
  phone.addEventListener('trouble', (e) => showTrouble(e.detail.error));
  phone.addEventListener('mute', (e) => showMute(e.detail.muted));
  phone.addEventListener('stream', () => { setup.devices(); });
  phone.addEventListener('link', (e) => {
    linked = e.detail.up;
    showState({ state: phone.state });
  });
  phone.addEventListener('state', () => showMute(phone.muted));
  setInterval(showTime, 250);
}

function followPage() {
  $('call').addEventListener('click', placeCall);
  $('hangup').addEventListener('click', () => phone.hangup());
  $('mute').addEventListener('click', () => phone.setMuted(!phone.muted));
  $('pad-toggle').addEventListener('click', togglePad);
  $('check').addEventListener('click', toggleCheck);
  $('microphone').addEventListener('change', changeMicrophone);
  $('copy').addEventListener('click', copy);
  $('newest').addEventListener('click', () => conversation.toEnd(true));
  $('say').addEventListener('submit', say);
  $('signin-form').addEventListener('submit', signIn);
  $('sign-out').addEventListener('click', signOut);
  $('trouble-close').addEventListener('click', hideTrouble);
  $('trouble-retry').addEventListener('click', load);
  $('trouble-sound').addEventListener('click', () => { hideTrouble(); phone.play(); });
  $('theme').addEventListener('change', chooseTheme);
  addEventListener('keydown', typed);
}

function start() {
  $('pad').append(pad);
  $('theme').value = recall('theme', 'auto');
  keepSwitch($('show-traces'), (on) => { $('log').dataset.traces = on ? 'on' : 'off'; conversation.toEnd(false); });
  keepSwitch($('show-timings'), (on) => { $('log').dataset.timings = on ? 'on' : 'off'; conversation.toEnd(false); });
  keepSwitch($('announce'), () => {});
  keepSwitch($('typing'), () => {});
  followPhone();
  followPage();
  load();
}

start();
