// The main flow with the keyboard alone, in the window of a small phone: in by token, a webhook added and
// tested, out. What has the focus can be seen.

const { run, ask, assert } = require('./browser.cjs');

/** More than the five seconds after which a page looks again. */
const LATE_MS = 6000;

/** Presses Tab until something with this role and name has the focus. */
async function tabTo(page, role, name) {
  for (let step = 0; step < 80; step += 1) {
    await page.keyboard.press('Tab');
    const found = await page.evaluate(() => {
      const node = document.activeElement;
      const roles = { A: 'link', BUTTON: 'button', INPUT: 'textbox', SELECT: 'combobox' };
      const label = node.labels && node.labels[0] ? node.labels[0].textContent : '';
      const style = getComputedStyle(node);
      const chip = node.nextElementSibling ? getComputedStyle(node.nextElementSibling) : style;
      return {
        role: roles[node.tagName], name: node.getAttribute('aria-label') || label || node.textContent.trim(),
        seen: [style, chip].some((one) => one.outlineStyle !== 'none' && parseFloat(one.outlineWidth) >= 1), tag: node.tagName,
      };
    });
    if (found.tag !== 'BODY') assert(found.seen, `the focus on ${found.role} ${found.name} cannot be seen`);
    if (found.role === role && found.name === name) return;
  }
  throw new Error(`Tab never reaches the ${role} ${name}`);
}

run(async (browser, wanted) => {
  const page = await browser.visitor({ width: 320, height: 640 });
  const press = (key) => page.keyboard.press(key);
  await page.goto(browser.base);
  await page.getByRole('heading', { name: 'Sign in' }).waitFor();
  await tabTo(page, 'textbox', 'Token');
  await page.keyboard.type(wanted.token);
  await press('Enter');
  await page.getByRole('heading', { level: 1, name: 'Overview' }).waitFor();

  await tabTo(page, 'link', 'Webhooks');
  await press('Enter');
  await page.getByRole('heading', { level: 1, name: 'Webhooks' }).waitFor();
  await tabTo(page, 'button', 'Add URL');
  await press('Enter');
  const dialog = page.getByRole('dialog', { name: 'Add URL' });
  await dialog.waitFor();
  assert((await page.evaluate(() => document.activeElement.name)) === 'url', 'the dialog does not begin at its first field');
  await press('Escape');
  await dialog.waitFor({ state: 'detached' });
  assert((await page.evaluate(() => document.activeElement.textContent)) === 'Add URL', 'the focus does not come back');
  await press('Enter');
  await dialog.waitFor();
  await page.keyboard.type(`${wanted.receiver}/hooks/keys`);
  await browser.fits(page, 'Add URL');
  await press('Enter');
  await page.getByRole('dialog', { name: 'The endpoint is active' }).waitFor();
  await browser.fits(page, 'the result');
  await tabTo(page, 'link', 'Open the endpoint');
  await press('Enter');
  await page.getByText('0 of 50 used today (UTC)').waitFor();
  await tabTo(page, 'button', 'Send test event');
  await press('Enter');
  await page.getByText(/Delivered after/).waitFor();
  await browser.fits(page, 'the endpoint');
  await browser.picture(page, 'phone-endpoint');
  await ask('delivered', { path: '/hooks/keys', symbol: 'TESTUSDT' });
  await page.evaluate(() => document.activeElement.blur());
  // The page asks nothing any more once it signs out: a refusal would be in the console.
  await browser.late(page, 'DELETE', '**/v1/session', LATE_MS);
  await tabTo(page, 'button', 'Sign out');
  await press('Enter');
  await page.getByText('You are signed out.').waitFor();
});
