// Requests to the control plane, and what it answers. Every refusal is an ApiError with the API's code,
// text and field. The session's cookie goes along by itself; what changes something carries the token
// that shows that this page asks.

export class ApiError extends Error {
  constructor(status, answer) {
    super(answer.detail || 'the service did not say why');
    this.status = status;
    this.code = answer.error || 'unknown';
    this.field = answer.field || null;
    this.retryAfter = answer.retry_after || null;
  }
}

let csrf = null;
let onLost = () => {};

/** The token for what changes something; null after sign-out. */
export function setCsrf(token) {
  csrf = token;
}

/** Called when the service no longer knows the session. */
export function onSessionLost(callback) {
  onLost = callback;
}

const UNREACHABLE = { error: 'unreachable', detail: 'The service does not answer. Is it running?' };

/** A reading that comes too often is put off as long as the service says, so many times. */
const WAITS = 20;
/** And no longer than this at once. */
const LONGEST_WAIT_S = 10;
const SECOND_MS = 1000;

const listeners = new Set();
let waiting = 0;

/** Whether a request waits because the service asked for it. */
export const isWaiting = () => waiting > 0;

/** Calls back when that changes; returns what ends it. */
export function onWaiting(callback) {
  listeners.add(callback);
  return () => listeners.delete(callback);
}

async function wait(seconds) {
  const count = (more) => {
    waiting += more;
    listeners.forEach((listener) => listener());
  };
  count(1);
  await new Promise((resolve) => { setTimeout(resolve, Math.min(seconds || 1, LONGEST_WAIT_S) * SECOND_MS); });
  count(-1);
}

const running = new Set();

/** Resolves when what has been asked so far is answered, or after a moment. */
export function settled() {
  const moment = new Promise((resolve) => { setTimeout(resolve, SECOND_MS); });
  return Promise.race([Promise.allSettled([...running]), moment]);
}

/** As `once`; `patient`: a refusal because of the rate, before which nothing was done, is no answer yet. */
export async function ask(method, path, body, { patient = method === 'GET' } = {}) {
  for (let turn = 1; ; turn += 1) {
    const asked = once(method, path, body);
    running.add(asked);
    try {
      return await asked;
    } catch (error) {
      if (!patient || error.code !== 'rate_limited' || turn > WAITS) throw error;
      await wait(error.retryAfter);
    } finally {
      running.delete(asked);
    }
  }
}

/** One request. Resolves with the answer's JSON, null where there is none; rejects with an ApiError. */
async function once(method, path, body) {
  const headers = { Accept: 'application/json' };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  if (csrf && method !== 'GET') headers['X-CSRF-Token'] = csrf;
  let response;
  let text;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: 'same-origin',
      cache: 'no-store',
    });
    text = await response.text();
  } catch {
    throw new ApiError(0, UNREACHABLE);
  }
  let answer = null;
  try {
    answer = text ? JSON.parse(text) : null;
  } catch {
    throw new ApiError(response.status, { error: 'not_json', detail: 'The answer is not JSON. Is a proxy in between?' });
  }
  if (response.ok) return answer;
  const error = new ApiError(response.status, answer || {});
  if (error.code === 'unauthorized' && path !== '/v1/session') onLost();
  throw error;
}

export const get = (path) => ask('GET', path);
export const post = (path, body = {}) => ask('POST', path, body);

/** Pages of a long list that are put together: what is beyond them is for the API. */
const PAGES = 5;

/** A list that comes in pages, `{[field]: [...], next}`, put together. */
export async function getAll(path, field) {
  const rows = [];
  let after = null;
  for (let page = 0; page < PAGES; page += 1) {
    const answer = await get(path + query({ after }));
    rows.push(...answer[field]);
    after = answer.next ?? null;
    if (after === null) break;
  }
  return rows;
}

/** A query string of what is given. */
export function query(parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null && value !== '');
  return given.length ? `?${new URLSearchParams(given)}` : '';
}
