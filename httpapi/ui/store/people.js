// Who is online or away, and who is writing.
import { Members } from '../lib/mentions.js';
import { ROOM } from './messages.js';

const TYPING_FOR = 5_000; // ms that a typing frame counts
const TYPING_EVERY = 3_000; // ms between typing frames of one's own

const TYPED = 250; // ms without a key before the server is asked for a name

/**
 * People of the person `me`. `online` is a new Set after each change; the server
 * names only so many, `total` is how many there are. Of them `away` are not in front
 * of their screens. findUsers({q}) asks the server for names, as api.findUsers.
 * Every name goes into `members`.
 */
export class People {
  constructor({ me, changed, findUsers = async () => ({ users: [] }), members = new Members() }) {
    this.me = me;
    this.changed = changed;
    this.findUsers = findUsers;
    this.members = members;
    this.online = new Set();
    this.away = new Set();
    this.wanted = ''; // the part of a name that is looked for
    this.found = []; // names that the server has found for it
    this.total = 0;
    this.writers = new Map(); // talk -> Map of name -> timer
    this.told = 0;
  }

  /** presence takes the whole list. */
  presence({ users, total, away }) {
    this.online = new Set([...(users ?? []), this.me]);
    for (const name of this.online) this.members.add(name);
    this.away = new Set(away);
    this.total = Math.max(total ?? 0, this.online.size);
    this.changed();
  }

  /** status takes who came and left, and who is away and back. */
  status({ online, offline, total, away, back }) {
    const next = new Set(this.online);
    for (const name of online ?? []) {
      next.add(name);
      this.members.add(name);
      this.away.delete(name);
    }
    for (const name of away ?? []) this.away.add(name);
    for (const name of back ?? []) this.away.delete(name);
    for (const name of offline ?? []) {
      if (name === this.me) continue; // our own old socket's end
      next.delete(name);
      this.stopped(ROOM, name);
      this.stopped(name, name);
    }
    this.online = next;
    this.total = Math.max(total ?? 0, 1);
    this.changed();
  }

  /** stateOf tells whether somebody is "on", "away" or "off"; '' when it is not known. */
  stateOf(name) {
    if (!this.online.has(name) && !this.found.includes(name)) return this.total > this.online.size ? '' : 'off';
    return this.away.has(name) ? 'away' : 'on';
  }

  /** look looks for a part of a name, also among those whom the server has not named. */
  look(wanted) {
    this.wanted = wanted;
    clearTimeout(this.looking);
    if (wanted === '') this.found = [];
    else if (this.total > this.online.size) this.looking = setTimeout(() => this.ask(wanted), TYPED);
    this.changed();
  }

  async ask(wanted) {
    try {
      const { users } = await this.findUsers({ q: wanted });
      if (wanted !== this.wanted) return;
      this.found = users.map((user) => user.name);
      for (const name of this.found) this.members.add(name);
      for (const user of users) if (user.away) this.away.add(user.name);
      this.changed();
    } catch {
      // Those who are named are found without the server.
    }
  }

  /** writing returns who is writing in a talk. */
  writing(talk) {
    return [...(this.writers.get(talk)?.keys() ?? [])];
  }

  /** typing notes that somebody is writing, for a while. */
  typing({ client_id: name, to_user: to }) {
    if (typeof name !== 'string' || name === this.me) return;
    const talk = to ? name : ROOM;
    let names = this.writers.get(talk);
    if (!names) this.writers.set(talk, (names = new Map()));
    clearTimeout(names.get(name));
    names.set(name, setTimeout(() => this.stopped(talk, name), TYPING_FOR));
    this.changed();
  }

  /** stopped: somebody has said what they wrote, or left. */
  stopped(talk, name) {
    const names = this.writers.get(talk);
    if (!names?.has(name)) return;
    clearTimeout(names.get(name));
    names.delete(name);
    this.changed();
  }

  /** tells returns whether it is time to tell others that one is writing oneself. */
  tells() {
    const now = Date.now();
    if (now - this.told < TYPING_EVERY) return false;
    this.told = now;
    return true;
  }

  /** gone: without a connection nobody is known to write. */
  gone() {
    for (const names of this.writers.values()) for (const timer of names.values()) clearTimeout(timer);
    this.writers.clear();
    this.told = 0;
  }
}
