// Talk from a terminal: each line of the input is said to everyone, once; what others say is shown, once.
// Written after docs/protocol.md alone, with nothing to install:
//   node --experimental-websocket docs/examples/talk.mjs http://localhost:8000 ada
import { randomUUID } from 'node:crypto';
import { createInterface } from 'node:readline';

const [server, name] = process.argv.slice(2);
const unsent = new Map(); // By ref: what has no ack yet, in order.
const seen = new Set(); // The ids of what was shown.
let cookie = '', since = '', socket = null, failures = 0, heard = 0, over = false;

const emit = (frame) => socket?.readyState === WebSocket.OPEN && socket.send(JSON.stringify(frame));
const send = (ref) => unsent.has(ref) && emit({ send: { ref, content: unsent.get(ref), to_user: '' } });
const leaveIfDone = () => over && !unsent.size && (socket?.readyState === WebSocket.OPEN ? socket.close(1000) : process.exit());
const fail = (e) => { console.error(e.message); process.exit(1); };

async function signIn() {
  const headers = { 'Content-Type': 'application/json', cookie };
  const res = await fetch(`${server}/api/session`, { method: 'POST', headers, body: JSON.stringify({ name }) });
  if (!res.ok) throw new Error((await res.json()).error.message);
  cookie = res.headers.getSetCookie().map((c) => c.split(';')[0]).join('; ');
}
function show(chat) {
  if (!seen.has(chat.id)) console.log(`${chat.sender}: ${chat.content}`);
  seen.add(chat.id);
}
function received({ welcome, chat, history, ack, error }) {
  if (welcome) {
    console.log(`* connected, recovered ${welcome.recovered}`);
    failures = 0;
    [...unsent.keys()].forEach(send); // With the refs they had: each stays one message.
    if (welcome.history_after) emit({ history: { after: welcome.history_after, limit: 100 } });
  } else if (chat) { show(chat); since = chat.id; }
  else if (history) {
    history.messages.forEach(show);
    if (history.has_more) emit({ history: { after: history.messages.at(-1).id, limit: 100 } });
  } else if (ack || (error?.ref && !['rate_limited', 'unavailable'].includes(error.code))) {
    console.log(ack ? `* ack ${ack.id}` : `* refused: ${error.message}`);
    unsent.delete((ack ?? error).ref);
    leaveIfDone();
  } else if (error) setTimeout(send, error.retry_after_ms || 1000, error.ref);
}
function connect() {
  const url = `${server.replace('http', 'ws')}/ws/${encodeURIComponent(name)}?since=${since}`;
  socket = new WebSocket(url, { protocols: ['burrow.v1.json'], headers: { cookie } });
  socket.onmessage = ({ data }) => { heard = Date.now(); JSON.parse(data).frames.forEach(received); };
  socket.onerror = () => {}; // What follows says it.
  socket.onclose = ({ code, reason }) => {
    console.log(`* closed with ${code}`);
    leaveIfDone();
    const wait = /^retry-ms=(\d+)$/.exec(reason)?.[1] ?? Math.min(500 * 2 ** failures++, 30_000) * (0.5 + Math.random());
    setTimeout(() => (code === 4401 ? signIn() : Promise.resolve()).then(connect, fail), wait);
  };
}
setInterval(() => (Date.now() - heard > 35_000 ? socket?.close() : emit({ ping: {} })), 25_000);
createInterface({ input: process.stdin }).on('close', () => { over = true; leaveIfDone(); })
  .on('line', (content) => { const ref = randomUUID(); unsent.set(ref, content); send(ref); });
signIn().then(connect, fail);
