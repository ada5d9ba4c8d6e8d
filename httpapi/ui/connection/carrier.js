// A transport that is a WebSocket if one gets through, a stream of events if not, and polls
// where a proxy holds that back.
import { BUSY, openEvents, openPolls } from './events.js';
import { openSocket } from './socket.js';

/** WAYS are the transports, the best one first, with the time in ms that each has for its first word. */
const WAYS = [
  { open: openSocket, patience: 5_000 },
  { open: openEvents, patience: 4_000 },
  { open: openPolls, patience: 12_000 },
];
const FIRST_PROBE = 60_000; // ms after which a better way is tried again
const LAST_PROBE = 600_000; // ms; the time doubles up to it
const KEY = 'burrow.way'; // of the browser: the network is the same for all its pages
const REMEMBERED = 3_600_000; // ms that the next page begins with the way that got through

// remembered returns the way of an earlier page, 0 if there is none.
function remembered(ways, storage) {
  try {
    const { way, until } = JSON.parse(storage().getItem(KEY));
    const left = until - Date.now();
    return Number.isInteger(way) && way > 0 && way < ways.length && left > 0 && left <= REMEMBERED ? way : 0;
  } catch {
    return 0;
  }
}

function remember(way, storage) {
  try {
    if (way === 0) storage().removeItem(KEY);
    else storage().setItem(KEY, JSON.stringify({ way, until: Date.now() + REMEMBERED }));
  } catch {
    // The next page tries all ways.
  }
}

/**
 * carrier returns a transport (see openSocket) that remembers from one attempt to the next, and from one
 * page to the next, which of the ways gets through.
 */
export function carrier(ways = WAYS, storage = () => globalThis.localStorage) {
  let best = remembered(ways, storage); // the way that got through last

  return (url, handlers) => {
    let link = null;
    let timer = 0;
    let gone = false;
    let probe = null;
    const stop = () => {
      gone = true;
      clearTimeout(timer);
      probe?.close();
    };
    const closed = (how) => {
      if (gone) return;
      stop();
      handlers.closed(how);
    };

    // over goes on with a better way that got through: one comes back at once, and resumes.
    const over = (way) => {
      best = way;
      remember(way, storage);
      link.close();
      closed({ code: 1012, reason: 'retry-ms=0' });
    };
    // tryAgain probes the ways that are better than the present one, after a while.
    const tryAgain = (present, wait) => {
      const attempt = (way) => {
        if (way === present) {
          tryAgain(present, Math.min(2 * wait, LAST_PROBE));
          return;
        }
        const failed = () => {
          clearTimeout(timer);
          probe.close();
          attempt(way + 1);
        };
        probe = ways[way].open(url, { opened() {}, received: () => over(way), closed: failed });
        timer = setTimeout(failed, ways[way].patience);
      };
      timer = setTimeout(() => attempt(0), wait);
    };

    let busy = false; // a way is passed over for the other tabs, and not for the network
    const attempt = (way) => {
      // What something on the way accepts and then swallows is not open.
      let open = false;
      const next = (how) => {
        clearTimeout(timer);
        link?.close();
        busy ||= how.reason === BUSY;
        if (way + 1 < ways.length) {
          attempt(way + 1);
          return;
        }
        best = 0; // Next time it may be the other way round.
        remember(0, storage);
        closed(how);
      };
      link = ways[way].open(url, {
        opened() {},
        received(text) {
          if (gone) return;
          if (!open) {
            open = true;
            best = way;
            if (!busy) remember(way, storage);
            clearTimeout(timer);
            if (way > 0) tryAgain(way, FIRST_PROBE);
            handlers.opened();
          }
          handlers.received(text);
        },
        // A server that says why has let the transport through.
        closed: (how) => (open || how.code !== 1006 ? closed(how) : next(how)),
      });
      timer = setTimeout(() => next({ code: 1006, reason: '' }), ways[way].patience);
    };
    attempt(best);

    return {
      send: (text) => !gone && link.send(text),
      close() {
        stop();
        link.close();
      },
    };
  };
}
