"use strict";
// Draws the charts, redraws them when light turns dark, switches models off, offers the numbers.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const charts = read("charts");
  const views = new Map();
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  const config = () => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const [ink, quiet, line] = ["--ink", "--quiet", "--line"].map(colour);
    return {
      background: "transparent",
      font: "system-ui, sans-serif",
      axis: { labelColor: ink, titleColor: ink, gridColor: line, domainColor: quiet, tickColor: quiet },
      legend: { labelColor: ink, titleColor: ink },
      title: { color: ink },
      view: { stroke: line },
      text: { color: ink },
      rule: { color: quiet },
    };
  };

  const hidden = () =>
    [...document.querySelectorAll("input[name=model]")].filter((x) => !x.checked).map((x) => x.value);

  const draw = async () => {
    for (const [id, chart] of Object.entries(charts)) {
      const place = document.getElementById(id);
      if (!place) continue;
      const { spec, lightRange, darkRange } = chart;
      const shown = structuredClone(spec);
      shown.config = config();
      if (lightRange) shown.config.range = { ordinal: { scheme: "viridis", extent: dark.matches ? darkRange : lightRange } };
      views.get(id)?.finalize();
      const result = await vegaEmbed(place, shown, {
        actions: false, renderer: "svg", tooltip: { theme: dark.matches ? "dark" : "light" },
      });
      views.set(id, result);
      place.dataset.drawn = "true";
    }
    await hide();
    document.documentElement.dataset.ready = "true";
  };

  const hide = async () => {
    const names = hidden();
    for (const [id, { view }] of views) {
      if (charts[id].switchable) await view.signal("hidden", names).runAsync();
    }
  };

  const save = (name, type, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  const asCsv = (table) =>
    [...table.rows]
      .map((row) => [...row.cells].map((cell) => {
        const text = cell.dataset.value ?? cell.textContent;
        return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
      }).join(","))
      .join("\n") + "\n";

  for (const box of document.querySelectorAll("input[name=model]")) box.addEventListener("change", hide);
  for (const button of document.querySelectorAll("button[data-models]")) {
    button.addEventListener("click", () => {
      for (const box of document.querySelectorAll("input[name=model]")) box.checked = button.dataset.models === "all";
      hide();
    });
  }
  for (const button of document.querySelectorAll("button[data-table]")) {
    button.addEventListener("click", () =>
      save(`${button.dataset.table}.csv`, "text/csv", asCsv(document.getElementById(button.dataset.table))));
  }
  for (const button of document.querySelectorAll("button[data-json]")) {
    button.addEventListener("click", () =>
      save(button.dataset.json, "application/json", document.getElementById("data").textContent));
  }
  dark.addEventListener("change", draw);
  draw();
})();
