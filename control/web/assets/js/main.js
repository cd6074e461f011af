// The frame of the page: views by the part of the address behind #, the theme, and
// whether the daemon speaks to us.
import { text } from './dom.js';
import { live, on, start } from './live.js';
import { kpis } from './kpis.js';
import { map, wire } from './map.js';
import { drops } from './drops.js';
import { drawer, closeDrawer } from './drawer.js';
import { flows, nat, macs } from './tables.js';
import { why } from './why.js';
import { events } from './events.js';
import { capture } from './capture.js';

const byId = (id) => document.getElementById(id);
const root = document.documentElement;

const views = {
  map: (() => { kpis(byId('kpis')); map(byId('map')); drops(byId('drops'), byId('drops-note')); return wire; })(),
  flows: flows(byId('v-flows')),
  nat: nat(byId('v-nat')),
  macs: macs(byId('v-macs')),
  why: why(byId('v-why')),
  events: events(byId('v-events')),
  capture: capture(byId('v-capture')),
};
drawer(byId('drawer'));

function show() {
  const [name, query] = location.hash.slice(1).split('?');
  const view = views[name] ? name : 'map';
  for (const v of Object.keys(views)) byId(`v-${v}`).hidden = v !== view;
  for (const a of document.querySelectorAll('.tabs a')) {
    if (a.hash === `#${view}`) a.setAttribute('aria-current', 'page'); else a.removeAttribute('aria-current');
  }
  document.title = view === 'map' ? 'vswitch' : `${view} · vswitch`;
  if (view !== 'map') closeDrawer();
  root.dataset.view = view;
  views[view](new URLSearchParams(query));
}
addEventListener('hashchange', show);
show();

// The theme goes round: as the system has it, light, dark.
const themes = ['auto', 'light', 'dark'];
function sayTheme() {
  const says = `Theme: ${root.dataset.theme}`;
  text(byId('theme-text'), says);
  byId('theme').title = says;
}
byId('theme').addEventListener('click', () => {
  root.dataset.theme = themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length];
  try { localStorage.setItem('theme', root.dataset.theme); } catch { /* forgotten with the page */ }
  sayTheme();
});
sayTheme();

const many = (n, what) => `${n} ${what}${n === 1 ? '' : 's'}`;

const words = { live: 'live', lost: 'the daemon does not answer', refused: 'refused: open the page anew' };
on('state', (s) => {
  byId('state').dataset.state = s;
  text(byId('state-text'), words[s]);
});
on('topology', () => {
  const { info } = live.topology;
  text(byId('where'), [info.version, many(live.topology.containers.length, 'container'), many(live.topology.networks.length, 'network')].join(' · '));
});
start();
