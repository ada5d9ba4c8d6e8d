// Texts: sentences, and the addresses in them. Pure functions.

/** sentence makes a server's message, "too long; split it", one for the page. */
export function sentence(text) {
  const [first = '', ...rest] = [...text.trim()];
  const whole = first.toLocaleUpperCase() + rest.join('');
  return whole === '' || /[.!?…]$/.test(whole) ? whole : `${whole}.`;
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
