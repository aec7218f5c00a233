// A customer's way: in by a link, a webhook registered, verified, tested, watched, paused, rotated, out.

const { run, ask, assert } = require('./browser.cjs');

/** More than the five seconds after which a page looks again. */
const LATE_MS = 6000;

async function signIn(browser, wanted) {
  const page = await browser.visitor();
  const { path } = await ask('link', { account: wanted.account });
  await page.goto(browser.base + path);
  await page.getByRole('heading', { level: 1, name: 'Overview' }).waitFor();
  assert(!page.url().includes('code'), `the code stays in the address: ${page.url()}`);
  const stored = await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }) + document.cookie);
  assert(!/code|session|token|csrf/i.test(stored), `something secret can be read by scripts: ${stored}`);
  await page.reload();
  await page.getByRole('heading', { level: 1, name: 'Overview' }).waitFor();

  const second = await browser.visitor();
  browser.expect(/401 \(Unauthorized\)/);
  await second.goto(browser.base + path);
  await second.getByText('This sign-in link has been used or has expired').waitFor();
  await second.getByLabel('Token').fill('act_nonsense');
  await second.getByRole('button', { name: 'Sign in' }).click();
  await second.getByText('This token is not known').waitFor();
  await second.getByLabel('Token').fill(wanted.token);
  await second.getByRole('button', { name: 'Sign in' }).click();
  await second.getByRole('heading', { level: 1, name: 'Overview' }).waitFor();
  assert((await second.getByRole('link', { name: 'Accounts' }).count()) === 0, 'a customer sees Accounts');
  await second.getByRole('button', { name: 'Sign out' }).click();
  await second.getByText('You are signed out.').waitFor();
  await second.reload();
  await second.getByRole('heading', { name: 'Sign in' }).waitFor();
  await second.context().close();
  return page;
}

