// Mentions: an @ and the name of a member, in any case. Pure functions. The time is linear in
// the text: after each @ at most NAME characters are read.

const PART = /[\p{L}\p{N}\p{M}\u200c\u200d]/u; // a character of a part of a name
const JOINT = /[ _.@-]/; // between parts
const NAME = 128; // UTF-16 units; a name has at most 64 characters
const MOST = 20_000; // names

const fold = (name) => name.normalize('NFC').toLowerCase();

// partEnd returns the end of the part of a name at i.
function partEnd(text, i, limit) {
  while (i < limit) {
    const c = String.fromCodePoint(text.codePointAt(i));
    if (!PART.test(c)) break;
    i += c.length;
  }
  return i;
}

// begins reports whether the @ at i may begin a mention: not within a word or an address.
function begins(text, i) {
  while (text[i - 1] === '_') i--;
  const low = text.charCodeAt(i - 1);
  const prior = text.slice(low >= 0xdc00 && low <= 0xdfff ? i - 2 : i - 1, i);
  return i === 0 || !/[\p{L}\p{N}\p{M}.@/-]/u.test(prior);
}

/** Members are the names for mentions, 20,000 at most; `size` is their number. */
export class Members {
  constructor(names = []) {
    this.names = new Set();
    this.parts = new Map(); // first part of names -> parts of the longest one
    for (const name of names) this.add(name);
  }

  get size() {
    return this.names.size;
  }

  /** add adds a name for good: users can be mentioned after they have left. */
  add(name) {
    const folded = fold(name);
    if (folded === '' || this.names.size >= MOST || this.names.has(folded)) return;
    this.names.add(folded);
    const first = folded.slice(0, partEnd(folded, 0, folded.length));
    const parts = folded.split(JOINT).filter(Boolean).length;
    this.parts.set(first, Math.max(parts, this.parts.get(first) ?? 0));
  }

  // endOf returns the end of the longest name at i, or i for none.
  endOf(text, i) {
    const limit = Math.min(text.length, i + NAME);
    let end = partEnd(text, i, limit);
    let found = i;
    for (let left = this.parts.get(fold(text.slice(i, end))) ?? 0; left > 0; left--) {
      let next = end;
      while (next < limit && JOINT.test(text[next])) next++;
      const after = partEnd(text, next, limit);
      // "@ada.b" is no mention of ada; "@ada b", "@ada..." and "@ada_" are.
      const whole = after === next || next - end > 1 || text[end] === ' ';
      if (whole && this.names.has(fold(text.slice(i, end)))) found = end;
      if (after === next) break;
      end = after;
    }
    return found;
  }

  /** find returns where members are mentioned in a text, as {start, end} with the @. */
  find(text) {
    const found = [];
    for (let at = text.indexOf('@'); at >= 0; at = text.indexOf('@', at + 1)) {
      const end = begins(text, at) ? this.endOf(text, at + 1) : at + 1;
      if (end === at + 1) continue;
      found.push({ start: at, end });
      at = end - 1;
    }
    return found;
  }

  /** mentions reports whether a text mentions the member with this name. */
  mentions(text, name) {
    const folded = fold(name);
    return this.find(text).some(({ start, end }) => fold(text.slice(start + 1, end)) === folded);
  }
}
