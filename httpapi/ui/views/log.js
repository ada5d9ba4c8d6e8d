// The messages of one talk. The log keeps to its end while one is there, and
// keeps its place while one reads further up. Only a window of a long talk is drawn.
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from '../lib/html.js';
import { dayOf } from '../lib/times.js';
import { ROOM, rows } from '../store/messages.js';
import { around, cap, earlier, hold, later, NEWEST, settle, span } from '../store/window.js';
import { Pending, Row } from './message.js';
import { Avatar, Icon, RoomMark } from './parts.js';

const NEAR_END = 60; // px from the end that still count as being there
const NEAR = 600; // px from the start or end of what is drawn at which more is

// Where a message ends, in px from the start of what is drawn. The lower edge, because
// a message loses the name above it when older ones of the same person come before it.
const endOf = (element, box) => element.getBoundingClientRect().bottom - box.getBoundingClientRect().top + box.scrollTop;

/** Log shows a talk of chat. It is made anew for each talk (by its key). */
export function Log({ chat, talk }) {
  const box = useRef();
  const anchor = useRef(null); // what is read: {element, end}
  const lastRead = useRef(''); // id of the newest message when one was at the end
  const newestAt = useRef(0); // of the outbox
  const shown = useRef(null); // the target that was scrolled to
  const stuck = useRef(true);
  const [atEnd, setAtEnd] = useState(true);
  const [wanted, setWindow] = useState(NEWEST);

  const list = talk.excerpt ?? talk;
  const messages = list.messages;
  const window = talk.target && talk.target !== shown.current ? around(messages, talk.target.id) : atEnd ? settle(messages, wanted) : cap(messages, wanted, anchor.current?.element.dataset.id);
  const [start, end] = span(messages, window);
  const newest = !talk.excerpt && end === messages.length; // the end of what is drawn is the end
  const pending = newest ? chat.outbox.items.filter((item) => item.talk === talk.key) : [];

  const setStuck = (now) => {
    if (now === stuck.current) return;
    stuck.current = now;
    chat.atBottom = now;
    setAtEnd(now);
    // What is read must not go at the start because more comes at the end.
    if (!now) setWindow(hold(messages, wanted));
  };
  const toEnd = () => {
    box.current.scrollTop = box.current.scrollHeight;
  };
  const toNewest = () => {
    Object.assign(talk, { excerpt: null, target: null });
    setWindow(NEWEST);
    setStuck(true);
    chat.seen();
    toEnd();
    chat.changed();
  };
  // Browsers can do this (overflow-anchor), but not all, and none at the very top.
  const remember = () => {
    const items = box.current.querySelectorAll('[data-testid=message]');
    let low = 0;
    let high = items.length - 1;
    while (low < high) {
      const mid = (low + high) >> 1;
      if (endOf(items[mid], box.current) > box.current.scrollTop) high = mid;
      else low = mid + 1;
    }
    anchor.current = items[low] ? { element: items[low], end: endOf(items[low], box.current) } : null;
  };
  // more draws more, or fetches it, where one gets near to the edge of what is drawn.
  const more = () => {
    // What has come is drawn first: it changes how far the edge is.
    if ((talk.excerpt ?? talk).messages !== messages) return;
    const { scrollTop, scrollHeight, clientHeight } = box.current;
    if (scrollTop < NEAR && start > 0 && !stuck.current) setWindow(earlier(messages, window));
    else if (scrollHeight - scrollTop - clientHeight < NEAR && end < messages.length) setWindow(later(messages, window));
    else if (!chat.settled || !chat.connected) return;
    else if (scrollHeight - scrollTop - clientHeight < NEAR && talk.excerpt && talk.excerpt.messages.length > 0) chat.loadNewer(talk.key);
    if (list.loading || list.trouble || list.hasMore === false) return;
    const never = talk.key !== ROOM && list.hasMore === null;
    if (never || (start === 0 && scrollTop < NEAR)) chat.loadOlder(talk.key);
  };
  const onScroll = () => {
    const el = box.current;
    setStuck(newest && el.scrollHeight - el.scrollTop - el.clientHeight < NEAR_END);
    remember();
    more();
  };

  useLayoutEffect(() => {
    // Whoever sends wants to see it.
    const latest = chat.outbox.items.findLast((item) => item.talk === talk.key)?.at ?? 0;
    const sent = latest > newestAt.current;
    newestAt.current = Math.max(latest, newestAt.current);
    if (sent && !stuck.current) return toNewest();

    const aim = talk.target && talk.target !== shown.current && box.current.querySelector(`[data-id="${CSS.escape(talk.target.id)}"]`);
    const at = anchor.current;
    if (aim) {
      shown.current = talk.target;
      setStuck(false);
      setWindow(window);
      box.current.scrollTop = aim.offsetTop - (box.current.clientHeight - aim.offsetHeight) / 2;
    } else if (stuck.current) toEnd();
    else if (at?.element.isConnected) box.current.scrollTop += endOf(at.element, box.current) - at.end;
    if (stuck.current) lastRead.current = messages.at(-1)?.id ?? '';
    remember();
    return undefined;
  });
  useEffect(more);
  // The log shrinks when the composer grows or a phone's keyboard opens. A layout
  // effect, because preact ends the others only some time after the log is gone.
  useLayoutEffect(() => {
    const observer = new ResizeObserver(() => stuck.current && toEnd());
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);

  const today = new Date().toDateString();
  const target = talk.target?.id;
  const known = chat.members.size;
  const drawn = useMemo(
    () =>
      rows(messages.slice(start, end), { before: messages[start - 1], dayOf: (m) => dayOf(m.sent_at), marker: talk.marker }).map(
        (row) => html`<${Row} key=${row.key} row=${row} me=${chat.me} members=${chat.members} known=${known} target=${row.key === target} />`,
      ),
    [messages, start, end, talk.marker, target, today, known],
  );
  let fresh = 0;
  if (!atEnd && lastRead.current !== '') {
    for (let i = talk.messages.length - 1; i >= 0 && talk.messages[i].id > lastRead.current; i--) {
      if (talk.messages[i].sender !== chat.me) fresh++;
    }
  }
  const ownLast = messages.at(-1)?.sender === chat.me;
  const empty = messages.length === 0 && pending.length === 0;
  return html`<div class="logframe">
    <div class="log" ref=${box} onScroll=${onScroll} data-testid="messages" role="log" aria-live="off" tabindex="0" aria-busy=${list.loading ? 'true' : 'false'}
      aria-label=${talk.key === ROOM ? 'Messages in the global room' : `Messages with ${talk.key}`}>
      <${Start} chat=${chat} talk=${talk} list=${list} empty=${empty} more=${start > 0} />
      <ol>${drawn}${pending.map((item, i) => html`<${Pending} key=${`ref ${item.ref}`} item=${item} chat=${chat} first=${i === 0 && !ownLast} />`)}</ol>
    </div>
    ${(!atEnd || talk.excerpt) && html`<button type="button" class=${fresh > 0 ? 'jump fresh' : 'jump'} data-testid="jump" onClick=${toNewest}>
      <${Icon} name="down" size="18" />${fresh === 0 ? 'Jump to latest' : fresh === 1 ? '1 new message' : `${fresh} new messages`}
    </button>`}
  </div>`;
}

// Start is what stands above the oldest message.
function Start({ chat, talk, list, empty, more }) {
  if (list.trouble) {
    return html`<div class="start"><p>${list.trouble}</p><button type="button" onClick=${() => chat.loadOlder(talk.key)}>Load older messages</button></div>`;
  }
  if (more || list.hasMore !== false || list.loading) return html`<div class="start">${list.loading ? 'Loading messages…' : ''}</div>`;
  if (!empty) return html`<div class="start">${talk.key === ROOM ? 'This is where the conversation begins.' : html`This is where your talk with <bdi>${talk.key}</bdi> begins.`}</div>`;
  if (talk.key === ROOM) {
    return html`<div class="start empty"><${RoomMark} size="large" /><h2>It is quiet here</h2><p>Be the first to say something. Everyone can read it.</p></div>`;
  }
  return html`<div class="start empty"><${Avatar} size="large" name=${talk.key} /><h2><bdi>${talk.key}</bdi></h2><p>Only the two of you can read what you write here.</p></div>`;
}
