// What the flows share: a browser that notices every error, a line of talk with the test that started
// this, pictures, and axe.
//
// The test writes one line of JSON first: what this flow needs. After that this side asks, a line each, and
// gets a line back. Whatever goes wrong ends the process with 1 and the reason on standard error.

const fs = require('fs');
const path = require('path');
const readline = require('readline');
const { chromium } = require('playwright-core');
const axeSource = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-default-apps', '--no-default-browser-check',
];
/** Longest wait for anything that must come: several browsers start at once on two cores. */
const PATIENCE_MS = 45000;
/** For a page that is asked what it shows after something went wrong. */
const STATE_MS = 5000;

const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function heard() {
  const { value, done } = await lines.next();
  if (done) throw new Error('the test has gone');
  return JSON.parse(value);
}

/** Has the test do something and returns its answer. */
async function ask(what, parameters = {}) {
  process.stdout.write(`${JSON.stringify({ do: what, ...parameters })}\n`);
  const answer = await heard();
  if (answer.error) throw new Error(`${what}: ${answer.error}`);
  return answer;
}

function assert(holds, message) {
  if (!holds) throw new Error(message);
}

class Browser {
  constructor(browser, wanted) {
    this.browser = browser;
    this.wanted = wanted;
    this.base = wanted.base;
    this.problems = [];
    this.failed = [];
    this.pages = [];
    this.pending = new Map();
    this.expected = [];
    this.axed = 0;
  }

  /** A new visitor: no cookie, no storage. */
  async visitor({ width = 1280, height = 860, dark = false, touch = false, reduced = true } = {}) {
    const context = await this.browser.newContext({
      viewport: { width, height },
      colorScheme: dark ? 'dark' : 'light',
      hasTouch: touch,
      reducedMotion: reduced ? 'reduce' : 'no-preference',
      timezoneId: 'Asia/Seoul',
      locale: 'en-GB',
    });
    await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: this.base });
    context.setDefaultTimeout(PATIENCE_MS);
    const page = await context.newPage();
    await page.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (event) => {
        console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
      });
    });
    this.pages.push(page);
    page.on('requestfailed', (request) => {
      this.pending.delete(request);
      this.failed.push(`${request.url()}: ${request.failure()?.errorText}`);
    });
    page.on('requestfinished', (request) => this.pending.delete(request));
    page.on('pageerror', (error) => this.problems.push(`page error: ${error.stack}`));
    page.on('console', (message) => {
      if (!['error', 'warning'].includes(message.type())) return;
      const text = `${message.text()} ${message.location().url}`;
      if (!this.expected.some((pattern) => pattern.test(text))) this.problems.push(`console: ${text}`);
    });
    page.on('request', (request) => {
      this.pending.set(request, Date.now());
      const url = new URL(request.url());
      if (url.origin !== new URL(this.base).origin) this.problems.push(`request to another host: ${url}`);
      if (/token=|code=|dsk_|whsec_|act_/.test(url.href)) this.problems.push(`secret in an address: ${url}`);
    });
    return page;
  }

  /** Refusals that belong to the flow: a browser writes each of them to its console. */
  expect(...patterns) {
    this.expected.push(...patterns);
  }

  /** Signs in by a link, as the administrator or an account. */
  async enter(page, account) {
    const { path: link } = await ask('link', account ? { account } : {});
    await page.goto(this.base + link);
    await page.getByRole('heading', { level: 1, name: 'Overview' }).waitFor();
    assert(!page.url().includes('code'), `the code stays in the address: ${page.url()}`);
  }

  /** By the navigation, as a person would. */
  async open(page, name) {
    await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name, exact: true }).click();
    await page.getByRole('heading', { level: 1, name }).waitFor();
  }

  /** From now on the answer to such a request comes so much later than the service has done it. */
  async late(page, method, pattern, ms) {
    await page.route(pattern, async (route) => {
      if (route.request().method() !== method) return route.fallback();
      const response = await route.fetch();
      await new Promise((resolve) => { setTimeout(resolve, ms); });
      return route.fulfill({ response });
    });
  }

  /** No serious or critical finding of axe. */
  async axe(page, where) {
    await page.evaluate(axeSource);
    const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
    const bad = found.violations.filter((one) => ['serious', 'critical'].includes(one.impact));
    const text = bad.map((one) => `${one.id}: ${one.help}\n${one.nodes.slice(0, 4).map((n) => `    ${n.html}\n    ${n.failureSummary.replace(/\n/g, ' ')}`).join('\n')}`);
    assert(!bad.length, `axe, ${where}:\n${text.join('\n')}`);
    this.axed += 1;
  }

  /** Nothing is wider than the window. */
  async fits(page, where) {
    const [wide, window_] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert(wide <= window_, `${where} scrolls sideways: ${wide} of ${window_}`);
  }

  /** A picture, where somebody wants them. */
  async picture(page, name, options = {}) {
    if (!this.wanted.pictures) return;
    await page.screenshot({ path: path.join(this.wanted.pictures, `${name}.png`), ...options });
  }

  /** What a person would see now, what the browser complained of, and which requests have no answer yet. */
  async state() {
    const said = [...this.problems, ...this.failed];
    for (const [request, since] of this.pending) {
      said.push(`no answer after ${Date.now() - since} ms: ${request.method()} ${request.url()}`);
    }
    for (const page of this.pages.filter((one) => !one.isClosed())) {
      const shown = await Promise.race([
        page.evaluate(() => `${document.readyState}: ${document.body ? document.body.innerText : ''}`),
        new Promise((resolve) => { setTimeout(resolve, STATE_MS, 'the page does not say what it shows'); }),
      ]).catch((error) => `${error}`);
      said.push(`at ${page.url().split('#')[0]}: ${shown.slice(0, 600)}`);
    }
    return said.join('\n');
  }

  done() {
    assert(!this.problems.length, this.problems.join('\n'));
  }
}

/** Runs a flow from beginning to end. */
async function run(flow) {
  let browser;
  let mine;
  try {
    const wanted = await heard();
    browser = await chromium.launch({ executablePath: wanted.chromium, headless: true, args: FLAGS });
    mine = new Browser(browser, wanted);
    // Before somebody is signed in, the page asks whether somebody is.
    mine.expect(/401 \(Unauthorized\).*\/v1\/session$/);
    await flow(mine, wanted);
    mine.done();
    process.stdout.write(`${JSON.stringify({ do: 'done', axed: mine.axed })}\n`);
  } catch (error) {
    // What the browser complained of before says more than what did not come.
    process.stderr.write(`${error.stack || error}\n${mine ? await mine.state() : ''}\n`);
    process.exitCode = 1;
  } finally {
    if (browser) await browser.close();
    process.stdin.destroy();
  }
}

module.exports = { run, ask, assert };
