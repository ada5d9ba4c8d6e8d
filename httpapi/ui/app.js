// The page: who one is, then the chat. This file joins the parts: connection/ (the
// socket and HTTP), store/ (what one sees, in one place), views/ (looks), lib/ (text,
// names, times).
import { Attention } from './attention/attention.js';
import { chime, notify } from './attention/desktop.js';
import { Idle } from './attention/idle.js';
import { ApiError, findUsers, getConversations, getHistory, getSession, postSession, search } from './connection/api.js';
import { Connection } from './connection/connection.js';
import { html, render } from './lib/html.js';
import { catchDrops } from './lib/input.js';
import { Memory } from './lib/memory.js';
import { eachDay } from './lib/times.js';
import { Chat } from './store/chat.js';
import { Keep } from './store/keep.js';
import { ROOM } from './store/messages.js';
import { NO_FILES } from './store/notices.js';
import { Tabs } from './store/tabs.js';
import { Announcer } from './views/announcer.js';
import { Root } from './views/root.js';

const BOOT_RETRY = 3_000; // ms between attempts to reach the server at first
const KEPT_WITHIN = 1_000; // ms for reading what is kept
const FRAME = 16; // ms; a burst of frames is drawn once
const NAME = new Memory(''); // of the browser: the name of mode open, which no cookie keeps
const ENDED = 'Your session has ended.';

const app = {
  phase: 'boot', // boot, name, chat
  trouble: '', // why the boot is stuck
  mode: 'guest',
  login: '', // where one signs in, in mode jwt
  form: null, // {name, error, busy}; over the chat while a name is being switched
  chat: null,
  connection: null,

  async boot() {
    try {
      const session = await app.session();
      const known = session.name || (session.mode === 'open' ? NAME.get('name') : '');
      if (known) app.enter(known);
      else app.ask('');
    } catch (err) {
      app.trouble = err.message;
      app.draw();
      setTimeout(app.boot, BOOT_RETRY);
    }
  },

  /** session asks the server who one is, and how it knows. */
  async session() {
    const session = await getSession();
    app.mode = session.mode;
    app.login = session.login ?? '';
    return session;
  },

  /** again is for who has signed in elsewhere meanwhile. */
  again() {
    app.form = null;
    app.draw();
    app.boot();
  },

  /** ask shows the name form, or in mode jwt where to sign in, with an error if there is a reason for asking. */
  ask(error, name = '') {
    app.form = { name, error, busy: false };
    if (!app.chat) app.phase = 'name';
    app.draw();
  },

  /** cancel goes back from the form to the chat that is still there. */
  cancel() {
    app.form = null;
    app.draw();
  },

  /** signIn asks the server for a name and enters with it. */
  async signIn(name) {
    app.form = { name, error: '', busy: true };
    app.draw();
    try {
      const session = await postSession(name);
      app.mode = session.mode;
      app.enter(session.name || name);
    } catch (err) {
      app.ask(err.message, name);
    }
  },

  /** leave ends the chat of the present name. */
  leave() {
    app.connection?.stop();
    app.chat?.stop();
    app.idle?.stop();
    app.attention?.stop();
    app.announcer?.stop();
    app.tabs?.close();
    app.chat = app.connection = app.attention = app.tabs = app.idle = null;
  },

  enter(name) {
    app.leave();
    if (app.mode === 'open') NAME.set('name', name);
    const address = new URL(`ws/${encodeURIComponent(name)}`, location.href); // below the path of the page
    address.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
    const connection = new Connection(() => (chat.since ? `${address}?since=${chat.since}` : String(address)), {
      opened: () => chat.opened(),
      received: (text) => chat.frame(text),
      // 1009: the frame was too big, and there is only ever one in flight.
      closed: ({ code }) => chat.closed(code === 1009 ? 'The message is too long. Send it in smaller parts.' : ''),
      changed: app.changed,
      signedOut: () => app.expired(name),
      mayRetry: () => app.mayRetry(name),
    });
    const memory = new Memory(name);
    const tabs = new Tabs(name);
    const chat = new Chat({
      me: name,
      send: (text) => connection.send(text),
      reconnect: () => connection.reconnect(),
      history: (page) => getHistory({ ...page, clientId: name }),
      findUsers: (page) => findUsers({ ...page, clientId: name }),
      conversations: () => getConversations({ clientId: name }),
      find: (page) => search({ ...page, clientId: name }),
      visible: () => document.visibilityState === 'visible',
      memory,
      tabs,
      keep: new Keep(name),
      arrived: (msg, key) => {
        attention.consider(msg, key);
        if (key === chat.active || key !== ROOM) announcer.tell(msg, key);
      },
      changed: app.changed,
    });
    const announcer = new Announcer(app.changed);
    const attention = new Attention({
      me: name,
      settings: chat.settings,
      members: chat.members,
      isRead: (key, id) => chat.read.at(key) >= id,
      show: notify,
      sound: chime,
      open: (key) => chat.open(key),
    });
    const idle = new Idle((away) => chat.leave(away));
    Object.assign(app, { chat, connection, tabs, idle, attention, announcer, form: null, phase: 'chat' });
    app.draw();
    // What an earlier page has left goes first; a database that hangs is not waited for.
    const late = new Promise((done) => setTimeout(done, KEPT_WITHIN));
    Promise.race([chat.outbox.load(), late]).then(() => app.chat === chat && connection.start());
  },

  // The token of mode jwt has run out. The login may have put a fresh one into the
  // cookie meanwhile: then the chat goes on.
  async expired(name) {
    if (app.mode === 'jwt') {
      const session = await app.session().catch(() => null);
      if (app.chat?.me !== name) return;
      if (!session || session.name === name) app.connection.start();
      else app.signedOut(ENDED, name);
      return;
    }
    app.signedOut(`${ENDED} Please enter your name again.`, name);
  },

  signedOut(error, name) {
    app.leave();
    app.ask(error, name);
  },

  // A refused handshake may mean that the session is gone, or that another tab of
  // this browser has taken another name. Asking for the name again mends both;
  // only if it is refused has the person to choose.
  async mayRetry(name) {
    try {
      const session = await app.session();
      if (session.name === name) return true;
      if (app.mode === 'jwt') {
        if (app.chat?.me === name) app.signedOut(ENDED, name);
        return false;
      }
      await postSession(name);
      return true;
    } catch (err) {
      const refused = err instanceof ApiError && err.code !== '' && [400, 401, 403, 409].includes(err.status);
      if (refused && app.chat?.me === name) app.signedOut(err.message, name);
      return !refused;
    }
  },

  changed() {
    app.timer ??= setTimeout(app.draw, FRAME);
  },

  draw() {
    clearTimeout(app.timer);
    app.timer = undefined;
    document.title = title();
    render(html`<${Root} app=${app} />`, document.getElementById('app'));
  },
};

function title() {
  if (!app.chat) return 'Burrow';
  const { unread, active } = app.chat;
  const name = active === ROOM ? 'Burrow' : `${active} · Burrow`;
  return unread > 0 ? `(${unread}) ${name}` : name;
}

catchDrops(document, () => app.chat?.notices.say(NO_FILES));
eachDay(app.changed); // "Today" becomes "Yesterday"
document.addEventListener('visibilitychange', () => app.chat?.seen());
app.boot();
