// The messages of one talk. The log keeps to its end while one is there, and
// keeps its place while one reads further up.
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from '../lib/html.js';
import { dayOf } from '../lib/times.js';
import { ROOM, rows } from '../store/messages.js';
import { Pending, Row } from './message.js';
import { Avatar, Icon } from './parts.js';

const NEAR_END = 60; // px from the end that still count as being there
const NEAR_START = 200; // px from the start at which older messages are fetched

// The lower edge, because a message loses the name above it when older ones of
// the same person come before it.
const endOf = (element) => element.offsetTop + element.offsetHeight;

/** Log shows a talk of chat. It is made anew for each talk (by its key). */
export function Log({ chat, talk }) {
  const box = useRef();
  const anchor = useRef(null); // what is read: {element, end}
  const lastRead = useRef(''); // id of the newest message when one was at the end
  const newestAt = useRef(0); // of the outbox
  const [atEnd, setAtEnd] = useState(true);
  const stuck = useRef(true);
  const pending = chat.outbox.items.filter((item) => item.talk === talk.key);

  const setStuck = (now) => {
    stuck.current = now;
    chat.atBottom = now;
    setAtEnd(now);
  };
  const toEnd = () => {
    box.current.scrollTop = box.current.scrollHeight;
  };
  // Browsers can do this (overflow-anchor), but not all, and none at the very top.
  const remember = () => {
    const { scrollTop } = box.current;
    const items = box.current.querySelectorAll('[data-testid=message]');
    let low = 0;
    let high = items.length - 1;
    while (low < high) {
      const mid = (low + high) >> 1;
      if (endOf(items[mid]) > scrollTop) high = mid;
      else low = mid + 1;
    }
    anchor.current = items[low] ? { element: items[low], end: endOf(items[low]) } : null;
  };
  const fetchOlder = () => {
    if (!chat.settled || !chat.connected || talk.loading || talk.trouble || talk.hasMore === false) return;
    const never = talk.key !== ROOM && talk.hasMore === null;
    if (never || box.current.scrollTop < NEAR_START) chat.loadOlder(talk.key);
  };
  const onScroll = () => {
    const el = box.current;
    const now = el.scrollHeight - el.scrollTop - el.clientHeight < NEAR_END;
    if (now !== stuck.current) setStuck(now);
    remember();
    fetchOlder();
  };

  useLayoutEffect(() => {
    // Whoever sends wants to see it.
    const newest = pending.at(-1)?.at ?? 0;
    if (newest > newestAt.current && !stuck.current) setStuck(true);
    newestAt.current = Math.max(newest, newestAt.current);

    const at = anchor.current;
    if (stuck.current) toEnd();
    else if (at?.element.isConnected) box.current.scrollTop += endOf(at.element) - at.end;
    if (stuck.current) lastRead.current = talk.messages.at(-1)?.id ?? '';
    remember();
  });
  useEffect(fetchOlder);
  // The log shrinks when the composer grows or a phone's keyboard opens. A layout
  // effect, because preact ends the others only some time after the log is gone.
  useLayoutEffect(() => {
    const observer = new ResizeObserver(() => stuck.current && toEnd());
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);

  const today = new Date().toDateString();
  const list = useMemo(
    () => rows(talk.messages, { dayOf: (m) => dayOf(m.sent_at), marker: talk.marker }).map((row) => Row(row, chat.me)),
    [talk.messages, talk.marker, today],
  );
  let fresh = 0;
  if (!atEnd) {
    for (let i = talk.messages.length - 1; i >= 0 && talk.messages[i].id > lastRead.current; i--) {
      if (talk.messages[i].sender !== chat.me) fresh++;
    }
  }
  const empty = talk.messages.length === 0 && pending.length === 0;
  return html`<div class="logframe">
    <div class="log" ref=${box} onScroll=${onScroll} data-testid="messages" role="log" tabindex="0" aria-busy=${talk.loading ? 'true' : 'false'}
      aria-label=${talk.key === ROOM ? 'Messages in the global room' : `Messages with ${talk.key}`}>
      <${Start} chat=${chat} talk=${talk} empty=${empty} />
      <ol>${list}${pending.map((item) => html`<${Pending} key=${`ref ${item.ref}`} item=${item} chat=${chat} />`)}</ol>
    </div>
    ${!atEnd && html`<button type="button" class=${fresh > 0 ? 'jump fresh' : 'jump'} data-testid="jump" aria-label=${fresh > 0 ? undefined : 'Go to the newest message'}
      onClick=${() => { setStuck(true); toEnd(); }}>
      <${Icon} name="down" />${fresh > 0 && (fresh === 1 ? '1 new message' : `${fresh} new messages`)}
    </button>`}
  </div>`;
}

// Start is what stands above the oldest message.
function Start({ chat, talk, empty }) {
  if (talk.trouble) {
    return html`<div class="start"><p>${talk.trouble}</p><button type="button" onClick=${() => chat.loadOlder(talk.key)}>Load older messages</button></div>`;
  }
  if (talk.hasMore !== false) return html`<div class="start">${talk.loading ? 'Loading older messages…' : ''}</div>`;
  if (!empty) return html`<div class="start">No older messages.</div>`;
  if (talk.key === ROOM) {
    return html`<div class="start empty"><span class="avatar room large" aria-hidden="true"><${Icon} name="room" /></span><h2>It is quiet here</h2><p>Be the first to say something. Everyone can read it.</p></div>`;
  }
  return html`<div class="start empty"><${Avatar} name=${talk.key} /><h2><bdi>${talk.key}</bdi></h2><p>Only the two of you can read what you write here.</p></div>`;
}
