// What the service refuses for a while: a file of the page, who is signed in, a list. The page says so and
// goes on by itself.

const { run, assert } = require('./browser.cjs');

/** Answers 429 so many times, then lets requests through. */
function refuse(times) {
  let left = times;
  return (route) => {
    if (left === 0) return route.fallback();
    left -= 1;
    return route.fulfill({
      status: 429,
      headers: { 'Retry-After': '1' },
      json: { error: 'rate_limited', detail: 'too many requests from this address', retry_after: 1 },
    });
  };
}

run(async (browser) => {
  browser.expect(/429 \(Too Many Requests\)/);
  const page = await browser.visitor();
  const signIn = page.getByRole('heading', { name: 'Sign in' });
  const waits = page.getByText('The page waits and goes on by itself.');

  await page.route('**/assets/js/live.js', refuse(1));
  await page.goto(browser.base);
  await page.getByText('A part of this page did not arrive.').waitFor();
  await signIn.waitFor();

  await page.route('**/v1/session', refuse(2));
  await page.reload();
  await waits.waitFor();
  await signIn.waitFor();

  await browser.enter(page);
  await page.route('**/admin/v1/keys*', refuse(2));
  await browser.open(page, 'Keys');
  await waits.waitFor();
  await page.getByText('There is no key yet').waitFor();
  await waits.waitFor({ state: 'detached' });
  assert((await page.getByRole('alert').count()) === 0, 'a refusal is left to be seen');

  // A link is not lost with a refusal: nothing was done.
  const other = await browser.visitor();
  await other.route('**/v1/session', refuse(1));
  await browser.enter(other);
});
