// Chat is what one person sees: talks, people, what is unread. It knows no DOM;
// app.js joins it to the connection and to the views.
import { ROOM, merge, talkOf } from './logic.js';
import { Outbox } from './outbox.js';
import { sentence } from './text.js';

const PAGE = 50; // messages asked for at a time
const GAP_PAGES = 20; // pages fetched to close a gap before giving up on it
const ROOM_KEEP = 1000; // messages of the room kept on the page
const ROOM_SLACK = 200; // how many more before the oldest are let go
const SETTLED_AFTER = 1_500; // ms; history frames come at once or not at all
const NOTICE_FOR = 8_000; // ms that a notice stays
const PARTNERS = 50; // people remembered for the list of private talks

const emptyTalk = (key) => ({
  key,
  messages: [], // by id, without holes: what is missing is older than the first
  hasMore: null, // whether the archive has older ones; null: not asked yet
  loading: false,
  trouble: '', // why older ones could not be loaded
  unread: 0,
  firstUnread: null, // id
  marker: null, // id above which the "new" line is drawn while the talk is open
});

/**
 * Chat of the person `me`.
 *   send(text) -> bool, reconnect()    the connection
 *   history({before, talk, limit})     a page of the archive, as api.getHistory
 *   visible() -> bool                  whether the person can see the page
 *   partners, remember(names)          the private talks of earlier visits
 *   changed()                          something is different; may come often
 */
export class Chat {
  constructor({ me, send, reconnect = () => {}, history, visible = () => true, partners = [], remember = () => {}, changed = () => {} }) {
    Object.assign(this, { me, history, visible, remember, changed });
    this.outbox = new Outbox({ send, stuck: reconnect, changed: () => this.changed() });
    this.talks = new Map([[ROOM, emptyTalk(ROOM)]]);
    for (const name of partners) this.talks.set(name, emptyTalk(name));
    this.active = ROOM;
    this.atBottom = true; // told by the log; old messages may only go while true
    this.online = new Set();
    this.notice = null;
    this.connected = false;
    this.everSettled = false;
    this.settled = false; // the history that a connection begins with is in
    this.drafts = new Map(); // talk -> text; views read and write it
  }

  get unread() {
    let sum = 0;
    for (const talk of this.talks.values()) sum += talk.unread;
    return sum;
  }

  /** privateTalks returns the private talks, the one with the latest news first. */
  get privateTalks() {
    const last = (talk) => talk.messages.at(-1)?.id ?? '';
    const all = [...this.talks.values()].filter((talk) => talk.key !== ROOM);
    return all.sort((a, b) => (last(a) < last(b) ? 1 : last(a) > last(b) ? -1 : a.key.localeCompare(b.key)));
  }

  // ---- what the connection tells ----

  opened() {
    this.connected = true;
    // Who left meanwhile is not in the status frames that follow, so the list
    // starts anew.
    this.online = new Set([this.me]);
    this.settled = false;
    this.gapAfter = this.talks.get(ROOM).messages.at(-1)?.id ?? null;
    clearTimeout(this.settleTimer);
    this.settleTimer = setTimeout(() => this.settle(), SETTLED_AFTER);
    for (const talk of this.talks.values()) {
      // The server begins with the room only; private talks have to be asked for.
      if (talk.key !== ROOM && talk.hasMore !== null) this.fillGap(talk.key, talk.messages.at(-1)?.id ?? null, '');
    }
    this.outbox.opened();
    this.changed();
  }

  /** closed: `maybeSent` is false when what was in flight surely did not arrive. */
  closed(why = 'The connection was lost.', maybeSent = true) {
    this.connected = false;
    clearTimeout(this.settleTimer);
    this.outbox.closed(why, maybeSent);
  }

  /** stop ends everything that waits. The Chat is not used afterwards. */
  stop() {
    this.closed();
    this.stopped = true;
    clearTimeout(this.noticeTimer);
  }

  /** frame takes one text frame of the plain protocol; unknown ones are skipped. */
  frame(text) {
    let f;
    try {
      f = JSON.parse(text);
    } catch {
      return;
    }
    if (f === null || typeof f !== 'object') return;
    if (f.error && typeof f.error === 'object') this.refused(f.error);
    else if (typeof f.client_id === 'string') this.status(f);
    else if (typeof f.id === 'string' && typeof f.content === 'string') this.message(f);
  }

  refused(error) {
    const why = sentence(String(error.message ?? '')) || 'The server refused the message.';
    this.outbox.refused({ ...error, message: why });
    this.say(why);
  }

  status({ client_id: name, online }) {
    this.online = new Set(this.online);
    if (online || name === this.me) this.online.add(name);
    else this.online.delete(name);
    // Statuses come after the history: from here on, what comes is live.
    this.settle();
    this.changed();
  }

  message(msg) {
    const key = talkOf(msg, this.me);
    if (key === ROOM && this.gapAfter !== undefined) this.closeGap(msg.id);
    this.take(key, [msg], { live: true });
  }

  settle() {
    clearTimeout(this.settleTimer);
    if (this.settled) return;
    this.settled = true;
    this.everSettled = true;
    this.closeGap('');
    this.changed();
  }

