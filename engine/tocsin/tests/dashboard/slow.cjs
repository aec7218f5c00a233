// A page whose first frame comes late, as on a machine that is busy: after the first answers of the service.

const { run } = require('./browser.cjs');

/** What waits for a frame or a moment in the page waits this much longer. */
const LATE_MS = 1000;

run(async (browser) => {
  const page = await browser.visitor();
  await page.addInitScript((late) => {
    const { setTimeout: later } = window;
    window.requestAnimationFrame = () => 0;
    window.setTimeout = (callback, ms, ...rest) => later(callback, (ms || 0) + late, ...rest);
  }, LATE_MS);
  await page.goto(browser.base);
  await page.getByRole('heading', { name: 'Sign in' }).waitFor();
  await browser.enter(page);
  await page.getByText('Live', { exact: true }).waitFor();
});
