// A transport: one attempt to talk to the server, here over a WebSocket. Whatever
// carries frames both ways can stand in for it, see Connection.
import { PROTOCOL } from './wire.js';

/**
 * openSocket starts to connect to a ws(s) address, and tells
 *   opened()                what is sent now arrives
 *   received(text)          one batch of frames
 *   closed({code, reason})  the end, once; nothing is told afterwards
 * It returns {send(text) -> bool, close()}. After close() nothing is told any more,
 * so that two attempts never speak at once.
 */
export function openSocket(url, { opened, received, closed }) {
  const socket = new WebSocket(url, PROTOCOL);
  socket.onopen = opened;
  socket.onmessage = (e) => typeof e.data === 'string' && received(e.data);
  socket.onclose = ({ code, reason }) => closed({ code, reason });
  return {
    send(text) {
      if (socket.readyState !== WebSocket.OPEN) return false;
      socket.send(text);
      return true;
    },
    close() {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    },
  };
}
