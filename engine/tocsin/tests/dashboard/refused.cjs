// What the service refuses for a while: a file of the page, who is signed in, a list. The page says so and
// goes on by itself.

const { run, assert } = require('./browser.cjs');

/** Answers 429 until it is told to let requests through. */
async function refuse(page, pattern) {
  await page.route(pattern, (route) => route.fulfill({
    status: 429,
    headers: { 'Retry-After': '1' },
    json: { error: 'rate_limited', detail: 'too many requests from this address', retry_after: 1 },
  }));
  return () => page.unroute(pattern);
}

run(async (browser) => {
  browser.expect(/429 \(Too Many Requests\)/);
  const page = await browser.visitor();
  const signIn = page.getByRole('heading', { name: 'Sign in' });
  const waits = page.getByText('The page waits and goes on by itself.');

  let admit = await refuse(page, '**/assets/js/live.js');
  await page.goto(browser.base, { waitUntil: 'commit' });
  await page.getByText('A part of this page did not arrive.').waitFor();
  await admit();
  await signIn.waitFor();

  admit = await refuse(page, '**/v1/session');
  await page.reload({ waitUntil: 'commit' });
  await waits.waitFor();
  await admit();
  await signIn.waitFor();

  await browser.enter(page);
  admit = await refuse(page, '**/admin/v1/keys*');
  await browser.open(page, 'Keys');
  await waits.waitFor();
  await admit();
  await page.getByText('There is no key yet').waitFor();
  await waits.waitFor({ state: 'detached' });
  assert((await page.getByRole('alert').count()) === 0, 'a refusal is left to be seen');

  // A link is not lost with a refusal: nothing was done.
  const other = await browser.visitor();
  admit = await refuse(other, '**/v1/session');
  const entered = browser.enter(other);
  await other.getByText('The page waits and goes on by itself.').waitFor();
  await admit();
  await entered;
});
