// The frames of burrow.v1.json, as docs/protocol.md has them. Pure functions.

/** PROTOCOL is what the page offers in the handshake. */
export const PROTOCOL = 'burrow.v1.json';

/** frames returns the frames of one WebSocket message, [] for what is none. */
export function frames(text) {
  try {
    const batch = JSON.parse(text);
    return Array.isArray(batch?.frames) ? batch.frames.filter((f) => f !== null && typeof f === 'object') : [];
  } catch {
    return [];
  }
}

/** isChat tells whether a chat frame, or an element of a page of history, is whole. */
export const isChat = (m) => typeof m?.id === 'string' && m.id !== '' && typeof m.sender === 'string' && typeof m.content === 'string';

export const ping = () => JSON.stringify({ ping: {} });
export const send = ({ ref, content, talk }) => JSON.stringify({ send: { ref, content, to_user: talk } });
export const activity = (away) => JSON.stringify({ activity: { away } });
export const typing = (talk) => JSON.stringify({ typing: { to_user: talk } });

/** uuid makes a random UUID; crypto.randomUUID is missing where there is no TLS. */
export function uuid() {
  const b = crypto.getRandomValues(new Uint8Array(16));
  b[6] = (b[6] & 0x0f) | 0x40;
  b[8] = (b[8] & 0x3f) | 0x80;
  const hex = [...b].map((n) => n.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
