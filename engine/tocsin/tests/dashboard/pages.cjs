// Every page in one theme: axe finds nothing serious, nothing scrolls sideways at 320 pixels, a picture of each.

const { run, ask, assert } = require('./browser.cjs');

const ADMINISTRATOR = ['Overview', 'Sources', 'Feed', 'Deliveries', 'Host and clock', 'Keys', 'Accounts', 'Webhooks'];
const CUSTOMER = ['Overview', 'Deliveries', 'Keys', 'Webhooks'];

async function settled(page) {
  await page.locator('.loading').first().waitFor({ state: 'detached' });
}

async function look(browser, page, where) {
  await settled(page);
  await browser.axe(page, where);
  await browser.picture(page, where.replace(/ /g, '-'));
  await page.setViewportSize({ width: 320, height: 720 });
  await browser.fits(page, `${where} at 320 pixels`);
  await browser.picture(page, `${where.replace(/ /g, '-')}-phone`);
  await page.setViewportSize({ width: 1280, height: 860 });
}

async function dialogs(browser, page, theme) {
  await browser.open(page, 'Keys');
  for (const [name, button] of [['Keys', 'Make a key'], ['Accounts', 'Make an account'], ['Webhooks', 'Add URL']]) {
    await browser.open(page, name);
    await page.getByRole('button', { name: button }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).waitFor();
    await browser.axe(page, `${button}, ${theme}`);
    await page.setViewportSize({ width: 320, height: 720 });
    await browser.fits(page, `${button} at 320 pixels`);
    await page.setViewportSize({ width: 1280, height: 860 });
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
  }
}

run(async (browser, wanted) => {
  const { theme } = wanted;
  const dark = theme === 'dark';
  const page = await browser.visitor({ dark });
  await page.goto(browser.base);
  await page.getByRole('heading', { name: 'Sign in' }).waitFor();
  await look(browser, page, `sign in ${theme}`);
  await browser.enter(page);
  assert((await page.evaluate(() => document.documentElement.dataset.theme)) === theme, 'the theme is another');
  // Every list has something to show.
  await ask('announce', { exchange: 'binance', title: 'Binance Will List Shown Coin (SHOWN)' });
  await page.getByRole('row', { name: /SHOWN/ }).waitFor();
  await ask('publish', { invented: 4 });
  await page.getByRole('row', { name: /Bithumb.*FOUND/ }).waitFor();
  for (const name of ADMINISTRATOR) {
    await browser.open(page, name);
    await look(browser, page, `${name} ${theme}`);
  }
  await page.getByRole('link', { name: 'Shown bot' }).click();
  await page.getByRole('heading', { level: 1, name: 'Shown bot' }).waitFor();
  await look(browser, page, `Endpoint ${theme}`);
  await dialogs(browser, page, theme);
  const customer = await browser.visitor({ dark });
  await browser.enter(customer, wanted.account);
  for (const name of CUSTOMER) {
    await browser.open(customer, name);
    await look(browser, customer, `customer ${name} ${theme}`);
  }
});
