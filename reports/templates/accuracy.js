"use strict";
(() => {
  const data = JSON.parse(document.getElementById("accuracy-data").textContent);
  const ours = document.getElementById("accuracy-chart");
  const theirs = document.getElementById("published-chart");
  const selects = [...document.querySelectorAll("#accuracy-controls select[data-setting]")];
  const setup = document.getElementById("accuracy-setup");
  const scale = document.getElementById("accuracy-scale");
  const families = [...document.querySelectorAll("#accuracy-families input")];
  const config = { responsive: true, displayModeBar: false };
  const bySetting = Object.fromEntries(data.settings.map((setting) => [setting.name, setting.values]));
  let group = 0;

  const shown = (points) => points.filter((point) => families[point.family].checked);
  const diameter = (point) => 1.5 * Math.sqrt(20 + 1.1 * Math.min(point.params_m ?? 0, 220));

  // what no other beats on both axes, by rising latency
  function frontier(points) {
    const best = [];
    for (const point of [...points].sort((a, b) => a.x - b.x || b.top1 - a.top1)) {
      if (!best.length || point.top1 > best[best.length - 1].top1) best.push(point);
    }
    return best;
  }

  function frontierTrace(points) {
    const best = frontier(points);
    return {
      type: "scatter", mode: "lines", x: best.map((p) => p.x), y: best.map((p) => p.top1), name: "Pareto front",
      line: { width: 11, color: "rgba(86, 180, 233, 0.32)" }, hoverinfo: "skip", showlegend: false,
    };
  }

  // from the smallest to the largest network, by parameters where all are known
  function inOrder(points) {
    const known = points.every((point) => point.params_m);
    return [...points].sort((a, b) => (known ? a.params_m - b.params_m : 0) || a.x - b.x);
  }

  function familyTrace(place, points, hollow) {
    const { name, color, marker } = data.families[place];
    const members = inOrder(points);
    return {
      type: "scatter", mode: "lines+markers", name, showlegend: false,
      x: members.map((p) => p.x), y: members.map((p) => p.top1),
      text: members.map((p) => p.text), hovertemplate: "%{text}<extra></extra>",
      line: { width: 1.4, color },
      marker: {
        symbol: marker, size: members.map(diameter), opacity: 1,
        color: hollow ? "white" : color, line: { width: 1.8, color },
      },
      error_x: {
        type: "data", symmetric: false, array: members.map((p) => p.high - p.x),
        arrayminus: members.map((p) => p.x - p.low), color, thickness: 1.4, width: 3,
      },
      error_y: {
        type: "data", symmetric: false, array: members.map((p) => p.top1_high - p.top1),
        arrayminus: members.map((p) => p.top1 - p.top1_low), color, thickness: 1.4, width: 3,
        visible: members.some((p) => p.top1_high > p.top1_low),
      },
    };
  }

  function traces(points, hollow) {
    const found = new Map();
    for (const point of points) found.set(point.family, [...(found.get(point.family) ?? []), point]);
    const lines = [...found].map(([place, members]) => familyTrace(place, members, hollow));
    return [frontierTrace(points), ...lines];
  }

  function layout(points, title, accuracy, range) {
    const empty = points.length ? [] : [{ text: "no network of the chosen families", showarrow: false, x: 0.5, y: 0.5, xref: "paper", yref: "paper" }];
    return {
      ...data.layout,
      margin: { l: accuracy.includes("<br>") ? 78 : 58, r: 16, t: 10, b: 50 },
      xaxis: { ...data.axes[scale.value], title: { text: title } },
      yaxis: { ...data.axes.linear, title: { text: accuracy }, range },
      annotations: empty,
    };
  }

  // of accuracies with their intervals; both charts show the same one where they show the same images'
  function span(points) {
    const values = points.flatMap((point) => [point.top1_low, point.top1_high]);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const room = 0.08 * (high - low) || 1;
    return values.length ? [low - room, high + room] : [0, 100];
  }

  function draw() {
    const chosenGroup = data.groups[group];
    const measured = shown(chosenGroup.points);
    const published = setup ? shown(data.setups[Number(setup.value)].points) : [];
    const both = span([...measured, ...published]);
    const [range, theirRange] = chosenGroup.measured ? [span(measured), span(published)] : [both, both];
    Plotly.react(ours, traces(measured, false), layout(measured, data.titles.measured, chosenGroup.axis, range), config);
    if (theirs) Plotly.react(theirs, traces(published, true), layout(published, data.titles.published, data.titles.top1, theirRange), config);
    document.getElementById("accuracy-group").textContent = chosenGroup.title;
    if (!setup) return;
    const chosen = data.setups[Number(setup.value)];
    document.getElementById("published-about").textContent = `${chosen.name}: ${chosen.about}`;
  }

  // the group with the setting just chosen that shares most of the others; the other choices follow it
  function choose(changed) {
    const likeness = data.groups.map((_, place) =>
      selects.reduce((sum, select) => {
        const fits = bySetting[select.dataset.setting][place] === select.value;
        return sum + (fits ? (select === changed ? selects.length : 1) : 0);
      }, 0),
    );
    const before = data.groups[group].resolution;
    group = likeness.indexOf(Math.max(...likeness));
    for (const select of selects) select.value = bySetting[select.dataset.setting][group];
    if (setup && data.groups[group].resolution !== before) followResolution();
    draw();
  }

  function followResolution() {
    const same = data.setups.findIndex((one) => one.resolution === data.groups[group].resolution);
    if (same >= 0) setup.value = String(same);
  }

  for (const select of selects) select.addEventListener("change", () => choose(select));
  for (const other of [setup, scale, ...families]) other?.addEventListener("change", draw);
  for (const button of document.querySelectorAll("[data-families]")) {
    button.addEventListener("click", () => {
      for (const box of families) box.checked = button.dataset.families === "all";
      draw();
    });
  }
  for (const select of selects) select.value = bySetting[select.dataset.setting][group]; // a reloaded page starts anew
  if (setup) followResolution();
  draw();
  for (const place of [ours, theirs]) if (place) logTicks.follow(place);
})();
