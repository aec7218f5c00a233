// Before somebody is signed in, and when the service cannot be asked.

import { html, useState } from '/assets/vendor/preact-htm.js';
import { enter, signIn } from '../session.js';
import { span } from '../format.js';
import { useEvery } from '../parts.js';

function Frame({ children }) {
  return html`<main id="main" class="gate"><div class="gate-box">
    <p class="brand"><svg viewBox="0 0 16 16" aria-hidden="true" focusable="false"><path d="M8 1.5a4 4 0 0 0-4 4v3L2.5 11h11L12 8.500v-3a4 4 0 0 0-4-4zM6.300 12.500a1.700 1.700 0 0 0 3.400 0z" /></svg>Tocsin</p>
    ${children}</div></main>`;
}

function why(error) {
  if (error.status === 401) return 'This token is not known. Check that all of it was copied.';
  if (error.status === 429) return `Too many attempts. Try again in ${span(error.retryAfter || 60)}.`;
  return error.message;
}

export function SignIn({ reason }) {
  const [token, setToken] = useState('');
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const send = async (event) => {
    event.preventDefault();
    if (busy) return;
    if (!token.trim()) {
      setError('Enter a token.');
      return;
    }
    setBusy(true);
    try {
      await signIn(token.trim());
    } catch (refusal) {
      setError(why(refusal));
      setBusy(false);
    }
  };
  return html`<${Frame}>
    <h1>Sign in</h1>
    ${reason && !error && html`<p class="gate-reason" role="status">${reason}</p>`}
    <form onSubmit=${send} novalidate>
      <div class=${`field${error ? ' wrong' : ''}`}>
        <label for="token">Token</label>
        <input id="token" name="token" type="password" autocomplete="current-password" value=${token} spellcheck=${false}
          aria-invalid=${error ? 'true' : undefined} aria-describedby=${error ? 'token-error token-hint' : 'token-hint'}
          onInput=${(event) => { setToken(event.target.value); setError(null); }} />
        <p class="hint" id="token-hint">Your account's token (act_…), or the administrator's.</p>
        ${error && html`<p class="field-error" id="token-error" role="alert">${error}</p>`}
      </div>
      <button type="submit" class=${`primary wide${busy ? ' busy' : ''}`} aria-disabled=${busy}>${busy ? 'One moment' : 'Sign in'}</button>
    </form>
    <p class="gate-help">On the machine itself, <code>tocsin sign-in</code> prints a link that signs you in.</p>
  <//>`;
}

/** Between two looks whether the service is back. */
const LOOK_MS = 5000;

export function Unreachable({ reason }) {
  const [busy, setBusy] = useState(false);
  const again = async () => {
    if (busy) return;
    setBusy(true);
    await enter();
    setBusy(false);
  };
  useEvery(LOOK_MS, again);
  return html`<${Frame}>
    <h1>No answer</h1>
    <p class="gate-reason" role="alert">${reason}</p>
    <p class="gate-help">The page asks again every few seconds and goes on by itself.</p>
    <button type="button" class=${`primary wide${busy ? ' busy' : ''}`} onClick=${again}>Try again</button>
  <//>`;
}
