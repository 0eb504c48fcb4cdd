// Plots of the last hour, and a note if the page is no longer up to date.
"use strict";
(() => {
  const KEPT = 1800;
  const series = { at_seconds: [], published: [], applied: [], lag: [], freshness: [] };
  const plots = [];
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const short = (value) => {
    if (value === null || value === undefined) return "-";
    if (value >= 1e6) return (value / 1e6).toFixed(1) + " M";
    if (value >= 1e4) return (value / 1e3).toFixed(0) + " k";
    return value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });
  };
  const zero = (plot, low, high) => [0, Math.max(1, high || 0) * 1.05];

  const spark = (element) => {
    const name = element.dataset.series;
    const options = {
      width: element.clientWidth, height: 40, legend: { show: false }, cursor: { show: false },
      select: { show: false }, padding: [4, 0, 2, 0], axes: [{ show: false }, { show: false }],
      scales: { y: { range: zero } },
      series: [{}, { stroke: () => color("--brand"), width: 1.5, points: { show: false } }],
    };
    const plot = new uPlot(options, [[], []], element);
    plots.push({ element, plot, data: () => [series.at_seconds, series[name]], height: 40 });
  };

  const rates = (element) => {
    const axis = { stroke: () => color("--soft"), grid: { stroke: () => color("--line"), width: 1 },
      ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const line = (label, stroke, dash) => ({ label, stroke: () => color(stroke), width: 2, dash,
      points: { show: false }, value: (_, value) => short(value) });
    const options = {
      width: element.clientWidth, height: 230, scales: { y: { range: zero } },
      axes: [{ ...axis, values: "{HH}:{mm}", space: 70 },
        { ...axis, size: 56, values: (_, values) => values.map(short) }],
      series: [{ label: "time", value: "{HH}:{mm}:{ss}" },
        line("published", "--second", [5, 4]), line("applied", "--brand")],
    };
    const plot = new uPlot(options, [[], [], []], element);
    const data = () => [series.at_seconds, series.published, series.applied];
    plots.push({ element, plot, data, height: 230 });
  };

  const draw = () => plots.forEach(({ plot, data }) => plot.setData(data()));
  const resize = () => plots.forEach(({ element, plot, height }) =>
    plot.setSize({ width: element.clientWidth, height }));

  let newest = 0;
  let isLoading = false;
  const load = async () => {
    if (isLoading) return;
    isLoading = true;
    try {
      const answer = await fetch("/series?after=" + newest, { headers: { "HX-Request": "true" } });
      if (!answer.ok) return;
      const found = await answer.json();
      for (const name of Object.keys(series)) {
        series[name].push(...found[name]);
        series[name].splice(0, Math.max(0, series[name].length - KEPT));
      }
      newest = series.at_seconds.at(-1) ?? 0;
      draw();
    } catch { /* the note says that nothing arrives */ } finally { isLoading = false; }
  };

  // What counts is when the program last took the figures, not when it last answered.
  let taken = null;
  let changed = new Date();
  const note = () => {
    const found = document.getElementById("taken")?.dataset.seconds;
    if (found !== taken) {
      taken = found;
      changed = new Date();
    }
    const element = document.getElementById("updated");
    const stale = Date.now() - changed > 15000;
    const text = stale ? `Not updated since ${changed.toLocaleTimeString()}` : "Updated just now";
    if (element.textContent !== text) element.textContent = text;
    element.classList.toggle("stale", stale);
  };
  document.addEventListener("htmx:afterRequest", (event) => {
    const { successful, xhr } = event.detail;
    if (successful && document.getElementById("asking") && xhr.responseText.trim()) location.reload();
  });

  // What has not changed stays: a screen reader would read it again, and a selection would be lost.
  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    const { target, fragment } = event.detail;
    const next = fragment.firstElementChild;
    if (next && next.innerHTML === target.innerHTML && next.hidden === target.hidden
      && next.dataset.seconds === target.dataset.seconds) event.detail.shouldSwap = false;
  });

  document.querySelectorAll(".spark").forEach(spark);
  const plot = document.getElementById("rates");
  if (plot) rates(plot);
  load();
  setInterval(load, 2000);
  setInterval(note, 1000);
  addEventListener("resize", resize);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
