// How the button's panel looks, for a constructed style sheet: it follows the
// color-scheme of the site.

/** The style sheet's text. */
export const STYLE = `
  .panel {
    --card: #fff; --sunk: #f3f5f8; --line: #d6dde6; --text: #17202c; --soft: #556275; --good: #12784a; --bad: #b32625; --warn: #8a5300; --stop: #c0302f;
    --card: light-dark(#fff, #171e27); --sunk: light-dark(#f3f5f8, #222b37); --line: light-dark(#d6dde6, #364252); --text: light-dark(#17202c, #e7edf4);
    --soft: light-dark(#556275, #9dabbc); --good: light-dark(#12784a, #58ce93); --bad: light-dark(#b32625, #ff8f8b); --warn: light-dark(#8a5300, #f0b557);
    --stop: light-dark(#c0302f, #cf3f3d);
    box-sizing: border-box; width: min(320px, calc(100vw - 40px)); padding: 16px; border: 1px solid var(--line); border-radius: 18px;
    background: var(--card); color: var(--text); box-shadow: 0 10px 40px rgb(10 20 40 / 22%); text-align: start;
  }
  .panel * { box-sizing: border-box; }
  .panel p { margin: 0; }
  .head { display: flex; align-items: center; gap: 10px; min-height: 28px; }
  .lamp { flex: none; width: 10px; height: 10px; border-radius: 50%; background: var(--warn); }
  [data-state="up"] .lamp, [data-state="bridged"] .lamp { background: var(--good); }
  [data-state="ended"] .lamp { background: var(--soft); }
  [data-state="failed"] .lamp { background: var(--bad); }
  .state { flex: 1; font-size: 17px; font-weight: 650; }
  .timer { color: var(--soft); font-variant-numeric: tabular-nums; }
  .fine:empty { display: none; }
  .trouble { margin-top: 12px; font-size: 14px; }
  .trouble strong { color: var(--bad); }
  .choices { display: flex; flex-wrap: wrap; gap: 6px; margin-top: 12px; }
  .pad { display: grid; grid-template-columns: repeat(3, 1fr); gap: 6px; margin-top: 12px; }
  .panel button { display: inline-flex; align-items: center; justify-content: center; gap: 8px; min-height: 44px; padding: 4px 12px; border: 1px solid var(--line);
    border-radius: 12px; background: var(--sunk); color: var(--text); font: inherit; font-size: 15px; font-weight: 550; cursor: pointer; touch-action: manipulation; }
  .panel button:hover:not(:disabled) { border-color: var(--soft); }
  .panel button:disabled { opacity: .55; cursor: default; }
  .panel button:focus-visible { outline: 2.5px solid light-dark(#1857b8, #79b0ff); outline-offset: 2px; }
  .panel .key { flex-direction: column; gap: 0; }
  .key.pressed { border-color: var(--text); }
  .digit { font-size: 18px; line-height: 1.1; }
  .letters { font-size: 9px; letter-spacing: .1em; color: var(--soft); }
  .letters:empty { display: none; }
  .choices button { min-height: 36px; border-radius: 18px; overflow-wrap: anywhere; text-align: start; }
  .bar { display: flex; gap: 8px; margin-top: 14px; }
  .panel .bar button { flex: 1; flex-direction: column; gap: 2px; min-height: 56px; padding: 6px 4px; font-size: 12px; }
  .panel .bar .hangup { border-color: transparent; background: var(--stop); color: #fff; }
  .panel .bar [aria-pressed="true"] { border-color: var(--text); background: var(--text); color: var(--card); }
  .icon { width: 22px; height: 22px; fill: none; stroke: currentColor; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
  .icon.solid { fill: currentColor; stroke: none; }
  .keys .icon { stroke-width: 3.2; }
  [data-state="connecting"] .lamp, [data-state="transferring"] .lamp { animation: breathe 1.2s ease-in-out infinite alternate; }
  @keyframes breathe { to { opacity: .3; } }
  @media (prefers-reduced-motion: reduce) { .lamp { animation: none !important; } }
`;
