// The whole page: the form, or the chat with its parts.
import { html, useEffect, useRef, useState } from '../lib/html.js';
import { ROOM } from '../store/messages.js';
import { Announcements } from './announcer.js';
import { Composer } from './composer.js';
import { Banner, Heading } from './heading.js';
import { Log } from './log.js';
import { Icon, Logo, touch, useMedia } from './parts.js';
import { SearchPanel } from './search.js';
import { Settings } from './settings.js';
import { Sidebar } from './sidebar.js';
import { NameForm, SignInElsewhere } from './sign_in.js';

const PHONE = '(max-width: 640px)'; // as in the style sheets

/** Root is the whole page; `app` is the object of app.js. */
export function Root({ app }) {
  if (app.form && app.mode === 'jwt') return html`<${SignInElsewhere} app=${app} />`;
  if (app.form) return html`<${NameForm} app=${app} />`;
  if (app.phase === 'chat') return html`<${ChatPage} key=${app.chat.me} app=${app} />`;
  return html`<main class="welcome">
    <div class="card" role="status">
      <${Logo} />
      ${app.trouble ? html`<p>${app.trouble}</p><p class="hint">Trying again…</p>` : html`<p class="hint">One moment…</p>`}
    </div>
  </main>`;
}

function ChatPage({ app }) {
  const { chat, connection } = app;
  const phone = useMedia(PHONE);
  const [drawer, setDrawer] = useState(false);
  const [settings, setSettings] = useState(false);
  const menu = useRef();
  const sidebar = useRef();
  const main = useRef();
  const finder = useRef();
  const picked = useRef(false); // the drawer was closed by choosing a talk
  const open = phone && drawer;
  const talk = chat.talks.get(chat.active);
  const elsewhere = chat.unread - talk.unread;
  const called = chat.talks.get(ROOM).called > 0 && talk.key !== ROOM;

  const write = () => main.current.querySelector('textarea').focus();
  // The drawer takes the focus, and hands it on when it is gone; not before,
  // because all the rest is inert until then.
  useEffect(() => {
    if (!open) return undefined;
    picked.current = false;
    sidebar.current.querySelector('[aria-current]')?.focus();
    return () => {
      if (!main.current) return;
      if (picked.current && !touch()) write();
      else menu.current.focus();
    };
  }, [open]);
  const close = () => setDrawer(false);
  const pick = (key) => {
    chat.open(key);
    app.draw(); // at once: what is typed next must not go to the talk before
    picked.current = true;
    setDrawer(false);
    if (!phone && !touch()) write();
  };
  const closeSearch = () => {
    chat.search.show(false);
    app.draw();
    if (touch()) finder.current.focus();
    else write();
  };
  const show = (key, id) => {
    chat.openAt(key, id);
    if (phone) chat.search.show(false);
  };
  const onKeyDown = (e) => {
    if ((e.ctrlKey || e.metaKey) && e.key.toLowerCase() === 'k') {
      e.preventDefault();
      if (chat.search.open) document.querySelector('.search input').focus();
      else chat.search.show(true);
    } else if (e.key === 'Escape') {
      if (open) close();
      else if (!settings) write();
    } else if (e.altKey && !e.ctrlKey && !e.metaKey && (e.key === 'ArrowUp' || e.key === 'ArrowDown')) {
      e.preventDefault();
      const next = neighbour(chat, e.key === 'ArrowUp' ? -1 : 1, e.shiftKey);
      if (next !== null) pick(next);
    }
  };
  return html`<div class=${chat.search.open ? 'chat finding' : 'chat'} onKeyDown=${onKeyDown}>
    <${Sidebar} app=${app} open=${open} phone=${phone} pick=${pick} nav=${sidebar} settings=${() => setSettings(true)} />
    ${open && html`<div class="backdrop" onClick=${close}></div>`}
    <main ref=${main} inert=${open}>
      <header>
        <button type="button" class="iconbutton menu" ref=${menu} aria-expanded=${open ? 'true' : 'false'} aria-controls="sidebar" onClick=${() => setDrawer(true)}
          aria-label=${elsewhere > 0 ? `Talks and people, ${elsewhere} unread${called ? ', you were mentioned' : ''}` : 'Talks and people'}>
          <${Icon} name="menu" />${elsewhere > 0 && html`<i class=${called ? 'dot alert called' : 'dot alert'}></i>`}
        </button>
        <${Heading} chat=${chat} talk=${talk} />
        <button type="button" class="iconbutton" ref=${finder} data-testid="find" aria-label="Search messages" title="Search messages (Ctrl K)" aria-expanded=${chat.search.open ? 'true' : 'false'}
          onClick=${() => (chat.search.open ? closeSearch() : chat.search.show(true))}><${Icon} name="search" /></button>
      </header>
      <${Banner} connection=${connection} chat=${chat} />
      <${Log} key=${talk.key} chat=${chat} talk=${talk} />
      <${Composer} chat=${chat} talk=${talk} />
    </main>
    ${chat.search.open && html`<${SearchPanel} chat=${chat} pick=${show} close=${closeSearch} />`}
    <${Announcements} announcer=${app.announcer} />
    ${settings && html`<${Settings} app=${app} close=${() => setSettings(false)} />`}
  </div>`;
}

// neighbour returns the key of the talk before or after the open one in the list,
// only of those with something unread if so wanted; null for none.
function neighbour(chat, step, unread) {
  const all = [chat.talks.get(ROOM), ...chat.privateTalks];
  const at = all.findIndex((talk) => talk.key === chat.active);
  for (let i = 1; i < all.length; i++) {
    const talk = all[(at + step * i + all.length * i) % all.length];
    if (!unread || talk.unread > 0) return talk.key;
  }
  return null;
}
