// What a text looks like: code, addresses and @names in it. Everything else is
// plain text. Pure functions.
import { links } from './text.js';

// ```, perhaps a word that names the language, and the code up to the next ```.
const BLOCK = /```(?:[\w+#-]{0,20}\n)?([\s\S]+?)```\n?/g;
const CODE = /`([^`\n]+)`/g;
const AT = /(?<![\p{L}\p{N}\p{M}_.@/-])@[\p{L}\p{N}](?:[\p{L}\p{N}\p{M}_.-]*[\p{L}\p{N}\p{M}_])?/gu;

/** pattern matches @name, in any case, where the name ends there. */
function pattern(name) {
  const exact = name.normalize('NFC').replace(/[.*+?^${}()|[\]\\-]/g, '\\$&');
  return new RegExp(`(?<![\\p{L}\\p{N}\\p{M}_.@/-])@${exact}(?![._@-]?[\\p{L}\\p{N}\\p{M}_])`, 'giu');
}

const patterns = new Map();

/** mentions tells whether a text has @name in it. */
export function mentions(text, name) {
  if (!patterns.has(name)) patterns.set(name, pattern(name));
  const p = patterns.get(name);
  p.lastIndex = 0;
  return p.test(text);
}

// split cuts each text among parts where the expression matches, and makes a part
// of each match.
function split(parts, expression, make) {
  return parts.flatMap((part) => {
    if (part.kind !== 'text') return [part];
    const out = [];
    let at = 0;
    for (const found of part.text.matchAll(expression)) {
      if (found.index > at) out.push({ kind: 'text', text: part.text.slice(at, found.index) });
      out.push(make(found));
      at = found.index + found[0].length;
    }
    if (at < part.text.length) out.push({ kind: 'text', text: part.text.slice(at) });
    return out;
  });
}

const linked = (part) =>
  part.kind === 'text' ? links(part.text).map((p) => (typeof p === 'string' ? { kind: 'text', text: p } : { kind: 'link', ...p })) : [part];

/**
 * format cuts a message into parts {kind, text}: "text", "block" and "code" (without
 * their backticks), "link" (with href), "at" for an @name, "me" for one's own.
 */
export function format(content, me) {
  let parts = [{ kind: 'text', text: content }];
  parts = split(parts, BLOCK, ([, code]) => ({ kind: 'block', text: code.replace(/\n$/, '') }));
  parts = split(parts, CODE, ([, code]) => ({ kind: 'code', text: code }));
  parts = parts.flatMap(linked);
  if (!content.includes('@')) return parts;
  parts = split(parts, pattern(me), ([text]) => ({ kind: 'me', text }));
  return split(parts, AT, ([text]) => ({ kind: 'at', text }));
}

/** line returns a message as one line of plain text, for lists and notifications. */
export function line(content, length = 120) {
  // Characters that turn the direction of what follows stay in their message.
  const flat = content.slice(0, length * 4).replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '').replace(/\s+/g, ' ').trim();
  const letters = [...flat];
  return letters.length > length ? `${letters.slice(0, length - 1).join('')}…` : flat;
}
