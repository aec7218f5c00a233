// Light or dark, before the first paint. A classic script on purpose: a module would come too late.
// What the viewer chose is kept in this browser; without a choice the system's preference counts.
(function () {
  const KEY = 'tocsin-theme';
  function chosen() {
    try {
      const kept = localStorage.getItem(KEY);
      return kept === 'light' || kept === 'dark' ? kept : null;
    } catch {
      return null; // Storage is switched off: the system's preference counts.
    }
  }
  const dark = window.matchMedia('(prefers-color-scheme: dark)');
  function current() {
    return chosen() || (dark.matches ? 'dark' : 'light');
  }
  function apply() {
    document.documentElement.dataset.theme = current();
    window.dispatchEvent(new Event('tocsin-theme'));
  }
  function toggle() {
    try {
      localStorage.setItem(KEY, current() === 'dark' ? 'light' : 'dark');
      apply();
    } catch {
      document.documentElement.dataset.theme = current() === 'dark' ? 'light' : 'dark';
    }
  }
  dark.addEventListener('change', apply);
  window.tocsinTheme = { current, toggle };
  apply();
})();
