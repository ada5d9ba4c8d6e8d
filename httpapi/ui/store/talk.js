// One conversation: the room, or a private talk.
import { unread } from './read.js';

/** emptyTalk makes a talk of which nothing is known yet. */
export const emptyTalk = (key) => ({
  key,
  messages: [], // by id, without holes: what is missing is older than the first
  hasMore: null, // whether the archive has older ones; null: not asked yet
  loading: false,
  trouble: '', // why older ones could not be loaded
  unread: 0,
  called: 0, // how many of the unread ones mention one
  unreadMore: false, // there may be more than that
  marker: null, // id above which the "new" line is drawn while the talk is open
  excerpt: null, // what is shown instead, see excerpt.js
  target: null, // {id} of the message that somebody wants to see
});

/** recount counts what is unread in a talk; it returns the id of the first one, or null. */
export function recount(talk, mark, me, calls) {
  const { count, called, first, more } = unread(talk.messages, mark, me, calls);
  talk.unread = count;
  talk.called = called;
  talk.unreadMore = more && talk.hasMore !== false;
  return first;
}

/** byNews orders private talks: the one with the latest message first. */
export function byNews(talks) {
  const last = (talk) => talk.messages.at(-1)?.id ?? '';
  return talks.sort((a, b) => (last(a) < last(b) ? 1 : last(a) > last(b) ? -1 : a.key.localeCompare(b.key)));
}
