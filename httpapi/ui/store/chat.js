// Chat is what one person sees: talks, people, what is unread. It knows no DOM;
// app.js joins it to the connection and to the views.
import { frames, isChat, typing } from '../connection/wire.js';
import { sentence } from '../lib/text.js';
import { merge, ROOM, talkOf } from './messages.js';
import { Outbox } from './outbox.js';
import { fillGap, loadOlder } from './past.js';
import { People } from './people.js';

const ROOM_KEEP = 1000; // messages of the room kept on the page
const ROOM_SLACK = 200; // how many more before the oldest are let go
const NOTICE_FOR = 8_000; // ms that a notice stays
const CAUGHT_UP_FOR = 6_000; // ms
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
 *   keep                               what outlives a reload, see keep.js
 *   changed()                          something is different; may come often
 */
export class Chat {
  constructor({ me, send, reconnect = () => {}, history, visible = () => true, partners = [], remember = () => {}, keep, changed = () => {} }) {
    Object.assign(this, { me, send, history, visible, remember, changed });
    this.outbox = new Outbox({ send, stuck: reconnect, keep, changed: () => this.changed() });
    this.people = new People({ me, changed: () => this.changed() });
    this.talks = new Map([[ROOM, emptyTalk(ROOM)]]);
    for (const name of partners) this.talks.set(name, emptyTalk(name));
    this.active = ROOM;
    this.atBottom = true; // told by the log; old messages may only go while true
    this.maxBytes = 0; // of a message; 0 until the server has told
    this.since = ''; // the last message that came live, to resume after
    this.notice = null;
    this.caughtUp = null; // {count} for a while after a reconnect
    this.connected = false;
    this.settled = false; // the messages that a connection begins with are in
    this.everSettled = false;
    this.drafts = new Map(); // talk -> text; views read and write it
  }

  get online() {
    return this.people.online;
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

  /** opened: the handshake is done; nothing counts before the welcome. */
  opened() {
    this.settled = false;
    this.changed();
  }

  /** closed: `fatal` says why the message in flight is to blame, if it is. */
  closed(fatal = '') {
    this.connected = false;
    this.people.gone();
    this.outbox.closed(fatal);
    this.changed();
  }

  /** stop ends everything that waits. The Chat is not used afterwards. */
  stop() {
    this.closed();
    this.stopped = true;
    clearTimeout(this.noticeTimer);
    clearTimeout(this.caughtUpTimer);
  }

  /** frame takes one WebSocket message; frames it does not know are skipped. */
  frame(text) {
    for (const f of frames(text)) {
      if (f.chat) this.message(f.chat);
      else if (f.ack) this.acknowledged(f.ack);
      else if (f.typing) this.people.typing(f.typing);
      else if (f.status) this.people.status(f.status);
      else if (f.welcome) this.welcome(f.welcome);
      else if (f.presence) this.present(f.presence);
      else if (f.error) this.refused(f.error);
    }
  }

  welcome({ recovered, max_content_bytes: maxBytes, private_gap: privateGap }) {
    this.connected = true;
    this.maxBytes = maxBytes > 0 ? maxBytes : 0;
    this.missed = this.everSettled ? 0 : null; // counted while catching up
    const gaps = recovered ? [] : [...this.talks.values()].filter((t) => (t.key === ROOM ? t.messages.length > 0 : t.hasMore !== null));
    this.gaps = gaps.map((talk) => [talk.key, talk.messages.at(-1)?.id ?? null]);
    this.firstBack = ''; // of the room, on this connection
    if (privateGap) this.say('Private messages may have been lost while you were away: this server does not keep them.');
    this.changed();
  }

  // present ends what a connection begins with: from here on, what comes is live.
  present(list) {
    this.people.presence(list);
    this.settled = true;
    this.everSettled = true;
    const filling = (this.gaps ?? []).map(([key, after]) => {
      if (key === ROOM && this.firstBack !== '' && this.firstBack <= after) return null; // no hole
      return fillGap(this, key, after, key === ROOM ? this.firstBack : '');
    });
    this.gaps = [];
    const told = this.missed;
    Promise.all(filling).then(() => this.tellCaughtUp(told !== null));
    this.outbox.opened();
    this.changed();
  }

  tellCaughtUp(again) {
    if (!again || !this.connected || this.stopped) return;
    this.caughtUp = { count: this.missed };
    this.missed = null;
    clearTimeout(this.caughtUpTimer);
    this.caughtUpTimer = setTimeout(() => {
      this.caughtUp = null;
      this.changed();
    }, CAUGHT_UP_FOR);
    this.changed();
  }

  message(msg) {
    if (!isChat(msg)) return;
    this.since = msg.id;
    const key = talkOf(msg, this.me);
    if (key === ROOM && (this.firstBack === '' || msg.id < this.firstBack)) this.firstBack = msg.id;
    this.people.stopped(key, msg.sender);
    this.take(key, [msg], { live: true });
  }

  // acknowledged: the broker has it. It is shown as it will come back.
  acknowledged({ ref, id, sent_at }) {
    const item = this.outbox.confirmed(ref);
    if (item && id) this.take(item.talk, [{ id, sender: this.me, content: item.content, to_user: item.talk, sent_at, ref }], { live: true });
  }

  refused(error) {
    const why = sentence(String(error.message ?? '')) || 'The server refused the message.';
    const transient = this.outbox.refused({ ...error, message: why });
    if (!transient) this.say(why);
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

  // take merges messages into a talk. Live ones can be unread and can be one's own
  // coming back; pages from further back are neither.
  take(key, messages, { live }) {
    const talk = this.talk(key);
    const { list, added } = merge(talk.messages, messages.filter(isChat));
    if (live) for (const msg of messages) if (msg.sender === this.me && msg.ref) this.outbox.confirmed(msg.ref);
    if (added.length === 0) return;
    talk.messages = list;
    if (live) {
      this.count(talk, added);
      this.trim(talk);
    }
    this.changed();
  }

  count(talk, added) {
    const theirs = added.filter((msg) => msg.sender !== this.me);
    if (this.missed !== null && this.missed !== undefined) this.missed += theirs.length;
    if (talk.key === this.active && this.visible()) return;
    // What was said before one came is not unread.
    if (!this.everSettled && talk.key === ROOM) return;
    for (const msg of theirs) {
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
  loadOlder(key) {
    return loadOlder(this, key);
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

  /** writes tells others, now and then, that something is being written. */
  writes(key) {
    if (this.connected && this.people.tells()) this.send(typing(key));
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
