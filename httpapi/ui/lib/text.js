// Sentences. Pure functions.

/** sentence makes a server's message, "too long; split it", one for the page. */
export function sentence(text) {
  const [first = '', ...rest] = [...text.trim()];
  const whole = first.toLocaleUpperCase() + rest.join('');
  return whole === '' || /[.!?…]$/.test(whole) ? whole : `${whole}.`;
}
