// Names the API takes, with how they are shown.

export const EVENTS = [
  ['new_listing', 'New listing'], ['futures_listing', 'Futures listing'], ['delisting', 'Delisting'],
  ['listing_preview', 'Listing preview'], ['volume_spike', 'Volume spike'],
];

export const EXCHANGES = [
  ['binance', 'Binance'], ['upbit', 'Upbit'], ['bithumb', 'Bithumb'], ['okx', 'OKX'], ['bybit', 'Bybit'], ['bitget', 'Bitget'],
  ['kucoin', 'KuCoin'], ['gate', 'Gate'], ['crypto.com', 'Crypto.com'], ['htx', 'HTX'], ['bingx', 'BingX'], ['mexc', 'MEXC'],
  ['coinbase', 'Coinbase'], ['coinone', 'Coinone'], ['kraken', 'Kraken'], ['hyperliquid', 'Hyperliquid'],
];

export const TIERS = [['basic', 'Basic'], ['premium', 'Premium'], ['enterprise', 'Enterprise']];

const SHOWN = new Map([...EVENTS, ...EXCHANGES]);
export const shown = (name) => SHOWN.get(name) || name.replace(/_/g, ' ');

/** A filter of names as the API has it: `*` stands for all. */
export const listed = (names) => (names.includes('*') ? 'all' : names.map(shown).join(', '));

/** States of an endpoint: kind of its light, and words. */
export const ENDPOINT_STATES = {
  pending: ['wait', 'not verified'],
  active: ['ok', 'active'],
  suspended: ['warn', 'suspended'],
  disabled_user: ['off', 'paused'],
  disabled_auto: ['bad', 'switched off'],
  disabled_gone: ['bad', 'gone (410)'],
};

const STAGES = {
  dns: 'The name could not be resolved',
  address: 'The address may not be called',
  connect: 'No connection',
  tls: 'TLS failed',
  response: 'The answer was no success',
  timeout: 'No answer in time',
};

/** What went wrong with an attempt, in one line: step, status, reason. */
export function failure(outcome) {
  if (outcome.ok) return null;
  const why = (outcome.class || '').replace(/_/g, ' ');
  if (outcome.status) return `Answered ${outcome.status}${why && `: ${why}`}`;
  const step = STAGES[outcome.failed] || 'It failed';
  return why && why !== outcome.failed ? `${step}: ${why}` : step;
}
