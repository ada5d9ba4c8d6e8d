// The HTTP side of the server: who am I, and what was said before.
import { sentence } from '../lib/text.js';

const TIMEOUT = 10_000; // ms; a request that hangs must not hang the page

/**
 * ApiError is an answer that says no. `code` is the server's code, '' when there
 * was no usable answer, also of a proxy; `status` is 0 when the server was not reached.
 */
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** isOwn tells whether an error answer is Burrow's own and not that of a proxy: only that ends a session. */
export const isOwn = (res) => res.headers.has('burrow-error');

// call returns the body of an answer, which has a list of that name if one is given: a proxy may answer 200.
async function call(path, options = {}, list = '') {
  let res;
  let body;
  try {
    res = await fetch(path, {
      ...options,
      headers: { accept: 'application/json', ...options.headers },
      signal: AbortSignal.timeout(TIMEOUT),
      cache: 'no-store',
    });
    body = await res.json().catch(() => null);
  } catch {
    throw new ApiError(0, '', 'The server cannot be reached. Check the connection and try again.');
  }
  if (res.ok && typeof body === 'object' && body && (list === '' || Array.isArray(body[list]))) return body;
  const error = (isOwn(res) && body?.error) || {};
  throw new ApiError(res.status, error.code ?? '', sentence(error.message ?? '') || `The server answered ${res.status}. Please try again later.`);
}

/**
 * getSession returns {mode: "guest"|"jwt"|"open", name, login}; name is '' when none is held.
 * In mode jwt one signs in elsewhere: at the address login, if there is one.
 */
export async function getSession() {
  const session = await call('api/session');
  if (typeof session.mode !== 'string') throw new ApiError(0, '', 'Another server answered. Please try again later.');
  return session;
}

/** postSession asks for a name and returns {mode, name} with the name as granted. */
export const postSession = (name) =>
  call('api/session', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name }),
  });

/**
 * getHistory returns {messages, has_more}, oldest first: the newest page, or the
 * one before or after an id; of the room, or of the talk with a person. clientId
 * is whom this page is of: the cookie may be another one's by now.
 */
export function getHistory({ before = '', after = '', talk = '', limit = 50, clientId = '' }) {
  const query = new URLSearchParams({ limit: String(limit) });
  if (before) query.set('before', before);
  if (after) query.set('after', after);
  if (talk) query.set('with', talk);
  if (clientId) query.set('client_id', clientId);
  return call(`api/history?${query}`, {}, 'messages');
}

/**
 * search returns {messages, has_more, behind}, newest first: what has the words of q,
 * everywhere (talk null), in the room, or in the talk with a person. Each message has
 * marks, pairs of where a hit begins and ends in its content.
 */
export function search({ q, before = '', talk = null, limit = 30, clientId = '' }) {
  const query = new URLSearchParams({ q, limit: String(limit) });
  if (before) query.set('before', before);
  if (talk !== null) query.set('with', talk || 'global');
  if (clientId) query.set('client_id', clientId);
  return call(`api/search?${query}`, {}, 'messages');
}

/** getConversations returns {conversations: [{with, message}]}: the private talks of clientId in the archive, newest first. */
export function getConversations({ clientId = '' }) {
  const query = new URLSearchParams({ limit: '50' });
  if (clientId) query.set('client_id', clientId);
  return call(`api/conversations?${query}`, {}, 'conversations');
}

/** findUsers returns {users: [{name, away}], found, total}: who is online and has q in the name. */
export function findUsers({ q, limit = 50, clientId = '' }) {
  const query = new URLSearchParams({ q, limit: String(limit) });
  if (clientId) query.set('client_id', clientId);
  return call(`api/users?${query}`, {}, 'users');
}
