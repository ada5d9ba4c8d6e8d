// The decisions of the page as pure functions: no DOM, no network, no clock.
// test/logic.test.mjs runs them with `node --test`.

/** ROOM is the key of the global room; any other key is the name of a person. */
export const ROOM = '';

/** talkOf returns the key of the talk that a message belongs to, seen by me. */
export function talkOf(msg, me) {
  // The server also accepts "global" as the name of the room.
  if (!msg.to_user || msg.to_user === 'global') return ROOM;
  return msg.sender === me ? msg.to_user : msg.sender;
}

/**
 * merge puts incoming messages into list, ordered by id and each id once.
 * UUIDv7 ids sort by time, so history, live frames and pages of the archive can
 * arrive in any order. It returns the list itself when nothing was new, so that
 * an unchanged list can be recognised by identity.
 */
export function merge(list, incoming) {
  const known = new Set();
  for (const m of list) known.add(m.id);
  const added = [];
  for (const m of incoming) {
    if (!m.id || known.has(m.id)) continue;
    known.add(m.id);
    added.push(m);
  }
  if (added.length === 0) return { list, added };
  const next = list.concat(added);
  next.sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
  return { list: next, added };
}

/** clean is the text as the server keeps it: without white space around it. */
export function clean(text) {
  // Half an emoji (a lone surrogate) is not valid UTF-8; the server would get a
  // replacement character and its echo would never match.
  const whole = text.toWellFormed ? text.toWellFormed() : text;
  return whole.replace(/^[\s\u0085]+|[\s\u0085]+$/g, '');
}

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

const NAME = /^[\p{L}\p{N}](?:[\p{L}\p{M}\p{N} _.@-]*[\p{L}\p{M}\p{N}])?$/u;

/**
 * nameProblem says what is wrong with a name, or '' when it looks right. The
 * server decides; this only answers sooner.
 */
export function nameProblem(raw) {
  const name = raw.normalize('NFC').trim();
  if (name === '') return 'Please type a name.';
  if ([...name].length > 64) return 'A name has at most 64 characters.';
  if (name.toLowerCase() === 'global') return 'The name “global” means everyone. Please choose another one.';
  if (NAME.test(name)) return '';
  if (/[^\p{L}\p{M}\p{N} _.@-]/u.test(name)) return 'Use only letters, digits, spaces and the signs _ - . @';
  return 'A name starts and ends with a letter or a digit.';
}

/**
 * rows turns the messages of a talk into what the log shows: a separator where a
 * day begins, a line where the unread ones begin, and each message with `first`
 * true where a new group (another sender, or a pause) starts. dayOf maps a
 * message to the name of its day.
 */
export function rows(messages, { dayOf, marker = null, pause = 5 * 60_000 }) {
  const out = [];
  let last = null;
  let day = null;
  let marked = marker === null;
  for (const msg of messages) {
    const today = dayOf(msg);
    let first = !last || last.sender !== msg.sender || Date.parse(msg.sent_at) - Date.parse(last.sent_at) > pause;
    if (today !== day) {
      out.push({ kind: 'day', key: `day ${msg.id}`, day: today });
      day = today;
      first = true;
    }
    if (!marked && msg.id >= marker) {
      out.push({ kind: 'new', key: 'new' });
      marked = true;
      first = true;
    }
    out.push({ kind: 'message', key: msg.id, msg, first });
    last = msg;
  }
  return out;
}
