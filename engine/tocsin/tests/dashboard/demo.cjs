// A newcomer with the link that the demo printed, clicking only: a test event that is delivered.

const { run, assert } = require('./browser.cjs');

const SLOW_MS = 1500;

run(async (browser, wanted) => {
  const page = await browser.visitor();
  await page.goto(wanted.link);
  await page.getByRole('heading', { level: 1, name: 'Overview' }).waitFor();
  assert(!page.url().includes('code'), `the code stays in the address: ${page.url()}`);
  // The exchanges publish: announcements come by themselves.
  await page.getByRole('table', { name: 'Last announcements' }).waitFor();
  await browser.open(page, 'Webhooks');
  await page.getByRole('table', { name: 'Endpoints' }).getByRole('link').first().click();
  // Answers come slower than the demo's deliveries, each of which has the page look again.
  await page.route('**/v1/webhooks/*', async (route) => {
    await new Promise((resolve) => { setTimeout(resolve, SLOW_MS); });
    return route.fallback();
  });
  await page.route('**/v1/webhooks/*/deliveries*', async (route) => {
    await new Promise((resolve) => { setTimeout(resolve, SLOW_MS); });
    return route.fallback();
  });
  await page.getByRole('button', { name: 'Send test event' }).click();
  const panel = page.getByRole('region', { name: 'Test event' });
  await panel.getByText(/Delivered after/).waitFor();
  await page.getByRole('table', { name: 'Deliveries' }).getByRole('row', { name: /test.*delivered, 200/ }).first().waitFor();
  await browser.picture(page, 'demo');
});
