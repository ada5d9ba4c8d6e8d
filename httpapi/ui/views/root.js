// The whole page: the form, or the chat with its parts.
import { html, useEffect, useRef, useState } from '../lib/html.js';
import { Composer } from './composer.js';
import { Banner, Heading } from './heading.js';
import { Log } from './log.js';
import { Icon, Logo, touch } from './parts.js';
import { Sidebar } from './sidebar.js';
import { NameForm, SignInElsewhere } from './sign_in.js';

const PHONE = '(max-width: 640px)'; // as in style.css

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

// matches follows a media query.
function useMedia(query) {
  const [matches, set] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const media = matchMedia(query);
    const update = () => set(media.matches);
    media.addEventListener('change', update);
    return () => media.removeEventListener('change', update);
  }, [query]);
  return matches;
}

function ChatPage({ app }) {
  const { chat, connection } = app;
  const phone = useMedia(PHONE);
  const [drawer, setDrawer] = useState(false);
  const menu = useRef();
  const sidebar = useRef();
  const main = useRef();
  const picked = useRef(false); // the drawer was closed by choosing a talk
  const open = phone && drawer;
  const talk = chat.talks.get(chat.active);
  const elsewhere = chat.unread - talk.unread;

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
  return html`<div class="chat" onKeyDown=${(e) => { if (open && e.key === 'Escape') close(); }}>
    <${Sidebar} app=${app} open=${open} phone=${phone} pick=${pick} nav=${sidebar} />
    ${open && html`<div class="backdrop" onClick=${close}></div>`}
    <main ref=${main} inert=${open}>
      <header>
        <button type="button" class="iconbutton menu" ref=${menu} aria-expanded=${open ? 'true' : 'false'} aria-controls="sidebar" onClick=${() => setDrawer(true)}
          aria-label=${elsewhere > 0 ? `Talks and people, ${elsewhere} unread` : 'Talks and people'}>
          <${Icon} name="menu" />${elsewhere > 0 && html`<i class="dot on alert"></i>`}
        </button>
        <${Heading} chat=${chat} talk=${talk} />
      </header>
      <${Banner} connection=${connection} chat=${chat} />
      <${Log} key=${talk.key} chat=${chat} talk=${talk} version=${chat.outbox.items} />
      <${Composer} chat=${chat} talk=${talk} />
    </main>
  </div>`;
}
