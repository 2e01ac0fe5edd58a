// Plots over time with uPlot. Their colours come from the custom properties of the style sheet.
import uPlot from "../vendor/uplot.js";
import { html, useEffect, useRef } from "./ui.js";

const sync = uPlot.sync("dashboard");
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function options(series, unit, height, width) {
  const [line, text, font] = [colour("line"), colour("text-soft"), `11px ${colour("font-text")}`];
  const axis = { stroke: text, font, ticks: { show: false }, grid: { stroke: line, width: 1 } };
  return {
    width,
    height,
    padding: [6, 16, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: sync.key }, y: false, points: { size: 7 }, drag: { x: false, y: false } },
    scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.15 : 1] } },
    axes: [
      { ...axis, grid: { show: false }, size: 20, gap: 4, space: 64, values: (_, ticks) => ticks.map((at) => clock.format(new Date(at * 1000)).slice(0, at % 60 ? 8 : 5)) },
      { ...axis, size: 48, space: 32, values: (_, ticks) => ticks.map((value) => unit(value)) },
    ],
    series: [
      {},
      ...series.map(({ label, colour: name, fill, dash }) => ({
        label,
        stroke: colour(name),
        width: 1.5,
        fill: fill ? `${colour(name)}22` : undefined,
        dash,
        points: { show: false },
        spanGaps: true,
      })),
    ],
  };
}

/**
 * A plot. `series`: [{label, colour, fill, dash}]; `data`: uPlot's arrays, times first; `span`: the times at the ends.
 * `summary` is what a screen reader says instead; `level` that of the heading.
 */
export function Plot({ title, series, data, span, unit = String, height = 160, summary, level = 2 }) {
  const place = useRef(null);
  const plot = useRef(null);
  const values = useRef(null);
  const latest = useRef(data);
  latest.current = data;
  const shape = series.map((one) => one.label).join();

  function show(at) {
    const index = at ?? latest.current[0].length - 1;
    values.current?.querySelectorAll("[data-value]").forEach((element, number) => {
      const value = latest.current[number + 1]?.[index];
      element.textContent = value == null ? "–" : unit(value);
    });
    const time = values.current?.querySelector("time");
    if (time) time.textContent = at == null ? "" : clock.format(new Date(latest.current[0][at] * 1000));
  }

  useEffect(() => {
    const element = place.current;
    const width = () => Math.max(120, Math.floor(element.clientWidth));
    function draw() {
      plot.current?.destroy();
      const settings = options(series, unit, height, width());
      settings.hooks = { setCursor: [(of) => show(of.cursor.idx)] };
      plot.current = new uPlot(settings, latest.current, element);
    }
    draw();
    const sizes = new ResizeObserver(() => plot.current.setSize({ width: width(), height }));
    sizes.observe(element);
    document.addEventListener("theme", draw);
    return () => {
      document.removeEventListener("theme", draw);
      sizes.disconnect();
      plot.current.destroy();
      plot.current = null;
    };
  }, [shape, height]);

  useEffect(() => {
    if (!plot.current) return;
    plot.current.batch(() => {
      plot.current.setData(data, false);
      plot.current.setScale("x", { min: span[0], max: span[1] });
    });
    if (plot.current.cursor.idx == null) show(null);
  });

  return html`<figure class="plot">
    <figcaption ref=${values}>
      <${`h${level}`}>${title}<//>
      <time></time>
      <ul class="legend">
        ${series.map(
          ({ label, colour: name, dash }) =>
            html`<li>
              <svg class=${`mark ink-${name}`} width="14" height="4" aria-hidden="true">
                <line x1="0" x2="14" y1="2" y2="2" stroke-dasharray=${dash ? "3 2" : undefined} />
              </svg>
              ${label} <b data-value>–</b>
            </li>`,
        )}
      </ul>
    </figcaption>
    <div class="canvas" ref=${place} role="img" aria-label=${summary ?? title}></div>
  </figure>`;
}

/** A small line without axes; without `label` screen readers pass over it. */
export function Sparkline({ values, width = 96, height = 24, label }) {
  const known = values.filter((value) => value != null);
  const top = Math.max(...known, 0.001);
  const step = width / Math.max(1, values.length - 1);
  const points = values
    .map((value, at) => (value == null ? null : `${(at * step).toFixed(1)},${(height - 2 - (value / top) * (height - 4)).toFixed(1)}`))
    .filter(Boolean);
  return html`<svg class="spark" width=${width} height=${height} viewBox=${`0 0 ${width} ${height}`} role=${label ? "img" : undefined} aria-label=${label} aria-hidden=${label ? undefined : "true"}>
    ${points.length > 1 && html`<polyline points=${points.join(" ")} />`}
  </svg>`;
}
