// Chat is what one person sees: talks, people, what is unread. It knows no DOM;
// app.js joins it to the connection and to the views.
import { activity, frames, isChat, typing } from '../connection/wire.js';
import { Members } from '../lib/mentions.js';
import { sentence } from '../lib/text.js';
import { Drafts } from './drafts.js';
import { loadNewer, openAt } from './excerpt.js';
import { merge, ROOM, talkOf } from './messages.js';
import { Notices } from './notices.js';
import { Outbox } from './outbox.js';
import { fillGap, loadOlder, recall } from './past.js';
import { People } from './people.js';
import { ReadMarks } from './read.js';
import { Search } from './search.js';
import { Settings } from './settings.js';
import { byNews, emptyTalk, recount } from './talk.js';

const ROOM_KEEP = 1000; // messages of the room kept on the page
const ROOM_SLACK = 200; // how many more before the oldest are let go
const PARTNERS = 50; // people remembered for the list of private talks

const forgetful = { get: (_, otherwise) => otherwise, set: () => {} };
const alone = { on: {}, tell: () => {} };

/**
 * Chat of the person `me`.
 *   send(text) -> bool, reconnect()    the connection
 *   history({before, after, talk, limit})  a page of the archive, as api.getHistory
 *   conversations()                    the private talks of the archive, as api.getConversations
 *   find({q, before, talk, limit})     a page of hits, as api.search
 *   findUsers({q})                     names, as api.findUsers
 *   visible() -> bool                  whether the person can see the page
 *   memory, tabs                       what the browser remembers, and its other tabs
 *   keep                               messages that outlive a reload, see keep.js
 *   arrived(msg, key)                  somebody has just said something
 *   changed()                          something is different; may come often
 */
export class Chat {
  constructor({ me, send, reconnect = () => {}, history, conversations, find, findUsers, visible = () => true, memory = forgetful, tabs = alone, keep, arrived = () => {}, changed = () => {} }) {
    Object.assign(this, { me, send, history, conversations, visible, memory, arrived, changed });
    const told = () => this.changed();
    this.outbox = new Outbox({ send, stuck: reconnect, keep, changed: told });
    this.members = new Members([me]);
    this.people = new People({ me, changed: told, findUsers, members: this.members });
    this.notices = new Notices(told);
    this.search = new Search({ find, changed: told });
    this.drafts = new Drafts({ memory, tabs, changed: told });
    this.settings = new Settings({ memory, tabs, changed: told });
    this.read = new ReadMarks({ memory, tabs, changed: (key) => this.recount(key) });
    // Messages are immutable, and counted again with each one that comes: what was found is kept.
    const called = new WeakMap();
    this.calls = (msg) => {
      if (talkOf(msg, me) !== ROOM || !msg.content.includes('@')) return false;
      if (!called.has(msg)) called.set(msg, this.members.mentions(msg.content, me));
      return called.get(msg);
    };
    this.talks = new Map([[ROOM, emptyTalk(ROOM)]]);
    for (const name of memory.get('talks', [])) if (typeof name === 'string' && name !== ROOM) this.talks.set(name, emptyTalk(name));
    for (const name of this.talks.keys()) if (name !== ROOM) this.members.add(name);
    this.active = ROOM;
    this.atBottom = true; // told by the log; old messages may only go while true
    this.maxBytes = 0; // of a message; 0 until the server has told
    this.since = ''; // the last message that came live, to resume after
    this.connected = false;
    this.settled = false; // the messages that a connection begins with are in
    this.everSettled = false;
    this.away = false; // nobody is in front of the screen
    this.keepsPrivate = true; // the server archives private messages
    this.lost = false; // private messages may be lost, and one has not been told yet
    this.missed = null; // messages of others that came while catching up; null: one is not
  }

  get online() {
    return this.people.online;
  }

  /** stateOf tells whether somebody is "on", "away" or "off"; '' when it is not known. */
  stateOf(name) {
    if (!this.connected) return '';
    return this.people.stateOf(name);
  }

  get unread() {
    let sum = 0;
    for (const talk of this.talks.values()) sum += talk.unread;
    return sum;
  }

