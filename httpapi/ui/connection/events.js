// Two transports without WebSockets: Server-Sent Events from the server, in one stream or in
// polls, and a request for each frame to it. See docs/protocol.md, "Without WebSockets".
import { Slots } from '../lib/slots.js';
import { isOwn } from './api.js';
import { uuid } from './wire.js';

const POST_TIMEOUT = 30_000; // ms; the server answers within 25 s
const TRIES = 5; // to say whether somebody is there: the node that is asked may not have the stream
const AGAIN = 2_000; // ms
const LONG_POLL = 8_000; // ms that the server may hold a poll: some proxies wait 10 s
const SHORT_POLL = 2_000; // ms between polls that the server answers at once
const POLL_TIMEOUT = 10_000; // ms more than it may hold one
const MUCH = 32_000; // characters of an answer, after which there may be more
const HEARTBEAT = 25_000; // ms; when the server's is slower, the page asks another way

/** BUSY is the reason of a stream that other tabs leave no slot. */
export const BUSY = 'other tabs hold streams';

const batch = (...frames) => JSON.stringify({ frames });

/** eventsURL returns where the events of a WebSocket's address are. */
export function eventsURL(url) {
  const { protocol, host, pathname, searchParams } = new URL(url);
  const query = new URLSearchParams(searchParams);
  const at = pathname.lastIndexOf('/ws/');
  query.set('client_id', decodeURIComponent(pathname.slice(at + '/ws/'.length)));
  return { base: `${protocol === 'wss:' ? 'https:' : 'http:'}//${host}${pathname.slice(0, at + 1)}`, query };
}

/** parser returns a function that takes text as it comes and tells event({id, event, data}) and beat(). */
export function parser({ event, beat }) {
  let rest = '';
  let found = {};
  return (text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop();
    for (const line of lines) {
      if (line === '') {
        if (found.data !== undefined) event(found);
        found = {};
      } else if (line.startsWith(':')) {
        beat();
      } else {
        const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
        found[name] = value; // The server writes one line of each.
      }
    }
  };
}

/** openEvents has the form of openSocket, and takes the same address. It needs one of the browser's slots. */
export const openEvents = (url, handlers) => open(url, handlers, false);

/**
 * openPolls is openEvents for networks that hold a stream back until its end, and for tabs without a slot:
 * these hold no connection.
 */
export const openPolls = (url, handlers) => open(url, handlers, true);

const slots = new Slots();
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

function open(url, { opened, received, closed }, polls) {
  const { base, query } = eventsURL(url);
  const stream = uuid();
  query.set('stream', stream);
  const stop = new AbortController();
  let release = null; // gives the slot back
  const who = { client_id: query.get('client_id') };
  let over = false;
  let present = null; // the last word on whether somebody is there
  let slow = false; // the server says so little that it has to be asked
  const tell = (text) => !over && received(text);
  let polled = false; // the server has a session, and waits for the next poll
  // bye ends that at once.
  const bye = () => {
    if (!polled || over) return;
    const body = new Blob([JSON.stringify({ away: true })], { type: 'application/json' });
    navigator.sendBeacon?.(`${base}api/activity?${new URLSearchParams({ ...who, stream, leave: 1 })}`, body);
  };
  if (polls) globalThis.addEventListener?.('pagehide', bye);
  const leave = () => {
    bye();
    globalThis.removeEventListener?.('pagehide', bye);
    over = true;
    stop.abort();
    release?.();
    release = null;
  };
  const end = (code, reason = '') => {
    if (over) return;
    leave();
    closed({ code, reason });
  };

  const read = parser({
    beat: () => tell(batch()), // a sign of life, and nothing else
    event({ id, event, data }) {
      if (id) query.set('since', id);
      if (event === 'close') {
        const { code, reason } = JSON.parse(data);
        end(code, reason);
        return;
      }
      const welcome = JSON.parse(data).frames?.[0]?.welcome;
      if (welcome) slow = welcome.ping_interval_ms > HEARTBEAT;
      tell(data);
    },
  });

  async function ask(signal) {
    const res = await fetch(`${base}events?${query}`, { headers: { accept: 'text/event-stream' }, cache: 'no-store', signal });
    if (!res.ok || !res.headers.get('content-type')?.startsWith('text/event-stream')) throw new Error(`the server answered ${res.status}`);
    return res;
  }

  async function listen() {
    // Another tab may have taken the last slot in the same moment.
    release = slots.take(stream, () => end(1012, 'retry-ms=0'));
    if (!release) {
      end(1006, BUSY);
      return;
    }
    const res = await ask(stop.signal);
    let first = true;
    const decoder = new TextDecoder();
    for (const reader = res.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done || over) return;
      if (first) opened(); // Not before: something on the way may hold everything back.
      first = false;
      read(decoder.decode(value, { stream: true }));
    }
  }

  async function poll() {
    for (let number = 1; !over; number++) {
      release ??= slots.take(stream, () => { release = null; });
      const wait = release ? LONG_POLL : 0;
      query.set('poll', wait);
      query.set('number', number); // A browser may send a request again without a word.
      const res = await ask(AbortSignal.any([stop.signal, AbortSignal.timeout(wait + POLL_TIMEOUT)]));
      const text = await res.text();
      if (over) return;
      polled = true;
      if (number === 1) opened();
      // A node without the session begins another one, after the last message.
      read(text);
      if (!release && text.length < MUCH) await pause(SHORT_POLL);
    }
  }
  Promise.resolve().then(polls ? poll : listen).then(() => end(1006), () => end(1006));

  async function post(path, body, more = {}) {
    const signal = AbortSignal.any([stop.signal, AbortSignal.timeout(POST_TIMEOUT)]);
    const headers = { 'content-type': 'application/json' };
    const res = await fetch(`${base}${path}?${new URLSearchParams({ ...who, ...more })}`, { method: 'POST', headers, body: JSON.stringify(body), signal });
    if (!res.ok && !isOwn(res)) throw new Error(`something on the way answered ${res.status}`);
    const answer = await res.json();
    if (res.ok && body.ref && answer?.ref !== body.ref) throw new Error('something on the way answered');
    if (res.ok) return { ack: answer };
    const { code, message, retry_after_ms = 0 } = answer.error;
    if (res.status === 401) end(4401, message);
    return { error: { code, message, ref: body.ref ?? '', retry_after_ms } };
  }

  async function tellPresent(activity) {
    present = activity;
    for (let i = 0; i < TRIES && activity === present && !over; i++) {
      const answer = await post('api/activity', activity, { stream }).catch(() => null);
      if (answer?.ack) return;
      await pause(AGAIN);
    }
  }

  return {
    send(text) {
      if (over) return false;
      const frame = JSON.parse(text);
      if (frame.send) post('api/messages', frame.send).then((answer) => tell(batch(answer)), () => end(1006));
      else if (frame.typing) post('api/typing', frame.typing).catch(() => {}); // It is not worth more.
      else if (frame.activity) tellPresent(frame.activity);
      else if (frame.ping && slow) fetch(`${base}healthz`, { signal: stop.signal }).then(() => tell(batch()), () => {});
      return true;
    },
    close: leave,
  };
}
