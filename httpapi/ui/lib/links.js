// Addresses in a text. Pure functions. One scan from left to right: no expression here
// backtracks over more than one part of a host name, and no character is read more often
// than a fixed number of times, however hostile the text.

const AUTHORITY = 300; // characters; a host name has at most 253
const LOCAL = 64; // characters before the @ of a mail address
const SHOWN = 64; // shown characters of a long address

// Scripts without spaces: an address stands right beside a sentence in them, and seldom has them in its host.
const SPACELESS = String.raw`\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Hang}\p{sc=Thai}\p{sc=Laoo}\p{sc=Khmr}\p{sc=Mymr}`;
const WORD = new RegExp(`(?![${SPACELESS}])[\\p{L}\\p{N}\\p{M}]`, 'u');
const GLUED = new RegExp(`\\.[a-z]{2,63}(?=[${SPACELESS}])`, 'iu'); // "example.org" and a sentence
const ASCII_WORD = /[A-Za-z0-9]/;
const ASCII_END = /[\s\x00-\x20\x7f<>"`]/;
// Beyond ASCII: spaces, invisible characters, brackets, quotes, and the punctuation of any script. Not ’,
// the middle dots and the joiners of letters: they are within words.
const OTHER_END = /(?![’·・‧\u200c\u200d])[\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\p{Z}\p{C}\p{Ps}\p{Pe}\p{Pi}\p{Pf}\p{Po}]/u;
const TAIL = /[.,;:!?'*_~|([{’·・‧]|(?!-)\p{Pd}/u; // ends a sentence or an emphasis, not an address
const EMPHASIS = ['**', '__', '~~', '||', '==', '++'];
const CLOSES = { ')': '(', ']': '[', '}': '{' };
const LABEL = /^(?!-)[\p{L}\p{N}\p{M}-]{1,63}(?<!-)$/u;
const TOP = /^(?:\p{L}[\p{L}\p{M}]+|xn--[a-z0-9-]+)$/iu;
const FILE = /^(?:png|jpe?g|gif|svg|webp|mp[34]|txt|log|pdf|html?|json|css|js|ts|go|exe)$/i; // "icon@2x.png"
const START = /https?:\/\/|www\.|@/giu;

const isEnd = (c) => (c < '\x80' ? ASCII_END.test(c) : OTHER_END.test(c));

// charAt returns the character at i, both halves of a surrogate pair.
function charAt(text, i) {
  const code = text.codePointAt(i);
  return code > 0xffff ? String.fromCodePoint(code) : text[i];
}

// before returns the character before i, '' at the start.
function before(text, i) {
  if (i < 1) return '';
  const low = text.charCodeAt(i - 1);
  return low >= 0xdc00 && low <= 0xdfff && i > 1 ? charAt(text, i - 2) : text[i - 1];
}

// scan returns the end of the address from start, at most `limit`; everything up to i belongs to it. A
// closing bracket without its opening one ends it, and so do the signs of emphasis before it.
function scan(text, start, i, limit = text.length, stop = '') {
  const sign = EMPHASIS.find((two) => text.startsWith(two, start - 2));
  const open = { '(': 0, '[': 0, '{': 0 };
  let end = i;
  while (end < limit) {
    const c = charAt(text, end);
    if (isEnd(c) || stop.includes(c) || (sign && text.startsWith(sign, end))) break;
    if (c in open) open[c]++;
    else if ((c === ',' || c === ';') && /^https?:[/]{2}/i.test(text.slice(end + 1, end + 9))) break; // the next one
    else if (c in CLOSES && open[CLOSES[c]]-- === 0) break;
    end += c.length;
  }
  return end;
}

// trim takes the punctuation of the sentence from the end of an address, down to i.
function trim(text, i, end) {
  while (end > i) {
    const c = before(text, end);
    if (!TAIL.test(c)) break;
    end -= c.length;
  }
  return end;
}

// hostEnd returns the end of the host name at i: labels with dots between them, at least `labels`,
// the last one of letters. It returns i for none.
function hostEnd(text, i, labels) {
  let end = i;
  const limit = Math.min(text.length, i + AUTHORITY);
  while (end < limit) {
    const c = charAt(text, end);
    if (c !== '.' && c !== '-' && !WORD.test(c)) break;
    end += c.length;
  }
  if (end >= i + AUTHORITY) return i;
  while (end > i && (text[end - 1] === '.' || text[end - 1] === '-')) end--;
  const parts = text.slice(i, end).split('.');
  return parts.length >= labels && parts.every((part) => LABEL.test(part)) && TOP.test(parts.at(-1)) && !FILE.test(parts.at(-1)) ? end : i;
}

// web returns the link with http:// or https:// at i, or null.
function web(text, i, scheme) {
  if (ASCII_WORD.test(before(text, i))) return null;
  const first = i + scheme.length;
  let host = scan(text, i, first, Math.min(text.length, first + AUTHORITY), '/?#,;|^');
  if (host >= first + AUTHORITY) return null;
  const path = '/?#'.includes(text[host] ?? ' ');
  if (!path) {
    const glued = GLUED.exec(text.slice(first, host));
    host = trim(text, first, glued ? first + glued.index + glued[0].length : host);
  }
  // Checked before the rest is read: a false start must not cost the length of the text.
  if (!URL.canParse(text.slice(i, host))) return null;
  const end = path ? trim(text, host, scan(text, i, host)) : host;
  const href = text.slice(i, end);
  return { start: i, end, href, shown: shorten(href, host - i) };
}

// www returns the link with www. at i, or null.
function www(text, i) {
  const prior = before(text, i);
  if (/[@./-]/.test(prior) || WORD.test(prior)) return null;
  let host = hostEnd(text, i, 3);
  if (host === i) return null;
  const rest = /^(?::\d{1,5})?(?=[/?#])/.exec(text.slice(host, host + 7));
  if (rest) host += rest[0].length;
  if (!URL.canParse(`https://${text.slice(i, host)}`)) return null;
  const end = rest ? trim(text, host, scan(text, i, host)) : host;
  return { start: i, end, href: `https://${text.slice(i, end)}`, shown: shorten(text.slice(i, end), host - i) };
}

// mail returns the link around the @ at i, or null. It begins at `from` or later.
function mail(text, i, from) {
  let start = i;
  for (const limit = Math.max(from, i - LOCAL - 1); start > limit; ) {
    const c = before(text, start);
    if (!/[._%+-]/.test(c) && !WORD.test(c)) break;
    start -= c.length;
  }
  if (i - start > LOCAL || /[@/]/.test(before(text, start))) return null;
  while (start < i && !WORD.test(charAt(text, start))) start++;
  const name = text.slice(start, i);
  const end = hostEnd(text, i + 1, 2);
  if (name === '' || end === i + 1 || name.endsWith('.') || name.includes('..')) return null;
  // "git@github.com:a/b" and "ftp://user:password@example.org" are no mail addresses.
  const prior = text.slice(Math.max(0, start - LOCAL), start);
  if (/^[:/@][\p{L}\p{N}]/u.test(text.slice(end, end + 3)) || (prior.includes('://') && !/\s/.test(prior.slice(prior.lastIndexOf('://'))))) return null;
  const address = text.slice(start, end);
  return { start, end, href: `mailto:${address}`, shown: address };
}

// shorten cuts a long address for display. The host is always shown: it says where one goes.
function shorten(text, host) {
  const most = Math.max(SHOWN, host + 1);
  if (text.length <= most + 8) return text;
  const low = text.charCodeAt(most);
  return text.slice(0, low >= 0xdc00 && low <= 0xdfff ? most - 1 : most);
}

/**
 * links cuts a text into strings and {href, text, shown} for each address in it: http(s),
 * www. and mail. `shown` is text, or the beginning of a long one.
 * Joined again, the parts are the text.
 */
export function links(text) {
  const parts = [];
  let at = 0;
  START.lastIndex = 0;
  for (let found; (found = START.exec(text)); ) {
    const sign = found[0];
    const link = sign === '@' ? mail(text, found.index, at) : sign.endsWith('/') ? web(text, found.index, sign) : www(text, found.index);
    if (!link) continue;
    if (link.start > at) parts.push(text.slice(at, link.start));
    parts.push({ href: link.href, text: text.slice(link.start, link.end), shown: link.shown });
    START.lastIndex = at = link.end;
  }
  if (at < text.length) parts.push(text.slice(at));
  return parts;
}
