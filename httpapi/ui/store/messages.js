// What messages are: which talk they belong to, their order, how they are grouped.
// Pure functions: no DOM, no network, no clock.

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

// Control characters, as terminals put them into what is copied there. The server refuses them.
const CONTROL = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u0084\u0086-\u009f]/g;

/** clean is the text as the server keeps it: without white space around it, nor control characters. */
export function clean(text) {
  // Half an emoji (a lone surrogate) is not valid UTF-8; the server would get a
  // replacement character and its echo would never match.
  const whole = text.toWellFormed ? text.toWellFormed() : text;
  return whole.replace(/\r\n?|\u0085/g, '\n').replace(CONTROL, '').trim();
}

/**
 * rows turns the messages of a talk into what the log shows: a separator where a
 * day begins, a line where the unread ones begin, and each message with `first`
 * true where a new group (another sender, or a pause) starts. dayOf maps a
 * message to the name of its day; `before` is the message before the first one.
 */
export function rows(messages, { dayOf, before = null, marker = null, pause = 5 * 60_000 }) {
  const out = [];
  let last = before;
  let day = before ? dayOf(before) : null;
  let marked = marker === null || (before !== null && before.id >= marker);
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
