// What a text looks like: code, addresses and mentions in it. Everything else is
// plain text. Pure functions, in time linear in the text.
import { links } from './links.js';

const LANGUAGE = /^[\w+#-]{0,20}$/;

// blocks cuts a text at ```, perhaps the name of a language, and the code up to the
// next ```. What is not closed is text.
function blocks(text) {
  const parts = [];
  let at = 0;
  for (let open; (open = text.indexOf('```', at)) >= 0; ) {
    const close = text.indexOf('```', open + 4); // after one character at least
    if (close < 0) break;
    const line = text.slice(open + 3, open + 24).indexOf('\n');
    let code = text.slice(open + 3, close);
    if (line >= 0 && line + 1 < code.length && LANGUAGE.test(code.slice(0, line))) code = code.slice(line + 1);
    if (open > at) parts.push(...inline(text.slice(at, open)));
    parts.push({ kind: 'block', text: code.endsWith('\n') ? code.slice(0, -1) : code });
    at = close + 3;
    if (text[at] === '\n') at++;
  }
  if (at < text.length) parts.push(...inline(text.slice(at)));
  return parts;
}

// inline cuts a text at code between two ` of one line.
function inline(text) {
  const parts = [];
  let at = 0;
  for (let open = text.indexOf('`'); open >= 0; ) {
    const close = text.indexOf('`', open + 1);
    if (close < 0) break;
    const code = text.slice(open + 1, close);
    if (code === '' || code.includes('\n')) {
      open = close;
      continue;
    }
    if (open > at) parts.push({ kind: 'text', text: text.slice(at, open) });
    parts.push({ kind: 'code', text: code });
    at = close + 1;
    open = text.indexOf('`', at);
  }
  if (at < text.length) parts.push({ kind: 'text', text: text.slice(at) });
  return parts;
}

const linked = (part) =>
  part.kind === 'text' ? links(part.text).map((p) => (typeof p === 'string' ? { kind: 'text', text: p } : { kind: 'link', ...p })) : [part];

// mentioned cuts a text at the mentions of members.
function mentioned(part, me, members) {
  if (part.kind !== 'text') return [part];
  const parts = [];
  let at = 0;
  const put = (kind, end) => {
    if (end > at) parts.push({ kind, text: part.text.slice(at, end) });
    at = end;
  };
  for (const { start, end } of members.find(part.text)) {
    put('text', start);
    put(members.mentions(part.text.slice(start, end), me) ? 'me' : 'at', end);
  }
  put('text', part.text.length);
  return parts;
}

/**
 * format cuts a message into parts {kind, text}: "text", "block" and "code" (without
 * their backticks), "link" (as links makes them), "at" for a mention of a member, and
 * "me" for one of the member `me`.
 */
export function format(content, me, members) {
  const parts = blocks(content).flatMap(linked);
  return content.includes('@') ? parts.flatMap((part) => mentioned(part, me, members)) : parts;
}

/** line returns a message as one line of plain text, for lists and notifications. */
export function line(content, length = 120) {
  // Characters that turn the direction of what follows stay in their message.
  const start = content.slice(0, length * 4).replace(/[\ud800-\udbff]$/, ''); // not half a character
  const flat = start.replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '').replace(/\s+/g, ' ').trim();
  const letters = [...flat];
  return letters.length > length || start.length < content.length ? `${letters.slice(0, length - 1).join('')}…` : flat;
}
