// Who is online, and who is writing.
import { ROOM } from './messages.js';

const TYPING_FOR = 5_000; // ms that a typing frame counts
const TYPING_EVERY = 3_000; // ms between typing frames of one's own

/**
 * People of the person `me`. `online` is a new Set after each change; the server
 * names only so many, `total` is how many there are.
 */
export class People {
  constructor({ me, changed }) {
    this.me = me;
    this.changed = changed;
    this.online = new Set();
    this.total = 0;
    this.writers = new Map(); // talk -> Map of name -> timer
    this.told = 0;
  }

  /** presence takes the whole list. */
  presence({ users, total }) {
    this.online = new Set([...(users ?? []), this.me]);
    this.total = Math.max(total ?? 0, this.online.size);
    this.changed();
  }

  /** status takes who came and who left. */
  status({ online, offline, total }) {
    const next = new Set(this.online);
    for (const name of online ?? []) next.add(name);
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

  /** stateOf tells whether somebody is "on", "away" or "off". */
  stateOf(name) {
    return this.online.has(name) ? 'on' : 'off';
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
