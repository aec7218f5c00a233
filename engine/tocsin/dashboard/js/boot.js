// Until the page stands: says when a file of it did not arrive, and loads it again. A classic script on
// purpose, and the first: a module that does not arrive takes every other module with it, silently.
(function () {
  /** Before it is loaded again; a service that asks to wait means less. */
  const AGAIN_MS = 3000;
  /** After this the page says that it waits. */
  const SLOW_MS = 15000;
  let again = false;

  /** In the place where the page will be; nothing once it is there. */
  function say(text) {
    const boot = document.querySelector('#app > .boot');
    if (boot) boot.textContent = text;
  }

  function failed({ target }) {
    const file = target instanceof HTMLScriptElement || (target instanceof HTMLLinkElement && target.rel === 'stylesheet');
    if (!file || again) return;
    again = true;
    const told = () => say('A part of this page did not arrive. The page is loaded again in a moment.');
    if (document.body && document.querySelector('#app')) told();
    else document.addEventListener('DOMContentLoaded', told);
    setTimeout(() => location.reload(), AGAIN_MS);
  }

  window.addEventListener('error', failed, true);
  setTimeout(() => !again && say('This takes long: the service answers slowly, or not at all.'), SLOW_MS);
})();
