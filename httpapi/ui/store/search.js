// Looking for words in all that one may read.

const TYPED = 250; // ms without a key before the server is asked
const PAGE = 30; // hits asked for at a time
const BEHIND = 2_000; // ms before a server that has not searched everything is asked again
const TRIES = 5;
const REFUSED = 'That cannot be searched for. Try up to 32 words, or symbols.'; // the server's reason is for programs

/**
 * Search is `query`, the `hits` ({…message, marks}, the newest first) and how it goes.
 *   find({q, before, talk, limit})  a page of hits, as api.search; talk null: everywhere
 *   changed()                       after any change
 */
export class Search {
  constructor({ find, changed }) {
    Object.assign(this, { find, changed });
    this.open = false; // whether it is shown
    this.query = '';
    this.talk = null; // the key of the only talk to look in
    this.clear();
  }

  clear() {
    this.turn = (this.turn ?? 0) + 1; // what an earlier turn brings is too late
    Object.assign(this, { hits: [], hasMore: false, loading: false, trouble: '', done: false, behind: 0 });
  }

  /** show opens or closes the search; what was found stays. */
  show(open) {
    this.open = open;
    this.changed();
  }

  /** type takes what is in the field; the server is asked when one stops typing. */
  type(query) {
    this.query = query;
    clearTimeout(this.timer);
    this.clear();
    this.loading = query.trim() !== '';
    if (this.loading) this.timer = setTimeout(() => this.load(), TYPED);
    this.changed();
  }

  /** within looks in one talk only, or with null everywhere. */
  within(talk) {
    this.talk = talk;
    this.type(this.query);
  }

  /** more fetches the page after the last hit. */
  more() {
    if (this.loading || !this.hasMore) return undefined;
    return this.load();
  }

  async load(again = 0) {
    const { turn } = this;
    clearTimeout(this.timer);
    this.loading = true;
    this.trouble = '';
    this.changed();
    try {
      const page = await this.find({ q: this.query.trim(), before: again > 0 ? '' : (this.hits.at(-1)?.id ?? ''), talk: this.talk, limit: PAGE });
      if (turn !== this.turn) return;
      if (again > 0) this.hits = [];
      const first = this.hits.length === 0;
      this.hits = [...this.hits, ...(page.messages ?? [])];
      this.hasMore = Boolean(page.has_more);
      this.behind = page.behind ?? 0;
      this.done = true;
      // The newest messages come to the search a moment after they were said.
      if (first && this.behind > 0 && again < TRIES) this.timer = setTimeout(() => this.load(again + 1), BEHIND);
    } catch (err) {
      if (turn !== this.turn) return;
      this.trouble = err.status === 400 ? REFUSED : err.message;
    }
    this.loading = false;
    this.changed();
  }

  stop() {
    clearTimeout(this.timer);
    this.turn++;
  }
}

const BEFORE = 40; // characters shown before the first hit
const LENGTH = 180;

// wordAt returns where the next word begins, if that is not far from at and before the hit.
function wordAt(content, at, hit) {
  const gap = /\s+/.exec(content.slice(at, Math.min(at + 20, hit)));
  return gap ? at + gap.index + gap[0].length : at;
}

/**
 * snippet cuts a message to what is around its first mark: parts {text, hit}, where
 * marks are pairs of begin and end in the content.
 */
export function snippet(content, marks) {
  const good = (marks ?? []).filter(([from, to]) => from >= 0 && from < to && to <= content.length);
  const first = good[0]?.[0] ?? 0;
  // Not within a surrogate pair: half of one is no character.
  const whole = (i) => (i > 0 && i < content.length && /[\udc00-\udfff]/.test(content[i]) ? i - 1 : i);
  const from = first > BEFORE * 1.5 ? wordAt(content, whole(first - BEFORE), first) : 0;
  const end = whole(Math.min(content.length, from + LENGTH));
  const parts = [];
  let at = from;
  const put = (to, hit) => {
    if (to > at) parts.push({ text: content.slice(at, to), hit });
    at = Math.max(at, to);
  };
  for (const [a, b] of good) {
    if (a >= end) break;
    if (a < at) continue;
    put(a, false);
    put(Math.min(b, end), true);
  }
  put(end, false);
  if (from > 0) parts.unshift({ text: '…', hit: false });
  if (end < content.length) parts.push({ text: '…', hit: false });
  return parts;
}
