// Draws the cumulative cost of training and inference. The page's table has the same numbers, so
// nothing is lost without this script.
"use strict";

const holder = document.getElementById("chart");
const source = document.getElementById("chart-data");

function dollars(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "$0";
  if (Math.abs(value) >= 1) return "$" + value.toLocaleString("en-US", { maximumFractionDigits: 2 });
  const digits = Math.min(12, 2 - Math.floor(Math.log10(Math.abs(value))));
  return "$" + value.toFixed(digits).replace(/0+$/, "");
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// The break-even marker where it was crossed, else the level that inference has to reach.
function drawMarker(plot, data) {
  const ctx = plot.ctx;
  const box = plot.bbox;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = colour("--level");
  ctx.lineWidth = 1.5 * ratio;
  ctx.font = `${13 * ratio}px system-ui, sans-serif`;
  ctx.setLineDash([6 * ratio, 4 * ratio]);
  ctx.beginPath();
  if (data.crossing) {
    const x = plot.valToPos(data.crossing.at, "x", true);
    const y = plot.valToPos(data.crossing.usd, "y", true);
    ctx.moveTo(x, box.top);
    ctx.lineTo(x, box.top + box.height);
    ctx.stroke();
    ctx.beginPath();
    ctx.arc(x, y, 5 * ratio, 0, 2 * Math.PI);
    ctx.fill();
    const left = x > box.left + box.width / 2;
    ctx.textAlign = left ? "right" : "left";
    ctx.fillText("break-even", x + (left ? -8 : 8) * ratio, box.top + 16 * ratio);
  } else {
    const y = plot.valToPos(data.level, "y", true);
    ctx.moveTo(box.left, y);
    ctx.lineTo(box.left + box.width, y);
    ctx.stroke();
    ctx.textAlign = "right";
    const text = `training so far ${dollars(data.level)}`;
    ctx.fillText(text, box.left + box.width - 8 * ratio, y + 18 * ratio);
  }
  ctx.restore();
}

function draw(data) {
  const line = (label, stroke) => ({
    label,
    stroke,
    width: 2,
    paths: uPlot.paths.stepped({ align: 1 }), // a charge is known when its window ended
    points: { show: data.at.length < 30 },
    value: (_, value) => dollars(value),
  });
  const plot = new uPlot(
    {
      width: holder.clientWidth,
      height: 320,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      cursor: { drag: { x: true, y: false } },
      scales: { y: { range: (_, low, high) => [0, Math.max(high, data.level) * 1.12 || 1] } },
      series: [
        { label: "Until (UTC)", value: "{YYYY}-{MM}-{DD} {HH}:{mm}:{ss}" },
        line("Training", colour("--training")),
        line("Inference with idle", colour("--inference")),
      ],
      axes: [
        { grid: { stroke: "#e8ecf1" }, values: "{HH}:{mm}:{ss}\n{YYYY}-{MM}-{DD}", space: 90 },
        { grid: { stroke: "#e8ecf1" }, values: (_, ticks) => ticks.map(dollars), size: 96 },
      ],
      hooks: { draw: [(u) => drawMarker(u, data)] },
    },
    [data.at, data.training, data.inference],
    holder,
  );
  new ResizeObserver(() => plot.setSize({ width: holder.clientWidth, height: 320 })).observe(holder);
  holder.dataset.drawn = "true";
}

if (holder && source) draw(JSON.parse(source.textContent));
