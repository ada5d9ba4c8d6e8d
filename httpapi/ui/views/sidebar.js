// Talks and people.
import { line } from '../lib/format.js';
import { html, useState } from '../lib/html.js';
import { nameProblem } from '../lib/names.js';
import { shortTimeOf } from '../lib/times.js';
import { ROOM } from '../store/messages.js';
import { Avatar, Icon, Logo, RoomMark } from './parts.js';

const MANY = 8; // people from whom on there is a filter
const DRAWN = 300; // people in the list at once
const ALPHABET = new Intl.Collator(undefined, { numeric: true }); // guest 2 before guest 10

function Badge({ talk }) {
  const { unread: count, unreadMore: more, called } = talk;
  return html`${called > 0 && html`<span class="badge called" data-testid="called">@${called > 99 ? '99+' : called}</span><span class="hidden"> mentions of you, </span>`}${count > 0 && html`<span class="badge" data-testid="unread">${count > 999 ? '999+' : `${count}${more ? '+' : ''}`}</span><span class="hidden"> unread</span>`}`;
}

// LastLine is what was said last, or what waits to be sent.
function LastLine({ chat, talk }) {
  const draft = talk.key !== chat.active && chat.drafts.get(talk.key).trim();
  if (draft) return html`<span class="last"><em>Draft:</em> <bdi>${line(draft, 60)}</bdi></span>`;
  const msg = chat.outbox.items.findLast((item) => item.talk === talk.key) ?? talk.messages.at(-1);
  if (!msg) return null;
  const own = !msg.sender || msg.sender === chat.me;
  const who = own ? 'You: ' : talk.key === ROOM ? html`<bdi>${msg.sender}</bdi>: ` : '';
  return html`<span class="last" data-testid="last">${who}<bdi>${line(msg.content, 60)}</bdi></span>`;
}

function Talk({ chat, talk, pick }) {
  const room = talk.key === ROOM;
  const state = chat.stateOf(talk.key);
  const last = talk.messages.at(-1);
  return html`<button type="button" class=${talk.unread > 0 ? 'entry talk unread' : 'entry talk'} data-testid=${room ? 'tab-global' : 'talk'} data-user=${room ? undefined : talk.key}
    aria-current=${chat.active === talk.key ? 'true' : undefined} onClick=${() => pick(talk.key)}>
    ${room ? html`<${RoomMark} />` : html`<${Avatar} name=${talk.key} state=${state} />`}
    <span class="two">
      <span class="top"><span class="name">${room ? 'Global room' : html`<bdi>${talk.key}</bdi>`}</span>${!room && html`<span class="hidden">${says[state]}. </span>`}${last && html`<time datetime=${last.sent_at}>${shortTimeOf(last.sent_at)}</time>`}</span>
      <span class="bottom"><${LastLine} chat=${chat} talk=${talk} /><${Badge} talk=${talk} /></span>
    </span>
  </button>`;
}

const says = { on: ', online', away: ', away', off: ', offline', '': '' };

// People are those who are online; with many of them one can look for a name.
function People({ chat, pick }) {
  const [filter, put] = useState('');
  const setFilter = (text) => {
    put(text);
    chat.people.look(text.normalize('NFC').trim());
  };
  const wanted = filter.normalize('NFC').trim();
  const fold = (name) => name.normalize('NFKC').toLocaleLowerCase();
  const folded = fold(wanted);
  const known = wanted === '' ? chat.online : new Set([...chat.online, ...chat.people.found]);
  const all = [...known].filter((name) => name !== chat.me).sort(ALPHABET.compare);
  const found = wanted === '' ? all : all.filter((name) => fold(name).includes(folded));
  const exact = found.some((name) => fold(name) === folded) || folded === fold(chat.me);
  const write = wanted !== '' && !exact && nameProblem(wanted) === '';
  const unnamed = chat.people.total - chat.online.size;
  return html`<h2 id="people">Online <span class="count" data-testid="online-count">${chat.people.total}</span></h2>
    ${(all.length >= MANY || unnamed > 0 || filter !== '') && html`<div class="filter"><${Icon} name="search" size="16" /><input type="search" data-testid="filter" value=${filter} aria-label="Find a person" placeholder="Find a person" maxlength="64" autocomplete="off" spellcheck=${false}
      onInput=${(e) => setFilter(e.currentTarget.value)}
      onKeyDown=${(e) => {
        if (e.key === 'Escape' && filter !== '') { e.stopPropagation(); setFilter(''); }
        if (e.key === 'Enter' && (found.length > 0 || write)) { pick(found[0] ?? wanted); setFilter(''); }
      }} /></div>`}
    <ul aria-labelledby="people" data-testid="people">
      ${wanted === '' && chat.online.has(chat.me) && html`<li key=${chat.me}>
        <div class="entry me" data-testid="user" data-user=${chat.me}><${Avatar} size="small" name=${chat.me} state=${chat.stateOf(chat.me)} /><span class="name"><bdi>${chat.me}</bdi></span><span class="you">you</span></div>
      </li>`}
      ${found.slice(0, DRAWN).map((name) => html`<li key=${name}>
        <button type="button" class="entry" data-testid="user" data-user=${name} data-state=${chat.stateOf(name)} title=${`Talk to ${name} privately`} onClick=${() => pick(name)}>
          <${Avatar} size="small" name=${name} state=${chat.stateOf(name)} /><span class="name"><bdi>${name}</bdi></span>${chat.stateOf(name) === 'away' && html`<span class="you">away</span>`}
        </button></li>`)}
      ${write && html`<li key="write"><button type="button" class="entry" data-testid="write-to" onClick=${() => { pick(wanted); setFilter(''); }}>
        <${Avatar} size="small" name=${wanted} /><span class="name">Write to <bdi>${wanted}</bdi></span></button></li>`}
    </ul>
    ${wanted === '' && unnamed > 0 && html`<p class="hint">And ${unnamed} more: find them by name.</p>`}
    ${wanted === '' && all.length === 0 && chat.connected && unnamed <= 0 && html`<p class="hint">Nobody else is here yet.</p>`}`;
}

/** Sidebar lists both; pick opens a talk. */
export function Sidebar({ app, open, phone, pick, nav, settings }) {
  const { chat } = app;
  const talks = chat.privateTalks;
  return html`<nav id="sidebar" ref=${nav} class=${open ? 'open' : ''} aria-label="Talks and people" inert=${phone && !open}>
    <div class="brand"><${Logo} /><span>Burrow</span></div>
    <div class="scroll" tabindex="-1">
      <${Talk} chat=${chat} talk=${chat.talks.get(ROOM)} pick=${pick} />
      ${talks.length > 0 && html`<h2 id="talks">Private talks</h2>
        <ul aria-labelledby="talks">${talks.map((talk) => html`<li key=${talk.key}><${Talk} chat=${chat} talk=${talk} pick=${pick} /></li>`)}</ul>`}
      <${People} chat=${chat} pick=${pick} />
    </div>
    <div class="self">
      <${Avatar} size="small" name=${chat.me} state=${chat.stateOf(chat.me)} /><span class="name"><bdi>${chat.me}</bdi></span>
      <button type="button" class="iconbutton" data-testid="settings" aria-label="Settings" title="Settings" onClick=${settings}><${Icon} name="settings" /></button>
    </div>
  </nav>`;
}
