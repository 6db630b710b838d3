// Drives Chromium for the end-to-end tests: a command on each line of standard
// input, its result on a line of standard output, both JSON. Commands of one
// page run one after the other; the tests decide what to expect.
import { createInterface } from 'node:readline';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';

const folder = await mkdtemp(join(tmpdir(), 'ivrbridge-browser-'));
let context;
let page;
const noise = []; // what the page complains about

const commands = {
  /** Starts the browser. microphone: a WAV file that is heard from getUserMedia on; none: no permission. */
  async launch({ microphone, viewport, colorScheme = 'light', executable = '/usr/bin/chromium' }) {
    const args = [
      '--no-sandbox', '--disable-gpu', '--autoplay-policy=no-user-gesture-required', '--disable-background-networking',
      '--disable-component-update', '--disable-quic', '--no-first-run', '--disable-sync', '--allow-loopback-in-peer-connection',
      '--host-resolver-rules=MAP phone.test 127.0.0.1 , MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost',
      '--use-fake-device-for-media-stream',
    ];
    if (microphone) args.push('--use-fake-ui-for-media-stream', `--use-file-for-fake-audio-capture=${microphone}%noloop`);
    context = await chromium.launchPersistentContext(folder, {
      executablePath: executable, headless: true, args, viewport, colorScheme, ignoreHTTPSErrors: true,
      ...(microphone ? {} : { permissions: [] }),
    });
    page = context.pages()[0] ?? await context.newPage();
    page.on('pageerror', (e) => noise.push(`error: ${e.message}`));
    page.on('console', (m) => { if (m.type() === 'error') noise.push(`console: ${m.text()}`); });
  },
  async open({ url }) { await page.goto(url, { waitUntil: 'load', timeout: 20000 }); },
  async click({ selector, timeout = 10000 }) { await page.click(selector, { timeout }); },
  async fill({ selector, text }) { await page.fill(selector, text, { timeout: 10000 }); },
  async press({ key }) { await page.keyboard.press(key); },
  async select({ selector, value }) { await page.selectOption(selector, value, { timeout: 10000 }); },
  async text({ selector }) { return page.innerText(selector, { timeout: 10000 }); },
  async evaluate({ script }) { return page.evaluate(script); },
  /** Waits until the expression is true in the page and returns its value. */
  async wait({ script, timeout }) {
    // The page's own policy forbids what waitForFunction does.
    for (const end = Date.now() + timeout; ;) {
      const value = await page.evaluate(script);
      if (value) return value;
      if (Date.now() > end) throw new Error('timed out');
      await new Promise((done) => { setTimeout(done, 50); });
    }
  },
  async shot({ file, full = false }) { await page.screenshot({ path: file, fullPage: full }); },
  async scheme({ colorScheme }) { await page.emulateMedia({ colorScheme }); },
  async viewport({ width, height }) { await page.setViewportSize({ width, height }); },
  async close() { await page.close({ runBeforeUnload: true }); },
  /** Ends the page's process with all that it had open. */
  async crash() {
    page.goto('chrome://crash').catch(() => {});
    await new Promise((done) => { page.once('crash', done); });
  },
  async noise() { return noise; },
  /** Bundles a package of node_modules for a page. */
  async bundle({ name, global, file }) {
    await build({ entryPoints: [name], bundle: true, format: 'iife', globalName: global, outfile: file, absWorkingDir: import.meta.dirname ?? process.cwd(), logLevel: 'error' });
  },
};

let last = Promise.resolve();
for await (const line of createInterface({ input: process.stdin })) {
  const { id, command, ...options } = JSON.parse(line);
  last = last.then(async () => {
    const answer = { id };
    try {
      answer.value = (await commands[command](options)) ?? null;
    } catch (e) {
      answer.error = `${command}: ${e.message}`;
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  });
}
await last;
await context?.close().catch(() => {});
await rm(folder, { recursive: true, force: true });
