// A connection that comes back: connect, wait, connect again. What carries it is a
// transport, by default a WebSocket, or what stands in for one.
import { reconnectDelay } from './backoff.js';
import { carrier } from './carrier.js';
import { ping } from './wire.js';

const CONNECT_TIMEOUT = 25_000; // ms for a handshake; a carrier tries several ways meanwhile
const STABLE_AFTER = 10_000; // ms open before failures are forgotten
const TICK = 5_000; // ms between looks at the clock
const QUIET = 20_000; // ms without a word after which the server is asked for one
const ANSWER = 8_000; // ms that it has for the answer
// A hidden tab's timers run once a minute, so a gap must be longer than that to
// mean that the machine slept.
const SLEPT = 150_000; // ms

/**
 * Connection keeps a connection to what `url()` returns open until stop. `transport`
 * makes one attempt and has the form of openSocket; by default it is what gets through, see carrier. The
 * handlers:
 *   opened()            a new connection: the server's welcome follows
 *   received(text)      one frame
 *   closed({code, reason})  it is gone, or an attempt failed; once for each
 *   changed()           `status` is new
 *   signedOut(reason)   close code 4401: nothing is tried any more
 *   mayRetry()          asked after a refused handshake, resolves to a boolean;
 *                       false ends the attempts. A browser does not tell a page
 *                       why a handshake was refused, so the page has to ask.
 *
 * status is {state: "connecting"|"open"|"waiting"|"stopped", failures, until,
 * code, reason}; `until` is when the next attempt starts, in ms since 1970.
 * everOpen tells whether any attempt has succeeded.
 */
export class Connection {
  constructor(url, handlers, transport = carrier()) {
    this.url = url;
    this.on = handlers;
    this.transport = transport;
    this.link = null; // the present attempt, or what came of it
    this.everOpen = false;
    this.status = { state: 'stopped', failures: 0, until: 0, code: 0, reason: '' };
    this.again = () => this.reconnect();
    this.away = () => this.status.state === 'open' && this.lost(0, '');
    this.tick = this.tick.bind(this);
  }

  start() {
    // "online" also fires when the network changes: the old socket may look open
    // and be dead, and a new one is cheap because messages merge by id.
    window.addEventListener('online', this.again);
    window.addEventListener('offline', this.away);
    this.lastTick = Date.now();
    this.ticker = setInterval(this.tick, TICK);
    this.connect();
  }

  /** stop closes for good. */
  stop() {
    window.removeEventListener('online', this.again);
    window.removeEventListener('offline', this.away);
    clearInterval(this.ticker);
    this.drop();
    this.set({ state: 'stopped' });
  }

  /** send hands one frame to the transport; false when none is open. */
  send(text) {
    return this.status.state === 'open' && this.link !== null && this.link.send(text);
  }

  /** reconnect leaves the present attempt, if any, and tries at once. */
  reconnect() {
    if (this.status.state === 'stopped') return;
    const had = this.link !== null;
    this.drop();
    if (had) this.on.closed({ code: 0, reason: '' });
    this.connect();
  }

  connect() {
    clearTimeout(this.timer);
    this.question = null;
    this.set({ state: 'connecting' });
    this.timer = setTimeout(() => this.lost(0, ''), CONNECT_TIMEOUT);
    let opened = false;
    this.link = this.transport(this.url(), {
      opened: () => {
        opened = true;
        this.heard = Date.now();
        this.asked = 0; // when the server was last asked for a sign of life, 0: not since it spoke
        this.everOpen = true;
        clearTimeout(this.timer);
        // Not at once: a server that accepts and drops would be asked again and
        // again without a pause.
        this.timer = setTimeout(() => this.set({ failures: 0 }), STABLE_AFTER);
        this.set({ state: 'open', code: 0, reason: '' });
        this.on.opened();
      },
      received: (text) => {
        this.heard = Date.now();
        this.asked = 0;
        this.on.received(text);
      },
      closed: ({ code, reason }) => this.lost(code, reason, !opened),
    });
  }

  // drop forgets the present attempt: what it still has to say is no longer heard.
  drop() {
    clearTimeout(this.timer);
    this.link?.close();
    this.link = null;
  }

  lost(code, reason, refused = false) {
    this.drop();
    const { failures } = this.status;
    const delay = reconnectDelay(failures, { code, reason });
    if (code === 4401) {
      this.stop();
      this.on.closed({ code, reason });
      this.on.signedOut(reason);
      return;
    }
    // What the server said last stays the reason while nobody answers (1006).
    const told = code !== 0 && code !== 1006 ? { code, reason } : {};
    this.set({ state: 'waiting', failures: failures + 1, until: Date.now() + delay, ...told });
    this.timer = setTimeout(() => this.retry(refused), delay);
    this.on.closed({ code, reason });
  }

  async retry(refused) {
    if (refused) {
      this.set({ state: 'connecting' });
      const question = (this.question = {});
      const may = await this.on.mayRetry();
      // Meanwhile it may have been stopped, or restarted by hand.
      if (question !== this.question || this.link || this.status.state === 'stopped') return;
      if (!may) {
        this.stop();
        return;
      }
    }
    this.connect();
  }

  tick() {
    const now = Date.now();
    const slept = now - this.lastTick > SLEPT;
    this.lastTick = now;
    if (slept) {
      this.reconnect();
    } else if (this.status.state === 'open') {
      // A page cannot see the server's pings, and a dead connection says nothing.
      if (this.asked > 0 && now - this.asked >= ANSWER) this.lost(0, '');
      else if (this.asked === 0 && now - this.heard >= QUIET && this.send(ping())) this.asked = now;
    }
  }

  set(change) {
    this.status = { ...this.status, ...change };
    this.on.changed();
  }
}
