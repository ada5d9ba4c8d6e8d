// How long to wait before a connection is tried again. Pure functions.

const FIRST_DELAY = 500; // ms
const MAX_DELAY = 30_000; // ms
const LONGEST_HINT = 5 * 60_000; // ms; a hint beyond it is taken for a mistake

/**
 * retryHint reads the delay in ms that a server which restarts (close code 1012)
 * asks for in the reason text, `retry-ms=N`; null when there is none.
 */
export function retryHint(reason) {
  const found = /(?:^|[\s;,])retry-ms=(\d{1,9})\b/.exec(reason || '');
  return found ? Math.min(Number(found[1]), LONGEST_HINT) : null;
}

/**
 * reconnectDelay returns how many ms to wait before the next attempt, after
 * `attempt` failures in a row (0 for the first). It doubles up to 30 s, and half
 * of it is random, so that a thousand pages do not come back at once. The
 * server's own hint is taken as it is: the server has already spread it.
 */
export function reconnectDelay(attempt, { code = 0, reason = '', random = Math.random } = {}) {
  const hint = code === 1012 ? retryHint(reason) : null;
  if (hint !== null) return hint;
  const full = Math.min(MAX_DELAY, FIRST_DELAY * 2 ** Math.min(attempt, 10));
  const least = code === 4429 ? 10_000 : code === 1013 ? 2_000 : 0;
  return Math.max(least, Math.round(full / 2 + (random() * full) / 2));
}
