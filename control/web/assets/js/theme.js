// The theme is set before anything is drawn, so that nothing flashes: this script
// is no module and stands in the head. "auto" follows the system.
(() => {
  let theme = 'auto';
  try { theme = localStorage.getItem('theme') || 'auto'; } catch { /* no storage: auto */ }
  document.documentElement.dataset.theme = theme;
})();
