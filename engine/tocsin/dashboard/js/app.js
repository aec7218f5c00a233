// The page: who is signed in decides what it shows, the part of the address behind the # which page.

import { html, render, useEffect } from '/assets/vendor/preact-htm.js';
import * as session from './session.js';
import { isWaiting, onWaiting } from './api.js';
import { startLive, stopLive } from './live.js';
import { useTold } from './parts.js';
import { Shell, WAITING, pagesOf } from './shell.js';
import { SignIn, Unreachable } from './pages/signin.js';

/** `#/deliveries/3` as `['deliveries', '3']`. */
const parts = (hash) => hash.replace(/^#\/?/, '').split('/').filter(Boolean).map(decodeURIComponent);

function onMoved(callback) {
  window.addEventListener('hashchange', callback);
  return () => window.removeEventListener('hashchange', callback);
}

function SignedIn({ who, failure, at }) {
  useEffect(() => {
    startLive(who.role);
    return stopLive;
  }, [who.role]);
  const pages = pagesOf(who);
  const page = pages.find((one) => one.path === at[0]) || pages[0];
  const shown = page.inner && at.length > 1 ? page.inner : page.page;
  useEffect(() => {
    document.title = `${page.title} · Tocsin`;
    // A new page begins at its heading, for those who hear it and for the keyboard.
    window.scrollTo(0, 0);
    if (at.length) {
      const heading = document.querySelector('main h1');
      if (heading) heading.focus({ preventScroll: true });
    }
  }, [at.join('/')]);
  return html`<${Shell} who=${who} failure=${failure} pages=${pages} page=${page}>
    <${shown} key=${at.join('/')} who=${who} at=${at} />
  <//>`;
}

function App() {
  const state = useTold(session.subscribe, session.current);
  const at = parts(useTold(onMoved, () => location.hash));
  const waiting = useTold(onWaiting, isWaiting);
  if (state.phase === 'starting') return html`<p class="boot" role="status">${waiting ? WAITING : 'Loading'}</p>`;
  if (state.phase === 'leaving') return html`<p class="boot" role="status">Signing out</p>`;
  if (state.phase === 'unreachable') return html`<${Unreachable} reason=${state.reason} />`;
  if (state.phase === 'out') return html`<${SignIn} reason=${state.reason} />`;
  return html`<${SignedIn} who=${state.session} failure=${state.failure} at=${at} />`;
}

const root = document.getElementById('app');
root.textContent = '';
render(html`<${App} />`, root);
session.start();
