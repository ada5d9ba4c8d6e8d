// Which messages of a long talk are drawn. A list of thousands is cut to a window
// that moves with the reader, so that drawing costs the same however long it is.
// Pure functions.

const FEW = 80; // messages drawn at first
const MOST = 200; // drawn at once
const STEP = 50; // how far the window moves

const START = '\0'; // before every id

/**
 * A window is {from, to}: the ids of the first message drawn ('' is FEW before the
 * end), and of the last one ('' is the newest, also when newer ones come). One that
 * begins at the first message goes on doing so when older ones are put before it: a
 * page that is scrolled to the top could not make up for a change above it.
 */
export const NEWEST = { from: '', to: '' };

/** indexOf returns where id is, or would be, in a list that is sorted by id. */
export function indexOf(list, id) {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const mid = (low + high) >> 1;
    if (list[mid].id < id) low = mid + 1;
    else high = mid;
  }
  return low;
}

/** span returns [start, end) of a window in a list. */
export function span(list, { from, to }) {
  let end = list.length;
  if (to !== '') {
    end = indexOf(list, to);
    if (list[end]?.id === to) end++;
  }
  const start = from === '' ? Math.max(0, end - FEW) : Math.min(indexOf(list, from), end);
  return [start, end];
}

const make = (list, start, end) => ({ from: start === 0 ? START : (list[start]?.id ?? ''), to: end >= list.length ? '' : list[end - 1].id });

/** settle is the window of somebody who is at the end, when messages have come. */
export function settle(list, window) {
  const [start, end] = span(list, window);
  return window.to === '' && end - start > MOST ? make(list, list.length - FEW, list.length) : window;
}

/** hold is what is drawn now as a window that stays when newer messages come. */
export const hold = (list, window) => (window.from === '' ? make(list, ...span(list, window)) : window);

/** cap is a window that has not grown too large, with the message that is read in it. */
export function cap(list, window, read = '') {
  const [start, end] = span(list, window);
  if (end - start <= MOST + 2 * STEP) return window;
  const at = read === '' ? start : indexOf(list, read);
  const first = at - start < MOST / 2 ? start : Math.min(at - MOST / 2, end - MOST);
  return make(list, first, first + MOST);
}

/** earlier moves a window towards older messages; it returns it as it is at the first one. */
export function earlier(list, window) {
  const [start, end] = span(list, window);
  if (start === 0) return window;
  const next = Math.max(0, start - STEP);
  return make(list, next, Math.min(end, next + MOST));
}

/** later moves a window towards newer messages; it returns it as it is at the last one. */
export function later(list, window) {
  const [start, end] = span(list, window);
  if (end >= list.length) return window;
  const next = Math.min(list.length, end + STEP);
  return make(list, Math.max(start, next - MOST), next);
}

/** around is a window with a message in its middle. */
export function around(list, id) {
  const at = indexOf(list, id);
  const start = Math.max(0, at - FEW / 2);
  return make(list, start, Math.min(list.length, start + FEW));
}
