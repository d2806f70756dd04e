"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // -- the table of cases ---------------------------------------------------------------------------------
  const table = document.getElementById("cases");

  function sortKey(row, column) {
    const text = row.cells[column].dataset.sort;
    if (text === undefined) return null;
    const number = Number(text);
    return text.trim() !== "" && Number.isFinite(number) ? number : text;
  }

  // numbers before words, what has no value last in both directions
  function compare(a, b, sign) {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b));
  }

  function sortBy(head) {
    const ascending = head.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows].map((row) => [sortKey(row, head.cellIndex), row]);
    rows.sort((a, b) => compare(a[0], b[0], ascending ? 1 : -1));
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }

  function makeSortable() {
    for (const head of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.addEventListener("click", () => sortBy(head));
      head.replaceChildren(button);
    }
  }

  function filterRows() {
    const words = document.getElementById("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = all("#filters select").filter((select) => select.value);
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const text = row.getAttribute("data-search");
      const fits =
        words.every((word) => text.includes(word)) &&
        wanted.every((select) => row.getAttribute(`data-${select.dataset.key}`) === select.value);
      row.hidden = !fits;
      shown += fits;
    }
    const total = table.tBodies[0].rows.length;
    const cases = total === 1 ? "case" : "cases";
    document.getElementById("count").textContent =
      shown === total ? `${total} ${cases}` : `${shown} of ${total} ${cases}`;
  }

  if (table) {
    makeSortable();
    const form = document.getElementById("filters");
    form.addEventListener("input", filterRows);
    form.addEventListener("submit", (event) => event.preventDefault());
    filterRows(); // a reloaded page keeps what was typed
  }

  // -- charts ---------------------------------------------------------------------------------------------
  const settings = { responsive: true, displayModeBar: false };

  function drawCost() {
    const place = document.getElementById("cost-chart");
    const { data: traces, layout, axes } = data.cost;
    Plotly.newPlot(place, traces, layout, settings);
    logTicks.follow(place);
    const buttons = all("[data-cost]");
    for (const button of buttons) {
      button.addEventListener("click", () => {
        for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
        const axis = axes[button.dataset.cost];
        Plotly.update(place, { x: axis.xs }, { "xaxis.title.text": axis.title, "xaxis.autorange": true });
      });
    }
  }

  // two charts side by side, or one above the other where there is no room
  function sampleLayout(narrow) {
    const grid = { gridcolor: "#e6eaee", zeroline: false };
    const time = { text: `latency, ${data.samples.unit}` };
    return {
      ...data.cost_layout,
      showlegend: true,
      margin: { l: 64, r: 12, t: 34, b: 46 },
      xaxis: { ...grid, title: { text: "sample, in order" }, domain: narrow ? [0, 1] : [0, 0.56] },
      yaxis: { ...grid, title: time, domain: narrow ? [0.56, 1] : [0, 1] },
      xaxis2: { ...grid, title: time, domain: narrow ? [0, 1] : [0.66, 1], anchor: "y2" },
      yaxis2: { ...grid, title: { text: "share at or below" }, domain: narrow ? [0, 0.38] : [0, 1], anchor: "x2", range: [0, 1.01] },
    };
  }

  function sampleTraces(rounds) {
    let at = 0;
    return rounds.flatMap((round, place) => {
      const color = data.samples.colors[place % data.samples.colors.length];
      const name = round.counted ? round.name : `${round.name} (disturbed, not counted)`;
      const order = round.samples.map((_, i) => at + round.warmup.length + i);
      const warm = round.warmup.map((_, i) => at + i);
      at += round.warmup.length + round.samples.length + 6;
      const sorted = [...round.samples].sort((a, b) => a - b);
      const share = sorted.map((_, i) => (i + 1) / sorted.length);
      const shared = { name, legendgroup: name, type: "scatter" };
      const faint = { ...shared, showlegend: false, hovertemplate: "%{y} " + data.samples.unit + " (warm-up)<extra></extra>" };
      return [
        { ...shared, x: order, y: round.samples, mode: "markers", marker: { size: 4, color }, hovertemplate: `%{y} ${data.samples.unit}<extra></extra>` },
        { ...faint, x: warm, y: round.warmup, mode: "markers", marker: { size: 4, color: "#c4ccd4" } },
        { ...shared, x: sorted, y: share, mode: "lines", line: { shape: "hv", width: 1.6, color }, showlegend: false, xaxis: "x2", yaxis: "y2", hoverinfo: "skip" },
      ];
    });
  }

  function drawSamples() {
    const place = document.getElementById("sample-chart");
    const choice = document.getElementById("browse");
    data.samples.cases.forEach((item, index) => choice.add(new Option(item.label, String(index))));
    const draw = () => {
      const chosen = data.samples.cases[Number(choice.value)];
      const narrow = place.clientWidth < 640;
      place.style.height = narrow ? "640px" : "";
      document.getElementById("browse-summary").textContent = chosen.summary;
      Plotly.react(place, sampleTraces(chosen.rounds), sampleLayout(narrow), settings);
    };
    choice.addEventListener("change", draw);
    draw();
  }

  if (document.getElementById("cost-chart")) drawCost();
  if (document.getElementById("sample-chart")) drawSamples();

  // -- downloads and print --------------------------------------------------------------------------------
  function save(url, name) {
    const link = document.createElement("a");
    link.href = url;
    link.download = name;
    link.click();
  }

  function saveDrawing(button) {
    const svg = document.querySelector(`#${button.dataset.svg} svg`);
    const text = `<?xml version="1.0" encoding="UTF-8"?>\n${new XMLSerializer().serializeToString(svg)}`;
    const url = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
    save(url, button.dataset.file);
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  }

  async function saveChart(button) {
    const place = document.getElementById(button.dataset.chart);
    const { clientWidth: width, clientHeight: height } = place;
    save(await Plotly.toImage(place, { format: "svg", width, height }), button.dataset.file);
  }

  for (const button of all(".download")) {
    button.addEventListener("click", () => (button.dataset.svg ? saveDrawing(button) : saveChart(button)));
  }

  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all("details:not([open])");
    for (const item of opened) item.open = true;
  });
  addEventListener("afterprint", () => {
    for (const item of opened) item.open = false;
  });
})();
