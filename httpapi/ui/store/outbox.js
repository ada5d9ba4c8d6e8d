// What was written and is not confirmed yet. A message keeps its ref until the
// server has acknowledged it: sent again with the same ref it is the same message,
// so after a lost connection or a reload everything left is simply sent again.
import { send as sendFrame, uuid } from '../connection/wire.js';
import { clean } from './messages.js';

const ANSWER_TIMEOUT = 15_000; // ms; the server itself gives up after 5 s
const PAUSE = 1_000; // ms before the next attempt when the server names no time
const LONGEST_PAUSE = 15_000; // ms

// After these codes the same message may be sent again; after any other the person
// has to decide.
const TRANSIENT = new Set(['rate_limited', 'unavailable']);

const nothing = { all: async () => [], put: async () => {}, remove: async () => {} };

/**
 * Outbox holds items {ref, talk, content, at, state, why} in the order in which they
 * were written. `state` is "queued", "sending" or "failed"; `why` says in words why
 * it failed. One is in flight at a time, or a refused one would come after its
 * successor.
 *
 *   send(text) -> bool   hands one frame to the connection
 *   stuck()              the server does not answer
 *   keep                 where items outlive a reload, see keep.js
 *   changed()            after any change
 */
export class Outbox {
  constructor({ send, stuck, changed, keep = nothing }) {
    Object.assign(this, { send, stuck, changed, keep });
    this.items = [];
    this.last = 0;
    this.done = new Set(); // refs that were confirmed or discarded here
    this.connected = false;
    this.notBefore = 0;
    this.failures = 0;
  }

  /** add queues a message and sends it as soon as it is its turn. */
  add(talk, content) {
    this.last = Math.max(this.last + 1, Date.now());
    const item = { ref: uuid(), talk, content: clean(content), at: this.last, state: 'queued', why: '' };
    this.items = [...this.items, item];
    this.keep.put(item);
    this.pump();
    this.changed();
  }

  /** load takes in what an earlier page, or a tab that is closed by now, has left. */
  async load() {
    const left = await this.keep.all();
    const known = new Set(this.items.map((it) => it.ref));
    const found = left
      .filter((it) => !known.has(it.ref) && !this.done.has(it.ref))
      .map(({ ref, talk, content, at, state, why }) => ({ ref, talk, content, at, state: state === 'failed' ? state : 'queued', why }));
    if (found.length === 0) return;
    this.items = [...this.items, ...found].sort((a, b) => a.at - b.at);
    this.last = Math.max(this.last, this.items.at(-1).at);
    this.pump();
    this.changed();
  }

  /** retry sends a failed item again. */
  retry(ref) {
    const item = this.items.find((it) => it.ref === ref && it.state === 'failed');
    if (item) this.change(item, { state: 'queued', why: '' });
    this.pump();
  }

  /** discard forgets a failed item. */
  discard(ref) {
    if (this.items.some((it) => it.ref === ref && it.state === 'failed')) this.forget(ref);
  }

  /** confirmed takes away the item with this ref and returns it, or undefined. */
  confirmed(ref) {
    const item = this.items.find((it) => it.ref === ref);
    if (!item) return undefined;
    this.failures = 0;
    this.forget(ref);
    this.pump();
    return item;
  }

  /** refused notes the server's error for an item; false when it is about none. */
  refused({ ref, code, message, retry_after_ms: retryAfter }) {
    const item = this.items.find((it) => it.ref === ref);
    if (!item) return false;
    if (TRANSIENT.has(code)) {
      const pause = Math.min(LONGEST_PAUSE, PAUSE * 2 ** this.failures++);
      this.notBefore = Date.now() + (retryAfter > 0 ? retryAfter : pause);
      this.change(item, { state: 'queued' });
    } else {
      this.change(item, { state: 'failed', why: message });
    }
    this.pump();
    return true;
  }

  /** opened: there is a connection to send on. */
  opened() {
    this.connected = true;
    this.notBefore = 0;
    this.pump();
    return this.load(); // what a tab that was closed has left
  }

  /**
   * closed: what was in flight is sent again later, unless it is to blame: then
   * `fatal` says why.
   */
  closed(fatal = '') {
    this.connected = false;
    clearTimeout(this.pumpTimer);
    clearTimeout(this.timer);
    const flying = this.items.find((it) => it.state === 'sending');
    if (flying) this.change(flying, fatal ? { state: 'failed', why: fatal } : { state: 'queued' });
    this.changed();
  }

  change(item, values) {
    if (item.state === 'sending') clearTimeout(this.timer);
    const next = { ...item, ...values };
    this.items = this.items.map((it) => (it === item ? next : it));
    if (next.state === 'failed' || item.state === 'failed') this.keep.put(next);
    this.changed();
  }

  forget(ref) {
    if (this.items.find((it) => it.ref === ref).state === 'sending') clearTimeout(this.timer);
    this.done.add(ref);
    this.items = this.items.filter((it) => it.ref !== ref);
    this.keep.remove(ref);
    this.changed();
  }

  pump() {
    clearTimeout(this.pumpTimer);
    if (!this.connected || this.items.some((it) => it.state === 'sending')) return;
    const item = this.items.find((it) => it.state === 'queued');
    if (!item) return;
    const wait = this.notBefore - Date.now();
    if (wait > 0) {
      this.pumpTimer = setTimeout(() => this.pump(), wait);
      return;
    }
    if (!this.send(sendFrame(item))) return; // the end of the connection follows
    this.change(item, { state: 'sending' });
    this.timer = setTimeout(() => this.stuck(), ANSWER_TIMEOUT);
  }
}
