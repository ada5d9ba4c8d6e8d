// How names, times and links look. Pure functions, tested with logic.js.

/** initials returns one or two letters that stand for a name. */
export function initials(name) {
  const words = name.split(/[\s_.@-]+/).filter(Boolean);
  if (words.length === 0) return '?';
  const head = (word) => [...word][0].toLocaleUpperCase();
  return words.length > 1 ? head(words[0]) + head(words[1]) : head(words[0]);
}

/** sentence makes a server's message, "too long; split it", one for the page. */
export function sentence(text) {
  const [first = '', ...rest] = [...text.trim()];
  const whole = first.toLocaleUpperCase() + rest.join('');
  return whole === '' || /[.!?…]$/.test(whole) ? whole : `${whole}.`;
}

// Angles (oklch) that are told apart at a glance; no muddy ones around yellow.
const HUES = [10, 38, 62, 148, 168, 195, 228, 252, 274, 298, 322, 346];

/** hue maps a name to a colour angle, the same on every machine. */
export function hue(name) {
  let hash = 2166136261; // FNV-1a: neighbouring names get distant colours
  for (const c of name) hash = Math.imul(hash ^ c.codePointAt(0), 16777619);
  hash ^= hash >>> 15;
  return HUES[(hash >>> 0) % HUES.length];
}

// Punctuation that ends a sentence rather than an address.
const TAIL = /[.,;:!?'"”’»…]+$/u;

/**
 * links cuts a text into strings and {href, text} for each http(s) address in it.
 * Joined again, the parts are the text.
 */
export function links(text) {
  const parts = [];
  let at = 0;
  for (const found of text.matchAll(/\bhttps?:\/\/[^\s<>"]+/gi)) {
    let url = found[0];
    for (let before = ''; before !== url; ) {
      before = url;
      url = url.replace(TAIL, '');
      // "(see https://example.org/a)": the bracket belongs to the sentence,
      // unless it was opened within the address.
      if (url.endsWith(')') && !url.includes('(')) url = url.slice(0, -1);
      if (url.endsWith(']') && !url.includes('[')) url = url.slice(0, -1);
    }
    if (!URL.canParse(url)) continue;
    if (found.index > at) parts.push(text.slice(at, found.index));
    parts.push({ href: url, text: url });
    at = found.index + url.length;
  }
  if (at < text.length) parts.push(text.slice(at));
  return parts;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const date = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'long', year: 'numeric' });

const valid = (when) => !Number.isNaN(when.getTime());

/** timeOf returns HH:MM in local time, '' for what is no time. */
export function timeOf(iso) {
  const when = new Date(iso);
  return valid(when) ? clock.format(when) : '';
}

/** fullTimeOf returns date and time in words, local. */
export function fullTimeOf(iso) {
  const when = new Date(iso);
  return valid(when) ? full.format(when) : '';
}

/** dayOf names the local day of a time as seen now: Today, Yesterday, or a date. */
export function dayOf(iso, now = new Date()) {
  const when = new Date(iso);
  if (!valid(when)) return '';
  const midnight = (d) => new Date(d.getFullYear(), d.getMonth(), d.getDate());
  // Rounded, because a day of a clock change has 23 or 25 hours.
  const days = Math.round((midnight(now) - midnight(when)) / 86_400_000);
  if (days === 0) return 'Today';
  if (days === 1) return 'Yesterday';
  return when.getFullYear() === now.getFullYear() ? weekday.format(when) : date.format(when);
}