/** Settings, Webhooks, Add URL: refused, registered, not verified, verified. */
async function register(browser, page, wanted) {
  browser.expect(/400 \(Bad Request\)/);
  await browser.open(page, 'Webhooks');
  await page.getByText('There is no endpoint yet').waitFor();
  await page.getByRole('button', { name: 'Add URL' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('URL').fill('http://example.com/x');
  await dialog.getByRole('button', { name: 'Register and verify' }).click();
  await dialog.getByRole('alert').waitFor();
  assert((await dialog.getByLabel('URL').getAttribute('aria-invalid')) === 'true', 'the field at fault is not marked');
  await dialog.getByLabel('URL').fill(`${wanted.receiver}/hooks/bot`);
  await dialog.getByLabel('Label').fill('Listing bot');
  await dialog.getByRole('button', { name: 'Register and verify' }).click();
  // The receiver checks signatures and does not know the secret: it says so with 401.
  const result = page.getByRole('dialog', { name: 'Registered, not verified yet' });
  await result.getByText('Answered 401: unauthorized').waitFor();
  await result.getByText('deploy the secret, then verify again').waitFor();
  await browser.axe(page, 'the result of a registration');
  await browser.picture(page, 'registered');
  const secret = await result.getByLabel('Signing secret', { exact: true }).innerText();
  assert(secret.startsWith('whsec_'), 'no secret is shown');
  await result.getByRole('button', { name: 'Copy Signing secret' }).click();
  await result.getByText('Copied').waitFor();
  assert((await page.evaluate(() => navigator.clipboard.readText())) === secret, 'another text was copied');
  await ask('know', { secrets: [secret] });
  await result.getByRole('button', { name: /Verify again/ }).click();
  const active = page.getByRole('dialog', { name: 'The endpoint is active' });
  await active.getByText('Verified: the signed ping was answered').waitFor();
  await active.getByRole('link', { name: 'Open the endpoint' }).click();
  await page.getByRole('heading', { level: 1, name: 'Listing bot' }).waitFor();
  assert(!(await page.content()).includes(secret), 'the secret is still in the page');
}

async function test(browser, page) {
  await page.getByRole('button', { name: 'Send test event' }).click();
  const panel = page.getByRole('region', { name: 'Test event' });
  await panel.getByText(/Delivered after/).waitFor();
  await panel.getByText('1 of 50 used today (UTC)').waitFor();
  await ask('delivered', { path: '/hooks/bot', symbol: 'TESTUSDT' });
  const log = page.getByRole('table', { name: 'Deliveries' });
  await log.getByRole('row', { name: /test.*delivered, 200/ }).first().waitFor();
}

/** What is announced shows up by itself, here and in the log. */
async function live(browser, page) {
  await ask('announce', { exchange: 'binance', title: 'Binance Will List Live Coin (LIVE)' });
  const log = page.getByRole('table', { name: 'Deliveries' });
  await log.getByRole('row', { name: /attempt 1.*delivered, 200/ }).first().waitFor();
  await page.getByRole('button', { name: /Resend event/ }).first().click();
  await page.getByText('Queued', { exact: true }).waitFor();
  await browser.open(page, 'Overview');
  await page.getByText('Live', { exact: true }).waitFor();
  await ask('announce', { exchange: 'upbit', title: '[거래] 라이브(NOW) 신규 거래지원 안내 (KRW 마켓)' });
  await page.getByRole('row', { name: /Upbit.*NOW/ }).waitFor();
  await browser.picture(page, 'customer-overview');
}

async function manage(browser, page) {
  await browser.open(page, 'Webhooks');
  await page.getByRole('link', { name: 'Listing bot' }).click();
  await page.getByRole('button', { name: 'Pause' }).click();
  const health = page.getByRole('region', { name: 'Health' });
  await health.getByText('paused').waitFor();
  await page.getByRole('button', { name: 'Resume' }).click();
  await health.getByText('active').waitFor();

  await page.getByRole('button', { name: 'Rotate secret' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Draw a new secret' }).click();
  const rotated = page.getByRole('dialog', { name: 'The new secret' });
  assert((await rotated.getByLabel('New signing secret', { exact: true }).innerText()).startsWith('whsec_'), 'no new secret');
  await rotated.getByRole('button', { name: 'I have kept it' }).click();
  await page.getByText('still signs with its secret before').waitFor();

  await page.getByRole('button', { name: 'Change', exact: true }).click();
  const change = page.getByRole('dialog', { name: 'Change what it gets' });
  await change.getByRole('checkbox', { name: 'Delisting' }).check();
  await change.getByRole('button', { name: 'Save' }).click();
  await health.getByText('Delisting', { exact: true }).waitFor();

  await page.getByRole('button', { name: 'Replay since' }).click();
  const replay = page.getByRole('dialog', { name: 'Replay since' });
  await replay.getByRole('checkbox', { name: 'New listing' }).check();
  await replay.getByRole('button', { name: 'Replay', exact: true }).click();
  await page.getByText('2 events are on their way again.').waitFor();
  await page.getByRole('button', { name: 'Done' }).click();
  await browser.picture(page, 'endpoint');
}

/** A receiver that answers 404 is named for it; the endpoint is removed. */
async function other(browser, page, wanted) {
  await browser.open(page, 'Webhooks');
  await page.getByRole('button', { name: 'Add URL' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('URL').fill(`${wanted.receiver}/status/404`);
  await dialog.getByRole('button', { name: 'Register and verify' }).click();
  const result = page.getByRole('dialog', { name: 'Registered, not verified yet' });
  const secret = await result.getByLabel('Signing secret', { exact: true }).innerText();
  await ask('know', { secrets: [secret], path: '/status/404' });
  await result.getByRole('button', { name: /Verify again/ }).click();
  await result.getByText('Answered 404: client error').waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('link', { name: /status\/404/ }).click();
  await page.getByText('Verify the endpoint first.').waitFor();
  await page.getByRole('button', { name: 'Verify now' }).click();
  await page.getByRole('region', { name: 'Verification' }).getByText('Answered 404: client error').waitFor();
  // Longer than the page waits between two looks: it asks nothing of what is no longer there.
  await browser.late(page, 'DELETE', '**/v1/webhooks/*', LATE_MS);
  await page.getByRole('button', { name: 'Remove' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Remove for ever' }).click();
  await page.getByRole('heading', { level: 1, name: 'Webhooks' }).waitFor();
  await page.getByRole('link', { name: /status\/404/ }).waitFor({ state: 'detached' });
}

/** Warnings, of endpoints as the API would tell of them. */
async function warnings(browser, page) {
  const bad = { id: 90, account: 1, label: 'Slow bot', url: 'https://bot.example.com/x', events: ['*'], exchanges: ['*'], state: 'active',
    since: '2026-01-01T00:00:00Z', failures: 0, slow: true, p95_ms: 6100, pending: 0, connections: 1, created_at: '2026-01-01T00:00:00Z',
    verified_at: '2026-01-01T00:00:00Z', previous_secret_until: null };
  const off = { ...bad, id: 91, label: 'Dead bot', slow: false, p95_ms: null, state: 'disabled_auto', failures: 3 };
  await page.route('**/v1/webhooks', (route) => route.fulfill({ json: { webhooks: [bad, off] } }));
  await browser.open(page, 'Keys');
  await browser.open(page, 'Webhooks');
  await page.getByText('Slow bot is slow: 95 % of its last attempts took up to 6.10 s, above 5 s.').waitFor();
  await page.getByText('Dead bot was switched off after 3 failures in a row.').waitFor();
  await browser.axe(page, 'warnings');
  await browser.picture(page, 'warnings');
  await page.unroute('**/v1/webhooks');
}

run(async (browser, wanted) => {
  const page = await signIn(browser, wanted);
  await register(browser, page, wanted);
  await test(browser, page);
  await live(browser, page);
  await manage(browser, page);
  await other(browser, page, wanted);
  await warnings(browser, page);
  await browser.open(page, 'Deliveries');
  await page.getByRole('table', { name: 'Deliveries' }).getByRole('row', { name: /Listing bot/ }).first().waitFor();
  await browser.picture(page, 'deliveries');
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByText('You are signed out.').waitFor();
  assert((await page.getByText('Listing bot').count()) === 0, 'something is left to be seen');
});
