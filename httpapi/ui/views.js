// Everything around the messages: the name form, the sidebar, the header.
import { Composer } from './composer.js';
import { html, useEffect, useRef, useState } from './html.js';
import { Log } from './log.js';
import { ROOM, nameProblem } from './logic.js';
import { Avatar, Icon, Logo, touch } from './parts.js';

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

// SignInElsewhere is for servers that know people by another login.
function SignInElsewhere({ app }) {
  return html`<main class="welcome">
    <div class="card" data-testid="sign-in-elsewhere">
      <${Logo} />
      <h1>Please sign in</h1>
      ${app.form.error && html`<p class="error" role="alert">${app.form.error}</p>`}
      ${app.login
        ? html`<p class="hint">You need your account to join the conversation.</p><a class="primary" data-testid="login" href=${app.login}>Sign in</a>`
        : html`<p class="hint">This chat belongs to another site. Sign in there, then come back.</p>`}
      <button type="button" class="quiet" data-testid="try-again" onClick=${app.again}>Try again</button>
    </div>
  </main>`;
}

function NameForm({ app }) {
  const { form, chat } = app;
  const [name, setName] = useState(form.name);
  const [problem, setProblem] = useState('');
  const input = useRef();
  const error = problem || form.error;
  useEffect(() => input.current.focus(), []);
  // Back to the field when the server said no, ready to type another name.
  useEffect(() => {
    if (form.error) input.current.select();
  }, [form]);

  const submit = (e) => {
    e.preventDefault();
    if (form.busy) return;
    const typed = input.current.value.normalize('NFC').trim();
    const wrong = nameProblem(typed);
    setProblem(wrong);
    if (wrong) input.current.focus();
    else app.signIn(typed);
  };
  return html`<main class="welcome">
    <form class="card" data-testid="name-form" onSubmit=${submit} noValidate>
      <${Logo} />
      <h1>${chat ? 'Switch name' : 'Welcome to Burrow'}</h1>
      <p class="hint">${chat ? html`You are <b><bdi>${chat.me}</bdi></b> now.` : 'Pick a name and join the conversation.'}</p>
      <label for="name">Your name</label>
      <input id="name" ref=${input} data-testid="name-input" value=${name} maxlength="128" autocomplete="nickname" autocapitalize="off" spellcheck=${false}
        required aria-describedby="name-error name-hint" aria-invalid=${error ? 'true' : 'false'}
        onInput=${(e) => { setName(e.currentTarget.value); setProblem(''); form.error = ''; }} />
      <div id="name-error" role="alert">${error && html`<p class="error" data-testid="name-error">${error}</p>`}</div>
      <p id="name-hint" class="hint">Letters, digits, spaces and _ - . @, up to 64 characters.</p>
      <button class="primary" data-testid="name-submit" aria-disabled=${form.busy ? 'true' : 'false'}>${form.busy ? 'Joining…' : 'Join the chat'}</button>
      ${chat && html`<button type="button" class="quiet" onClick=${app.cancel}>Stay ${chat.me}</button>`}
    </form>
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

function Heading({ chat, talk }) {
  if (talk.key === ROOM) {
    const here = chat.people.total;
    return html`<span class="avatar room" aria-hidden="true"><${Icon} name="room" /></span>
      <div class="heading"><h1>Global room</h1><p>${chat.connected ? `${here} ${here === 1 ? 'person' : 'people'} online` : 'Not connected'}</p></div>`;
  }
  const online = chat.online.has(talk.key);
  return html`<${Avatar} name=${talk.key} online=${chat.connected && online} />
    <div class="heading"><h1><bdi>${talk.key}</bdi></h1><p>${!chat.connected ? 'Not connected' : `${online ? 'Online' : 'Offline'} · private talk`}</p></div>`;
}

function Badge({ count }) {
  return count > 0 && html`<span class="badge" data-testid="unread">${count > 999 ? '999+' : count}</span><span class="hidden"> unread</span>`;
}

function Sidebar({ app, open, phone, pick, nav }) {
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

function Banner({ connection, chat }) {
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
  ${!show && chat.caughtUp && html`<div class="banner good" data-testid="caught-up">${chat.caughtUp.count > 0 ? `Caught up, ${chat.caughtUp.count} new.` : 'Connected again, nothing missed.'}</div>`}</div>`;
}
