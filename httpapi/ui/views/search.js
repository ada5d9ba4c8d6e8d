// Search: a field, and what was found beside the conversation.
import { html, useLayoutEffect, useRef } from '../lib/html.js';
import { fullTimeOf, shortTimeOf } from '../lib/times.js';
import { ROOM, talkOf } from '../store/messages.js';
import { snippet } from '../store/search.js';
import { Avatar, Icon, RoomMark } from './parts.js';

/** SearchPanel is shown while search.open; pick(key, id) opens a hit in its talk. */
export function SearchPanel({ chat, pick, close }) {
  const { search } = chat;
  const input = useRef();
  const list = useRef();
  useLayoutEffect(() => {
    input.current.focus();
    input.current.select();
  }, []);

  // Up and down go through field and hits, as in a menu.
  const onKeyDown = (e) => {
    if (e.key === 'Escape') {
      e.stopPropagation();
      close();
      return;
    }
    if (e.altKey || (e.key !== 'ArrowDown' && e.key !== 'ArrowUp')) return;
    const stops = [input.current, ...list.current.querySelectorAll('button')];
    const at = stops.indexOf(document.activeElement);
    const next = stops[at + (e.key === 'ArrowDown' ? 1 : -1)];
    if (!next) return;
    e.preventDefault();
    next.focus();
  };
  const talk = chat.talks.get(chat.active);
  const here = talk.key === ROOM ? 'Only in the global room' : html`Only with <bdi>${talk.key}</bdi>`;
  return html`<aside class="search" role="search" aria-label="Search messages" data-testid="search" onKeyDown=${onKeyDown}>
    <div class="bar">
      <div class="filter"><${Icon} name="search" size="16" /><input ref=${input} type="search" data-testid="search-input" value=${search.query} aria-label="Search messages" placeholder="Search messages" maxlength="1000" autocomplete="off" enterkeyhint="search"
        onInput=${(e) => search.type(e.currentTarget.value)} /></div>
      <button type="button" class="iconbutton" data-testid="search-close" aria-label="Close search" onClick=${close}><${Icon} name="close" /></button>
    </div>
    <label class="check"><input type="checkbox" data-testid="search-here" checked=${search.talk !== null} onChange=${(e) => search.within(e.currentTarget.checked ? talk.key : null)} /> <span>${
      search.talk === null || search.talk === talk.key ? here : search.talk === ROOM ? 'Only in the global room' : html`Only with <bdi>${search.talk}</bdi>`
    }</span></label>
    <p class="hint" role="status" data-testid="search-status">${status(search)}${!chat.keepsPrivate && ' Private messages are not kept by this server.'}</p>
    ${search.trouble && html`<p class="error" role="alert" data-testid="search-trouble">${search.trouble}</p>`}
    <ul class="hits" ref=${list} aria-label="Results">
      ${search.hits.map((msg) => html`<${Hit} key=${msg.id} msg=${msg} me=${chat.me} pick=${pick} />`)}
      ${search.hasMore && html`<li key="more"><button type="button" class="link" data-testid="search-more" disabled=${search.loading} onClick=${() => search.more()}>More results</button></li>`}
    </ul>
  </aside>`;
}

function status({ query, loading, done, hits, hasMore, trouble, behind }) {
  if (query.trim() === '') return 'Words that a message has; “in quotes” they stand together.';
  if (loading && hits.length === 0) return 'Searching…';
  if (trouble || !done) return '';
  const late = behind > 0 ? ' The newest messages are not searched yet.' : '';
  if (hits.length === 0) return `Nothing found.${late}`;
  return `${hits.length}${hasMore ? ' or more' : ''} ${hits.length === 1 ? 'message' : 'messages'}.${late}`;
}

function Hit({ msg, me, pick }) {
  const key = talkOf(msg, me);
  return html`<li><button type="button" class="hit" data-testid="hit" data-id=${msg.id} onClick=${() => pick(key, msg.id)}>
    ${key === ROOM ? html`<${RoomMark} size="small" />` : html`<${Avatar} size="small" name=${key} />`}
    <span class="two">
      <span class="top"><span class="name"><bdi>${msg.sender === me ? 'You' : msg.sender}</bdi><span class="where">${key === ROOM ? '' : html` · ${msg.sender === me ? html`to <bdi>${key}</bdi>` : 'private'}`}</span></span><time datetime=${msg.sent_at} title=${fullTimeOf(msg.sent_at)}>${shortTimeOf(msg.sent_at)}</time></span>
      <span class="snippet" dir="auto">${snippet(msg.content, msg.marks).map(({ text, hit }) => (hit ? html`<mark>${text}</mark>` : text))}</span>
    </span>
  </button></li>`;
}
