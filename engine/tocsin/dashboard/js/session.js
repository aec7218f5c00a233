// Who is signed in. A sign-in link carries a one-time code behind the #, which no server sees and which
// is taken out of the address before anything else happens. Nothing secret is kept in this browser: the
// session is a cookie that scripts cannot read.

import { ApiError, ask, get, post, setCsrf, settled, onSessionLost } from './api.js';

let state = { phase: 'starting' };
const listeners = new Set();

function set(next) {
  state = next;
  listeners.forEach((listener) => listener(state));
}

/** `{phase: 'starting' | 'out' | 'in' | 'leaving' | 'unreachable', session?, reason?, failure?}` */
export const current = () => state;

export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function entered(session) {
  setCsrf(session.csrf);
  set({ phase: 'in', session });
}

/** A code from the address, removed from it and from the browser's history entry. */
function takeCode() {
  const found = /^#code=([A-Za-z0-9_-]+)$/.exec(location.hash);
  if (!found) return;
  history.replaceState(null, '', location.pathname);
  [, code] = found;
}
let code = null;

/** Exchanges the link's code, or goes on with the session there is. */
export async function start() {
  // A link that is opened where the page stands already changes what is behind the # alone.
  window.addEventListener('hashchange', () => location.hash.startsWith('#code=') && enter());
  onSessionLost(() => {
    if (state.phase !== 'in') return;
    setCsrf(null);
    set({ phase: 'out', reason: 'Your session has ended. Sign in again.' });
  });
  await enter();
}

/** With the code in the address, else with the cookie. */
export async function enter() {
  takeCode();
  if (code) {
    try {
      const session = await ask('POST', '/v1/session', { code }, { patient: true });
      code = null;
      return entered(session);
    } catch (error) {
      // Kept, as long as nobody has said that it is no good.
      if (error.status === 0) return set({ phase: 'unreachable', reason: error.message });
      code = null;
      const reason =
        error.status === 401
          ? 'This sign-in link has been used or has expired. Ask for a new one, or sign in with a token.'
          : error.message;
      return set({ phase: 'out', reason });
    }
  }
  try {
    entered(await get('/v1/session'));
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) set({ phase: 'out' });
    else set({ phase: 'unreachable', reason: error.message });
  }
}

/** With the administrator's token or an account's. */
export async function signIn(token) {
  entered(await post('/v1/session', { token }));
}

/** The pages go first: what they ask once the session has ended would be refused. */
export async function signOut() {
  const before = state;
  set({ phase: 'leaving' });
  await settled();
  try {
    await ask('DELETE', '/v1/session');
  } catch (error) {
    if (error.status !== 401) return set({ ...before, failure: error.message });
  }
  setCsrf(null);
  location.hash = '';
  set({ phase: 'out', reason: 'You are signed out.' });
}
