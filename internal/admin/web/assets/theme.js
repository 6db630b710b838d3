// Sets the colours before anything is drawn, so that nothing flashes.
(() => {
  'use strict';
  try {
    const theme = localStorage.getItem('ivrbridge.theme');
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
  } catch {
    // Storage is closed to us: the system's colours.
  }
})();
