// What stands above the messages: which talk this is, and how the connection is.
import { html, useEffect, useState } from '../lib/html.js';
import { ROOM } from '../store/messages.js';
import { Avatar, RoomMark } from './parts.js';

/** Heading names the talk. */
export function Heading({ chat, talk }) {
  if (talk.key === ROOM) {
    const here = chat.people.total;
    return html`<${RoomMark} />
      <div class="heading"><h1>Global room</h1><p>${chat.connected ? `${here} ${here === 1 ? 'person' : 'people'} online` : 'Not connected'}</p></div>`;
  }
  const state = { on: 'Online · private talk', away: 'Away · private talk', off: 'Offline · private talk', '': 'Private talk' }[chat.stateOf(talk.key)];
  return html`<${Avatar} name=${talk.key} state=${chat.stateOf(talk.key)} />
    <div class="heading"><h1><bdi>${talk.key}</bdi></h1><p>${chat.connected ? state : 'Not connected'}${!chat.keepsPrivate && html` · <span data-testid="not-kept">not kept by this server</span>`}</p></div>`;
}

function caughtUp({ count, lost }) {
  if (lost) return `Connected again${count > 0 ? `, ${count} new` : ''}. Private messages may be lost: this server does not keep them.`;
  return count > 0 ? `Caught up, ${count} new.` : 'Connected again, nothing missed.';
}

/** Banner tells of a connection that was lost, and of what came when it was back. */
export function Banner({ connection, chat }) {
  const { status } = connection;
  const { state, failures, until, code, reason } = status;
  const [, tick] = useState(0);
  useEffect(() => {
    if (state !== 'waiting') return undefined;
    const timer = setInterval(() => tick((n) => n + 1), 500);
    return () => clearInterval(timer);
  }, [state, until]);
  // The first attempt usually takes no time; a banner would only flash.
  const show = state !== 'open' && state !== 'stopped' && (failures > 0 || connection.everOpen);
  let what = 'The connection was lost.';
  if (code === 1012) what = 'The server is restarting.';
  else if (code === 4429) what = 'You were sending too fast.';
  else if (code === 1013) what = reason ? `The server closed the connection: ${reason.replace(/\.$/, '')}.` : 'This connection was too slow.';
  else if (!navigator.onLine) what = 'You are offline.'; // a browser's guess, so what the server said goes first
  else if (!connection.everOpen) what = 'The server cannot be reached.';
  const seconds = Math.max(1, Math.ceil((until - Date.now()) / 1000));
  // The countdown is for the eyes: read aloud twice a second it would be noise.
  return html`<div role="status">${show && html`<div class="banner" data-testid="banner">
    <span class="pulse" aria-hidden="true"></span>
    <span class="what">${what} <span aria-hidden="true">${state === 'waiting' ? `Trying again in ${seconds} s.` : 'Connecting…'}</span></span>
    ${state === 'waiting' && html`<button type="button" onClick=${() => connection.reconnect()}>Reconnect now</button>`}
  </div>`}
  ${!show && chat.notices.caughtUp && html`<div class="banner good" data-testid="caught-up">${caughtUp(chat.notices.caughtUp)}</div>`}</div>`;
}
