// Names: which ones are taken, and how they look. Pure functions.

const NAME = /^[\p{L}\p{Nd}][\p{Mn}\p{Mc}]{0,6}(?:[ _.@-]*[\p{L}\p{Nd}][\p{Mn}\p{Mc}]{0,6})*$/u;
const MARKS = /[\p{Mn}\p{Mc}]{7}/u;
const UNSEEN = /\p{Default_Ignorable_Code_Point}/u; // Letters and marks without a shape.

/**
 * nameProblem says what is wrong with a name, or '' when it looks right. The
 * server decides; this only answers sooner.
 */
export function nameProblem(raw) {
  const name = raw.normalize('NFC').trim();
  if (name === '') return 'Please type a name.';
  if (name.length > 128 || [...name].length > 64) return 'A name has at most 64 characters.';
  if (name.normalize('NFKC').toLowerCase() === 'global') return 'The name “global” means everyone. Please choose another one.';
  if (name.includes('  ')) return 'Use single spaces only: two look like one.';
  if (NAME.test(name) && !UNSEEN.test(name)) return '';
  if (/[^\p{L}\p{Mn}\p{Mc}\p{Nd} _.@-]/u.test(name) || UNSEEN.test(name)) return 'Use only letters, digits, spaces and the signs _ - . @';
  if (MARKS.test(name)) return 'A letter can have at most six accents.';
  return 'A name starts and ends with a letter or a digit.';
}

/** initials returns one or two letters that stand for a name. */
export function initials(name) {
  const words = name.split(/[\s_.@-]+/).filter(Boolean);
  if (words.length === 0) return '?';
  const head = (word) => String.fromCodePoint(word.codePointAt(0)).toLocaleUpperCase();
  return words.length > 1 ? head(words[0]) + head(words[1]) : head(words[0]);
}

// Angles (oklch), distinct to the eye; none of the muddy ones around yellow.
const HUES = [8, 26, 44, 62, 140, 157, 174, 191, 208, 225, 242, 259, 276, 295, 316, 338];
const SEED = 62; // with it names of most examples get colours of their own

/** hue maps a name to a colour angle, the same on every machine. */
export function hue(name) {
  let hash = SEED; // FNV-1a, whose low bits alone hardly differ for short names
  for (const c of name) hash = Math.imul(hash ^ c.codePointAt(0), 16777619);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b); // so MurmurHash3's last steps spread all of them
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return HUES[((hash ^ (hash >>> 16)) >>> 0) % HUES.length];
}
