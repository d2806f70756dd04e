"use strict";
// plain numbers on the log axes of a chart, for what is in view: plotly's own are digits without their power
const logTicks = (() => {
  const STEPS = [1, 2, 5, 10];

  // evenly spaced below a factor 4, as a log axis is nearly straight there; then fewer, the wider the view is
  function between(low, high, most) {
    if (high / low < 4) return even(low, high, most);
    const digits = high / low < 20 ? [1, 2, 3, 5, 7] : high / low < 1000 ? [1, 2, 5] : [1];
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      found.push(...digits.map((digit) => Number(`${digit}e${power}`)));
    }
    return found.filter((tick) => tick >= low && tick <= high);
  }

  function even(low, high, most) {
    const power = 10 ** Math.floor(Math.log10((high - low) / most));
    const step = power * STEPS.find((digit) => (high - low) / (digit * power) <= most);
    const first = Math.ceil(low / step);
    const count = Math.max(0, Math.floor(high / step) - first + 1);
    return Array.from({ length: count }, (_, index) => Number(((first + index) * step).toPrecision(12)));
  }

  function mark(place) {
    const changes = {};
    for (const name of ["xaxis", "yaxis"]) {
      const axis = place.layout[name];
      if (axis?.type !== "log" || !axis.range) continue;
      const [low, high] = axis.range.map((end) => 10 ** end);
      const ticks = between(low, high, place.clientWidth < 500 ? 4 : 7);
      if (String(ticks) === String(axis.tickvals)) continue;
      changes[`${name}.tickvals`] = ticks;
      changes[`${name}.ticktext`] = ticks.map(String);
    }
    if (Object.keys(changes).length) Plotly.relayout(place, changes);
  }

  // once for each chart, after it is drawn first: what is zoomed, hidden or shown later is marked anew
  function follow(place) {
    place.on("plotly_afterplot", () => mark(place));
    mark(place);
  }

  return { follow };
})();
