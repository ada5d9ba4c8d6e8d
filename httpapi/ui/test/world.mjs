// A Chat in a world of its own: what it sends is noted, the archive is two lists, and
// time stands still unless a test moves it.
import { beforeEach, mock } from 'node:test';
import { Chat } from '../store/chat.js';

beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ['setTimeout', 'Date'] });
});
export const pass = (ms) => mock.timers.tick(ms);

/** settled lets promises that are already resolved run; no time passes. */
export const settled = async () => {
  for (let i = 0; i < 50; i++) await Promise.resolve();
};

export const id = (n) => `id-${String(n).padStart(5, '0')}`;
export const msg = (n, sender = 'bob', content = `m${n}`, to_user = '') => ({ id: id(n), sender, content, to_user, sent_at: '2026-01-31T12:00:00Z' });

/** setup returns a Chat with an archive of its own: `room` is what the archive holds. */
export function setup({ room = [], direct = [], open = true, remembered = {}, tabs, ...more } = {}) {
  const world = { sent: [], asked: [], visible: true, reconnects: 0, accept: true, broken: false, arrived: [] };
  world.remembered = new Map(Object.entries(remembered));
  world.chat = new Chat({
    me: 'me',
    send: (text) => world.accept && (world.sent.push(JSON.parse(text)), true),
    reconnect: () => world.reconnects++,
    visible: () => world.visible,
    memory: { get: (name, otherwise) => world.remembered.get(name) ?? otherwise, set: (name, value) => world.remembered.set(name, value) },
    tabs,
    arrived: (m) => world.arrived.push(m.content),
    conversations: async () => ({ conversations: [] }),
    history: async ({ before = '', after = '', talk, limit }) => {
      world.asked.push(after === '' ? { before, talk } : { after, talk });
      if (world.broken) throw new Error('down');
      const all = (talk === '' ? room : direct).filter((m) => (before === '' || m.id < before) && m.id > after);
      return { messages: after === '' ? all.slice(-limit) : all.slice(0, limit), has_more: all.length > limit };
    },
    ...more,
  });
  world.batch = (...frames) => world.chat.frame(JSON.stringify({ frames }));
  world.frame = (chat) => world.batch({ chat });
  // open is what a connection begins with.
  world.open = (messages = [], recovered = false) => {
    world.chat.opened();
    world.batch({ welcome: { client_id: 'me', recovered, max_content_bytes: 4096 } }, ...messages.map((chat) => ({ chat })), { presence: { users: ['me'], total: 1 } });
  };
  const flying = () => world.chat.outbox.items.find((it) => it.state === 'sending')?.ref ?? world.sent.at(-1).send.ref;
  world.ack = (n) => world.batch({ ack: { ref: flying(), id: id(n), sent_at: '2026-01-31T12:00:00Z' } });
  world.refuse = (code, message, retry_after_ms = 0) => world.batch({ error: { code, message, ref: flying(), retry_after_ms } });
  world.ids = (key = '') => world.chat.talks.get(key).messages.map((m) => Number(m.id.slice(3)));
  world.states = () => world.chat.outbox.items.map((it) => `${it.content}:${it.state}`);
  world.write = (text, talk = '') => world.chat.outbox.add(talk, text);
  if (open) world.open();
  return world;
}
export const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
