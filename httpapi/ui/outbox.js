// What was typed and is not in the log yet. The plain protocol has no
// acknowledgement: a message is sent when it comes back. So one message is in
// flight at a time, and an error frame can only be about that one.
import { clean, echoed } from './logic.js';

const ANSWER_TIMEOUT = 15_000; // ms; the server itself gives up after 5 s
const PAUSE = 1_000; // ms to wait after rate_limited without a hint

// After these codes the message may have got through all the same: the server
// did not get its confirmation, and a late one may still come.
const UNSURE = new Set(['unavailable', 'internal']);

/**
 * Outbox holds items {ref, talk, content, at, state, maybeSent, why} in the order
 * in which they were written. `state` is "queued", "sending" or "failed"; `why`
 * says in words why it failed; `maybeSent` is true when it may have arrived.
 *
 * send(text) hands one frame to the connection and returns whether it took it;
 * stuck() is called when the server does not answer; changed() after any change.
 */
export class Outbox {
  constructor({ send, stuck, changed }) {
    this.send = send;
    this.stuck = stuck;
    this.changed = changed;
    this.items = [];
    this.next = 1;
    this.connected = false;
    this.notBefore = 0;
  }

  /** add queues a message and sends it as soon as it is its turn. */
  add(talk, content) {
    this.push({ talk, content: clean(content) });
  }

  push({ talk, content }) {
    const item = { ref: this.next++, talk, content, at: Date.now(), state: 'queued', maybeSent: false, why: '' };
    this.items = [...this.items, item];
    this.pump();
    this.changed();
  }

  /** retry sends a failed item again, as the newest. */
  retry(ref) {
    const item = this.items.find((it) => it.ref === ref && it.state === 'failed');
    if (!item || !this.connected) return;
    this.discard(ref);
    this.push(item);
  }

  /** discard forgets a failed item. */
  discard(ref) {
    this.items = this.items.filter((it) => it.ref !== ref || it.state !== 'failed');
    this.changed();
  }

  /** arrived takes away the item that msg is the echo of, if there is one. */
  arrived(msg, me) {
    const i = echoed(this.items, msg, me);
    if (i < 0) return;
    if (this.items[i].state === 'sending') clearTimeout(this.timer);
    this.items = this.items.filter((_, at) => at !== i);
    this.pump();
    this.changed();
  }

  /** refused marks the item in flight with the server's error. */
  refused({ code, message, retry_after_ms: retryAfter }) {
    if (code === 'rate_limited') this.notBefore = Date.now() + (retryAfter > 0 ? retryAfter : PAUSE);
    this.failFlying(message, UNSURE.has(code));
    this.pump();
  }

  /** opened: there is a connection to send on. */
  opened() {
    this.connected = true;
    this.pump();
  }

  /**
   * closed: nothing more will be answered, nothing more can leave. What was in
   * flight may have arrived, unless maybeSent is false.
   */
  closed(why, maybeSent) {
    this.connected = false;
    clearTimeout(this.pumpTimer);
    this.failFlying(why, maybeSent);
    // Not sent by itself later: the talk may have moved on by then, so the
    // person decides.
    this.items = this.items.map((it) => (it.state === 'queued' ? { ...it, state: 'failed', why } : it));
    this.changed();
  }

  failFlying(why, maybeSent) {
    clearTimeout(this.timer);
    this.items = this.items.map((it) => (it.state === 'sending' ? { ...it, state: 'failed', maybeSent, why } : it));
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
    const taken = this.send(JSON.stringify({ content: item.content, to_user: item.talk }));
    const change = taken ? { state: 'sending' } : { state: 'failed', why: 'There is no connection.' };
    this.items = this.items.map((it) => (it === item ? { ...it, ...change } : it));
    if (taken) {
      this.timer = setTimeout(() => {
        this.failFlying('The server did not answer.', true);
        this.stuck();
      }, ANSWER_TIMEOUT);
    }
    this.changed();
  }
}