  /** privateTalks returns the private talks, the one with the latest news first. */
  get privateTalks() {
    return byNews([...this.talks.values()].filter((talk) => talk.key !== ROOM));
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
    this.notices.stop();
    this.search.stop();
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

  welcome({ recovered, max_content_bytes: maxBytes, private_gap: privateGap, private_not_archived: notArchived }) {
    this.connected = true;
    this.maxBytes = maxBytes > 0 ? maxBytes : 0;
    if (this.everSettled) this.missed = 0;
    const gaps = recovered ? [] : [...this.talks.values()].filter((t) => (t.key === ROOM ? t.messages.length > 0 : t.hasMore !== null));
    this.gaps = gaps.map((talk) => [talk.key, talk.messages.at(-1)?.id ?? null]);
    this.firstBack = ''; // of the room, on this connection
    this.keepsPrivate = !notArchived;
    this.lost ||= Boolean(privateGap);
    this.changed();
  }

  // present ends what a connection begins with: from here on, what comes is live.
  present(list) {
    this.people.presence(list);
    const first = !this.everSettled;
    this.settled = this.everSettled = true;
    if (first) this.begin();
    const filling = (this.gaps ?? []).map(([key, after]) => {
      if (key === ROOM && this.firstBack !== '' && this.firstBack <= after) return null; // no hole
      return fillGap(this, key, after, key === ROOM ? this.firstBack : '');
    });
    this.gaps = [];
    if (!first || this.lost) Promise.all(filling).then(() => this.tellCaughtUp());
    if (this.away) this.send(activity(true)); // a connection begins with somebody there
    this.outbox.opened();
    this.changed();
  }

  // begin: what was said before one came for the first time is not unread; what came
  // since the last visit is.
  begin() {
    const room = this.talks.get(ROOM);
    const first = !this.read.has(ROOM) && !this.memory.get('visited', false); // a room may stay empty
    this.memory.set('visited', true);
    if (!this.read.has(ROOM) && room.messages.length > 0) this.read.advance(ROOM, room.messages.at(-1).id);
    for (const key of this.talks.keys()) this.recount(key);
    this.seen();
    recall(this, first);
  }

  tellCaughtUp() {
    if (!this.connected || this.stopped) return;
    this.notices.caughtUpWith(this.missed, this.lost);
    this.missed = null;
    this.lost = false;
  }

  message(msg) {
    if (!isChat(msg)) return;
    this.since = msg.id;
    const key = talkOf(msg, this.me);
    if (key === ROOM && (this.firstBack === '' || msg.id < this.firstBack)) this.firstBack = msg.id;
    this.people.stopped(key, msg.sender);
    const theirs = msg.sender !== this.me;
    if (!theirs) this.respelled(msg, key);
    if (this.take(key, [msg], { live: true, late: this.settled }) && this.settled && theirs) this.arrived(msg, key);
  }

  // respelled moves on to the talk of a message that was written in the open one, where its user has another
  // spelling: the server answers with the spelling of the user's claim.
  respelled(msg, key) {
    const talk = this.talks.get(this.active);
    const shown = (m) => m.id === msg.id; // The acknowledgement came first.
    if (!talk || talk.key === key || !(talk.messages.some(shown) || this.outbox.items.some((it) => it.ref === msg.ref && it.talk === talk.key))) return;
    talk.messages = talk.messages.filter((m) => !shown(m));
    for (const it of this.outbox.items) if (it.talk === talk.key) it.talk = key;
    this.open(key);
    if (talk.messages.length === 0) this.talks.delete(talk.key);
  }

  // acknowledged: the broker has it. It is shown as it will come back.
  acknowledged({ ref, id, sent_at }) {
    const item = this.outbox.confirmed(ref);
    if (item && id) this.take(item.talk, [{ id, sender: this.me, content: item.content, to_user: item.talk, sent_at, ref }], { live: true });
  }

  refused(error) {
    const why = sentence(String(error.message ?? '')) || 'The server refused the message.';
    const transient = this.outbox.refused({ ...error, message: why });
    if (!transient) this.notices.say(why);
  }

  // ---- messages ----

  talk(key) {
    let talk = this.talks.get(key);
    if (!talk) {
      talk = emptyTalk(key);
      this.members.add(key);
      this.talks.set(key, talk);
      this.memory.set('talks', this.privateTalks.map((t) => t.key).slice(0, PARTNERS));
    }
    return talk;
  }

  // take merges messages into a talk, and tells whether there were new ones. Live ones
  // can be unread and can be one's own coming back; pages from further back are neither.
  // One that has just been said is not read, even if its id is a little less than those
  // of others that are (late).
  take(key, messages, { live, late = false }) {
    const talk = this.talk(key);
    const { list, added } = merge(talk.messages, messages.filter(isChat));
    if (live) for (const msg of messages) if (msg.sender === this.me && msg.ref) this.outbox.confirmed(msg.ref);
    if (added.length === 0) return false;
    talk.messages = list;
    for (const msg of added) this.members.add(msg.sender);
    if (live) {
      if (late) this.read.lower(key, added[0].id);
      this.count(talk, added);
      this.trim(talk);
    } else if (key === this.active && this.visible() && this.everSettled) {
      this.read.advance(key, list.at(-1).id); // one looks at them as they come
      this.recount(key);
    }
    this.changed();
    return true;
  }

  count(talk, added) {
    const theirs = added.filter((msg) => msg.sender !== this.me);
    if (this.missed !== null) this.missed += theirs.length;
    if (!this.everSettled || theirs.length === 0) return;
    const seen = talk.key === this.active && this.visible();
    if (seen && this.missed !== null) talk.marker ??= theirs[0].id;
    if (seen) this.read.advance(talk.key, talk.messages.at(-1).id);
    this.recount(talk.key);
  }

  /** recount counts what is unread in a talk, as far as it was read here or in another tab. */
  recount(key) {
    const talk = this.talks.get(key);
    if (!talk || !this.everSettled) return;
    recount(talk, this.read.at(key), this.me, this.calls);
    this.changed();
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

  /** loadNewer fetches the page after an excerpt. */
  loadNewer(key) {
    return loadNewer(this, key);
  }

  // ---- what the person does ----

  /** openAt shows a message of a talk, with what was said around it. */
  openAt(key, id) {
    return openAt(this, key, id);
  }

  /** open shows a talk, starting it if need be. */
  open(key) {
    const left = this.talks.get(this.active);
    if (key !== this.active && left) left.marker = null;
    this.active = key;
    this.atBottom = true;
    Object.assign(this.talk(key), { excerpt: null, target: null });
    this.seen();
    this.changed();
  }

  /** seen marks the open talk as read, if the page can be seen at all. */
  seen() {
    const talk = this.talks.get(this.active);
    if (!this.visible() || !this.everSettled || talk.messages.length === 0) return;
    const first = recount(talk, this.read.at(talk.key), this.me, this.calls);
    this.read.advance(talk.key, talk.messages.at(-1).id);
    if (first === null) return;
    talk.marker = first;
    this.recount(talk.key);
  }

  /** leave tells others that one is not in front of the screen, or is again. */
  leave(away) {
    this.away = away;
    if (this.connected) this.send(activity(away));
  }

  /** writes tells others, now and then, that something is being written. */
  writes(key) {
    if (this.connected && this.people.tells()) this.send(typing(key));
  }
}