  // closeGap runs once per connection, with the first message of the room that it
  // brought: what lies between that and the last one from before is missing.
  closeGap(first) {
    const after = this.gapAfter;
    this.gapAfter = undefined;
    if (after && (first === '' || first > after)) this.fillGap(ROOM, after, first);
  }

  // ---- messages ----

  talk(key) {
    let talk = this.talks.get(key);
    if (!talk) {
      talk = emptyTalk(key);
      this.talks.set(key, talk);
      this.remember(this.privateTalks.map((t) => t.key).slice(0, PARTNERS));
    }
    return talk;
  }

  // take merges messages into a talk. Live ones can be unread and can be the echo
  // of something sent from here; pages from further back are neither.
  take(key, messages, { live }) {
    const talk = this.talk(key);
    const { list, added } = merge(talk.messages, messages);
    if (added.length === 0) return;
    talk.messages = list;
    if (live) {
      for (const msg of added) this.outbox.arrived(msg, this.me);
      this.count(talk, added);
      this.trim(talk);
    }
    this.changed();
  }

  count(talk, added) {
    if (talk.key === this.active && this.visible()) return;
    // What was said before one came is not unread.
    if (!this.everSettled && talk.key === ROOM) return;
    for (const msg of added) {
      if (msg.sender === this.me) continue;
      talk.unread++;
      if (talk.firstUnread === null || msg.id < talk.firstUnread) talk.firstUnread = msg.id;
    }
  }

  // A page that stays open for weeks must not grow without end. Only the room is
  // trimmed: the archive surely has it, and may not keep private talks.
  trim(talk) {
    if (talk.key !== ROOM || talk.messages.length <= ROOM_KEEP + ROOM_SLACK) return;
    if (talk.key === this.active && !this.atBottom) return; // somebody reads there
    talk.messages = talk.messages.slice(-ROOM_KEEP);
    talk.hasMore = true;
  }

  /** loadOlder fetches the page before the oldest message of a talk. */
  async loadOlder(key) {
    const talk = this.talks.get(key);
    if (!talk || talk.loading || talk.hasMore === false) return;
    talk.loading = true;
    talk.trouble = '';
    this.changed();
    try {
      // A private talk is asked for from its newest message the first time: live
      // messages may have come in before it was opened, with a hole before them.
      const before = key !== ROOM && talk.hasMore === null ? '' : (talk.messages[0]?.id ?? '');
      const page = await this.history({ before, talk: key, limit: PAGE });
      if (this.stopped) return;
      talk.hasMore = Boolean(page.has_more);
      this.take(key, page.messages ?? [], { live: false });
    } catch (err) {
      talk.trouble = err.message;
    } finally {
      talk.loading = false;
      this.changed();
    }
  }

  // fillGap fetches backwards from `before` ('' is the newest) until it meets
  // `after`, the last message known from before the connection broke.
  async fillGap(key, after, before) {
    const talk = this.talks.get(key);
    let oldest = before;
    try {
      for (let i = 0; i < GAP_PAGES; i++) {
        const page = await this.history({ before: oldest, talk: key, limit: PAGE });
        if (this.stopped) return;
        const messages = page.messages ?? [];
        this.take(key, messages, { live: true });
        if (messages.length === 0 || !page.has_more) return;
        oldest = messages[0].id;
        if (after === null) return; // a talk that was empty: older pages on demand
        if (oldest <= after) return;
      }
    } catch (err) {
      if (this.stopped) return;
      this.say('Some messages that you missed could not be loaded. Scroll up to try again.');
      if (key !== ROOM) {
        // Nothing is let go here, because the archive may not keep private talks.
        talk.hasMore = null;
        talk.trouble = err.message;
        return;
      }
      if (oldest === '') {
        this.gapAfter = after; // the next message of the room tries again
        return;
      }
    }
    // Too far, or it failed. A list with a hole would be a lie: what lies before
    // the hole goes, and comes back with the rest when one scrolls up.
    talk.messages = talk.messages.filter((m) => m.id >= oldest);
    talk.hasMore = true;
    this.changed();
  }

  // ---- what the person does ----

  /** open shows a talk, starting it if need be. */
  open(key) {
    const left = this.talks.get(this.active);
    if (key !== this.active && left) left.marker = null;
    this.active = key;
    this.atBottom = true;
    this.talk(key);
    this.seen();
    this.changed();
  }

  /** seen marks the open talk as read, if the page can be seen at all. */
  seen() {
    const talk = this.talks.get(this.active);
    if (!this.visible() || talk.unread === 0) return;
    talk.marker = talk.firstUnread;
    talk.firstUnread = null;
    talk.unread = 0;
    this.changed();
  }

  /** say shows a notice near the composer for a while. */
  say(text) {
    clearTimeout(this.noticeTimer);
    this.notice = { text };
    this.noticeTimer = setTimeout(() => this.dismiss(), NOTICE_FOR);
    this.changed();
  }

  /** dismiss takes the notice away. */
  dismiss() {
    clearTimeout(this.noticeTimer);
    this.notice = null;
    this.changed();
  }
}
