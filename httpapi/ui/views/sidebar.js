// Talks and people.
import { html } from '../lib/html.js';
import { ROOM } from '../store/messages.js';
import { Avatar, Icon, Logo } from './parts.js';

function Badge({ count }) {
  return count > 0 && html`<span class="badge" data-testid="unread">${count > 999 ? '999+' : count}</span><span class="hidden"> unread</span>`;
}

/** Sidebar lists both; pick opens a talk. */
export function Sidebar({ app, open, phone, pick, nav }) {
  const { chat } = app;
  const room = chat.talks.get(ROOM);
  const talks = chat.privateTalks;
  const people = [...chat.online].filter((name) => name !== chat.me).sort((a, b) => a.localeCompare(b));
  const present = (name) => chat.connected && chat.online.has(name);
  const current = (key) => (chat.active === key ? 'true' : undefined);
  return html`<nav id="sidebar" ref=${nav} class=${open ? 'open' : ''} aria-label="Talks and people" inert=${phone && !open}>
    <div class="brand"><${Logo} /><span>Burrow</span></div>
    <div class="scroll">
      <button type="button" class="entry" data-testid="tab-global" aria-current=${current(ROOM)} onClick=${() => pick(ROOM)}>
        <span class="avatar room small" aria-hidden="true"><${Icon} name="room" /></span>
        <span class="name">Global room</span><${Badge} count=${room.unread} />
      </button>
      ${talks.length > 0 && html`<h2 id="talks">Private talks</h2>
        <ul aria-labelledby="talks">${talks.map((talk) => html`<li key=${talk.key}>
          <button type="button" class="entry" data-testid="talk" data-user=${talk.key} aria-current=${current(talk.key)} onClick=${() => pick(talk.key)}>
            <${Avatar} small name=${talk.key} online=${present(talk.key)} /><span class="name"><bdi>${talk.key}</bdi></span>
            <span class="hidden">${present(talk.key) ? ', online ' : ', offline '}</span><${Badge} count=${talk.unread} />
          </button></li>`)}
        </ul>`}
      <h2 id="people">Online <span class="count">${chat.people.total}</span></h2>
      <ul aria-labelledby="people">
        ${chat.online.has(chat.me) && html`<li key=${chat.me}>
          <div class="entry me" data-testid="user" data-user=${chat.me}><${Avatar} small name=${chat.me} online=${chat.connected} /><span class="name"><bdi>${chat.me}</bdi></span><span class="you">you</span></div>
        </li>`}
        ${people.map((name) => html`<li key=${name}>
          <button type="button" class="entry" data-testid="user" data-user=${name} title=${`Talk to ${name} privately`} onClick=${() => pick(name)}>
            <${Avatar} small name=${name} online=${chat.connected} /><span class="name"><bdi>${name}</bdi></span>
          </button></li>`)}
      </ul>
      ${people.length === 0 && chat.connected && html`<p class="hint">Nobody else is here yet.</p>`}
    </div>
    <div class="self">
      <${Avatar} small name=${chat.me} /><span class="name"><bdi>${chat.me}</bdi></span>
      ${app.mode !== 'jwt' && html`<button type="button" class="quiet" data-testid="switch-name" onClick=${() => app.ask('')}>Switch name</button>`}
    </div>
  </nav>`;
}
