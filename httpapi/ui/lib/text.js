// Sentences. Pure functions.

/** sentence makes a server's message, "too long; split it", one for the page. */
export function sentence(text) {
  const trimmed = text.trim();
  const first = trimmed === '' ? '' : String.fromCodePoint(trimmed.codePointAt(0));
  const whole = first.toLocaleUpperCase() + trimmed.slice(first.length);
  return whole === '' || /[.!?…]$/.test(whole) ? whole : `${whole}.`;
}
