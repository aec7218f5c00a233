// The administrator's way: what is live, keys made and revoked, accounts, a break of the connection.

const { run, ask, assert } = require('./browser.cjs');

async function watch(browser, page) {
  await page.getByText('Live', { exact: true }).waitFor();
  await ask('announce', { exchange: 'binance', title: 'Binance Will List Watched Coin (SEEN)' });
  await page.getByRole('row', { name: /Binance.*spot listing.*SEEN/ }).waitFor();
  const stages = page.getByRole('region', { name: 'Stages' });
  await stages.getByText('Classified to sent').waitFor();
  await browser.open(page, 'Sources');
  await page.getByRole('table', { name: 'Sources' }).getByRole('row', { name: /Binance.*live/ }).waitFor();
  await ask('publish');
  await browser.open(page, 'Overview');
  await page.getByRole('row', { name: /Binance.*FOUND/ }).waitFor();
  await browser.open(page, 'Host and clock');
  await page.getByRole('row', { name: /feed-0.*moves/ }).waitFor();
  await page.getByText('Against this browser').waitFor();
}

async function keys(browser, page) {
  browser.expect(/400 \(Bad Request\).*\/admin\/v1\/keys$/);
  await browser.open(page, 'Keys');
  await page.getByRole('button', { name: 'Make a key' }).click();
  const dialog = page.getByRole('dialog', { name: 'Make a key' });
  await dialog.getByLabel('Label').fill('Desk A');
  await dialog.getByLabel('Connections at once').fill('0');
  await dialog.getByRole('button', { name: 'Make key' }).click();
  await dialog.getByRole('alert').waitFor();
  await dialog.getByLabel('Connections at once').fill('3');
  await dialog.getByRole('checkbox', { name: 'Upbit' }).check();
  await dialog.getByRole('button', { name: 'Make key' }).click();
  const made = page.getByRole('dialog', { name: 'The key is made' });
  const key = await made.getByLabel(/^Key \d+$/).innerText();
  assert(/^dsk_[0-9a-f]{64}$/.test(key), `no key: ${key}`);
  await made.getByRole('button', { name: 'I have kept it' }).click();
  assert(!(await page.content()).includes(key), 'the key is still in the page');
  const row = page.getByRole('table', { name: 'Keys' }).getByRole('row', { name: /Desk A/ });
  await row.getByText('active').waitFor();

  await ask('connect', { key });
  await browser.open(page, 'Feed');
  await page.getByRole('region', { name: 'Subscribers' }).getByRole('row', { name: /Desk A/ }).waitFor();

  await browser.open(page, 'Keys');
  await page.getByRole('button', { name: 'Set end of Desk A' }).click();
  await page.getByLabel('New end').selectOption('7');
  await page.getByRole('dialog').getByRole('button', { name: 'Set end' }).click();
  await row.getByText('never').waitFor({ state: 'detached' });
  await page.getByRole('button', { name: 'Revoke Desk A' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Revoke for ever' }).click();
  await row.getByText('revoked').waitFor();
  await ask('closed', { reason: 'key_revoked' });
  await browser.open(page, 'Feed');
  await page.getByRole('region', { name: 'Closes by reason' }).getByText('key revoked').waitFor();
}

async function accounts(browser, page) {
  await browser.open(page, 'Accounts');
  await page.getByRole('button', { name: 'Make an account' }).click();
  await page.getByRole('dialog').getByLabel('Name').fill('North Desk');
  await page.getByRole('dialog').getByRole('button', { name: 'Make account' }).click();
  const made = page.getByRole('dialog', { name: 'The account is made' });
  const token = await made.getByLabel('Token of North Desk', { exact: true }).innerText();
  await made.getByRole('button', { name: 'I have kept it' }).click();
  await page.getByRole('row', { name: /North Desk/ }).waitFor();
  await page.getByRole('button', { name: 'Sign-in link of North Desk' }).click();
  const link = await page.getByRole('dialog').getByLabel('Sign-in link', { exact: true }).innerText();
  await page.getByRole('button', { name: 'Done' }).click();
  const customer = await browser.visitor();
  await customer.goto(link);
  await customer.getByText('North Desk').waitFor();
  await customer.getByRole('heading', { level: 1, name: 'Overview' }).waitFor();
  await customer.context().close();

  await page.getByRole('button', { name: 'Plan of North Desk' }).click();
  await page.getByRole('dialog').getByLabel('Plan').fill('bare');
  await page.getByRole('dialog').getByRole('button', { name: 'Set plan' }).click();
  await page.getByRole('row', { name: /North Desk.*bare.*none/ }).waitFor();
  await page.getByRole('button', { name: 'New token of North Desk' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Draw a new token' }).click();
  const next = page.getByRole('dialog', { name: 'New token of North Desk' });
  await next.getByText('shown this once').waitFor();
  assert((await next.getByLabel('Token of North Desk', { exact: true }).innerText()) !== token, 'the same token');
  await next.getByRole('button', { name: 'I have kept it' }).click();
}

/** Colours are remembered; the choice counts before the first paint. */
async function theme(page) {
  const shown = () => page.evaluate(() => document.documentElement.dataset.theme);
  assert((await shown()) === 'light', 'the system\'s preference does not count');
  await page.getByRole('button', { name: 'Switch to dark colours' }).click();
  await page.reload({ waitUntil: 'commit' });
  await page.getByRole('button', { name: 'Switch to light colours' }).waitFor();
  assert((await shown()) === 'dark', 'the choice is forgotten');
}

/** The service goes and comes back: the page says so, keeps what it had, and asks to sign in again. */
async function away(browser, page) {
  await browser.open(page, 'Overview');
  await page.getByRole('row', { name: /SEEN/ }).waitFor();
  browser.expect(/ERR_CONNECTION_REFUSED/, /ERR_INCOMPLETE_CHUNKED_ENCODING/, /ERR_CONNECTION_RESET/, /ERR_EMPTY_RESPONSE/, /401 \(Unauthorized\)/);
  await ask('kill');
  await page.getByText('The connection to the service is lost.').waitFor();
  await page.getByText('Disconnected').waitFor();
  assert((await page.getByRole('row', { name: /SEEN/ }).count()) === 1, 'what was known is gone');
  await browser.picture(page, 'disconnected');
  await browser.axe(page, 'disconnected');
  const other = await page.context().newPage();
  await other.close();
  await ask('start');
  await page.getByText('Your session has ended. Sign in again.').waitFor();
}

run(async (browser) => {
  const page = await browser.visitor();
  await browser.enter(page);
  await watch(browser, page);
  await keys(browser, page);
  await accounts(browser, page);
  await theme(page);
  await away(browser, page);
});
