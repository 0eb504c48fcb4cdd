// A subject's graph. A click on a record shows it, as the list beside the graph does.
"use strict";
(async () => {
  const element = document.getElementById("graph");
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const size = { Study: 26, Site: 24, Subject: 40, Visit: 28, Record: 20, Query: 16, Coding: 14 };
  const answer = await fetch(element.dataset.url, { headers: { "HX-Request": "true" } })
    .catch(() => null);
  if (!answer?.ok) {
    element.textContent = "The graph cannot be read now. Reload the page to try again.";
    return;
  }
  const style = () => [
    { selector: "node", style: { label: "data(label)", "font-size": 11, color: color("--soft"),
      "text-valign": "bottom", "text-margin-y": 3, "text-max-width": 90, "text-wrap": "ellipsis",
      "font-family": "system-ui, sans-serif", "min-zoomed-font-size": 6 } },
    { selector: "edge", style: { width: 1.5, "line-color": color("--line"), "curve-style": "straight" } },
    ...Object.entries(size).map(([kind, side]) => ({ selector: `node[kind="${kind}"]`, style: {
      "background-color": color("--" + kind.toLowerCase()), width: side, height: side } })),
    { selector: "node.chosen", style: { "border-width": 3, "border-color": color("--ink") } },
  ];
  const { elements, left_out } = await answer.json();
  const note = document.getElementById("left-out");
  note.hidden = !left_out;
  note.textContent = `${left_out} more are only in the list.`;
  const graph = cytoscape({
    container: element, elements, style: style(), minZoom: 0.2, maxZoom: 3,
    layout: { name: "cose", animate: false, randomize: false, padding: 16, nodeRepulsion: () => 9000,
      idealEdgeLength: () => 55, numIter: 1500 },
  });
  const choose = (record) => {
    graph.nodes().removeClass("chosen");
    graph.nodes(`[record = ${record}]`).addClass("chosen");
  };
  graph.on("tap", "node[record]", (event) => {
    const record = event.target.data("record");
    const url = `${element.dataset.study}/records/${record}`;
    htmx.ajax("GET", url, { target: "#record", swap: "innerHTML" })
      .then(() => history.replaceState(history.state, "", `?record=${record}`));
    choose(record);
  });
  const chosen = new URLSearchParams(location.search).get("record");
  if (/^\d+$/.test(chosen ?? "")) choose(chosen);
  document.addEventListener("htmx:afterRequest", (event) => {
    const record = /\/records\/(\d+)$/.exec(event.detail.pathInfo.requestPath);
    if (record) choose(record[1]);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => graph.style(style()));
})();
