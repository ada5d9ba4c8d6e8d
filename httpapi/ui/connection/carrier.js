// A transport that is a WebSocket if one gets through, and events and requests if not.
import { openEvents } from './events.js';
import { openSocket } from './socket.js';

const PATIENCE = 5_000; // ms for a WebSocket to say its first word, before the fallback is tried
const FIRST_PROBE = 60_000; // ms after which a WebSocket is tried again
const LAST_PROBE = 600_000; // ms; the time doubles up to it

/**
 * carrier returns a transport (see openSocket) that knows from one attempt to the next
 * what gets through. `socket` and `events` make the attempts.
 */
export function carrier({ socket = openSocket, events = openEvents } = {}) {
  let blocked = false; // no WebSocket gets through

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

    // over goes on with a WebSocket that got through: one comes back at once, and resumes.
    const over = () => {
      blocked = false;
      link.close();
      closed({ code: 1012, reason: 'retry-ms=0' });
    };
    const tryAgain = (wait) => {
      timer = setTimeout(() => {
        const failed = () => {
          clearTimeout(timer);
          probe.close();
          tryAgain(Math.min(2 * wait, LAST_PROBE));
        };
        probe = socket(url, { opened() {}, received: over, closed: failed });
        timer = setTimeout(failed, PATIENCE);
      }, wait);
    };

    const fallBack = (why) => {
      clearTimeout(timer);
      link?.close();
      let open = false;
      link = events(url, {
        opened() {
          open = blocked = true;
          tryAgain(FIRST_PROBE);
          handlers.opened();
        },
        received: handlers.received,
        closed(how) {
          if (!open) blocked = false; // Next time it may be the other way round.
          closed(open ? how : why);
        },
      });
    };

    if (blocked) {
      fallBack({ code: 1006, reason: '' });
    } else {
      // What something on the way accepts and then swallows is not open.
      let first = true;
      link = socket(url, {
        opened() {},
        received(text) {
          clearTimeout(timer);
          if (first) handlers.opened();
          first = false;
          handlers.received(text);
        },
        // A server that says why has let the WebSocket through.
        closed: (how) => (first && how.code === 1006 ? fallBack(how) : closed(how)),
      });
      timer = setTimeout(() => fallBack({ code: 1006, reason: '' }), PATIENCE);
    }
    return {
      send: (text) => !gone && link.send(text),
      close() {
        stop();
        link.close();
      },
    };
  };
}
