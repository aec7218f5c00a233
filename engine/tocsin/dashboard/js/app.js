// The page: who is signed in decides what it shows, the part of the address behind the # which page.

import { html, render, useEffect, useState } from '/assets/vendor/preact-htm.js';
import * as session from './session.js';
import { startLive, stopLive } from './live.js';
import { Shell, pagesOf } from './shell.js';
import { SignIn, Unreachable } from './pages/signin.js';

/** `#/deliveries/3` as `['deliveries', '3']`. */
const path = () => location.hash.replace(/^#\/?/, '').split('/').filter(Boolean).map(decodeURIComponent);

function useSession() {
  const [state, setState] = useState(session.current());
  useEffect(() => session.subscribe(setState), []);
  return state;
}

function usePath() {
  const [at, setAt] = useState(path());
  useEffect(() => {
    const moved = () => setAt(path());
    window.addEventListener('hashchange', moved);
    return () => window.removeEventListener('hashchange', moved);
  }, []);
  return at;
}

function SignedIn({ who, at }) {
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
  return html`<${Shell} who=${who} pages=${pages} page=${page}>
    <${shown} key=${at.join('/')} who=${who} at=${at} />
  <//>`;
}

function App() {
  const state = useSession();
  const at = usePath();
  if (state.phase === 'starting') return html`<p class="boot" role="status">Loading</p>`;
  if (state.phase === 'unreachable') return html`<${Unreachable} reason=${state.reason} />`;
  if (state.phase === 'out') return html`<${SignIn} reason=${state.reason} />`;
  return html`<${SignedIn} who=${state.session} at=${at} />`;
}

const root = document.getElementById('app');
root.textContent = '';
render(html`<${App} />`, root);
session.start();
