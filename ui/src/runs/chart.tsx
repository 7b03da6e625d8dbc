// One small chart. All charts of a page share their cursor; the value under it stands in the title line.
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { num, t } from "../lib/i18n.ts";
import { repaint } from "../lib/theme.ts";
import type { MetricRow } from "../lib/types.ts";
import { type Group, smooth } from "./groups.ts";
import { metricName, metricValue } from "./words.ts";

const HEIGHT = 150;
const sync = uPlot.sync("run");

function colour(name: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const c = getComputedStyle(probe).color;
  probe.remove();
  return c;
}
const faded = (c: string): string => c.replace(/^(oklch|rgb|color)\((.*?)\)$/, (_, f: string, v: string) => (v.includes("/") ? c : f === "rgb" && v.includes(",") ? `rgba(${v}, 0.3)` : `${f}(${v} / 0.3)`));

const short = (x: number): string => {
  const a = Math.abs(x);
  return a === 0 ? "0" : a >= 1e6 ? `${+(x / 1e6).toPrecision(3)}M` : a >= 1e4 ? `${+(x / 1e3).toPrecision(3)}k` : a < 1e-3 ? x.toExponential(0) : String(+x.toPrecision(4));
};

export function Chart({ group, rows, smoothing, log, from }: { group: Group; rows: MetricRow[]; smoothing: number; log: boolean; from: number }): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [at, setAt] = useState<number | null>(null);
  const x = rows.map((r) => r.step);
  const raw = group.keys.map((k) => rows.map((r) => (typeof r[k] === "number" ? r[k]! : null)));
  const sparse = raw.map((y) => { const n = y.filter((v) => v !== null).length; return n > 0 && n < y.length * 0.6; });
  const shown = raw.map((y, i) => (sparse[i] ? y : smooth(y, smoothing))); // measurements taken now and then are shown as they are
  // Drawn: for each curve its raw values, faint, and above them the smoothed ones.
  const data = [x, ...(smoothing > 0 ? raw : []), ...shown] as unknown as uPlot.AlignedData;
  const few = rows.length < 8; // a line needs its points to be seen at all
  const latest = useRef(data);
  latest.current = data;

  useEffect(() => {
    const el = box.current!;
    const palette = group.keys.map((_, i) => colour(`c${((from + i) % 8) + 1}`));
    const [quiet, border] = [colour("quiet"), colour("border")];
    const axis = { stroke: quiet, font: "12px system-ui, sans-serif", ticks: { show: false }, grid: { stroke: border, width: 1 } };
    const line = (i: number, faint: boolean): uPlot.Series => ({ stroke: faint ? faded(palette[i]!) : palette[i]!, width: faint ? 1 : 1.75, spanGaps: true, show: !(faint && sparse[i]), points: { show: !faint && (sparse[i]! || few), size: 5, fill: palette[i]! } });
    const series: uPlot.Series[] = [{}, ...(smoothing > 0 ? group.keys.map((_, i) => line(i, true)) : []), ...group.keys.map((_, i) => line(i, false))];
    const positive = raw.some((y) => y.some((v) => v !== null && v > 0));
    const u = new uPlot({
      width: Math.max(120, el.clientWidth), height: HEIGHT, series, legend: { show: false }, padding: [8, 16, 0, 0],
      scales: { x: { time: false }, y: log && positive ? { distr: 3 } : { distr: log ? 4 : 1 } },
      axes: [{ ...axis, grid: { show: false }, size: 24, space: 60 }, { ...axis, size: 46, space: 36, values: (_u, v) => v.map((y) => (y === null ? "" : short(y))) }],
      cursor: { sync: { key: sync.key, setSeries: false }, y: false, points: { size: 6 }, drag: { x: true, y: false } },
      hooks: { setCursor: [(c) => setAt(c.cursor.idx ?? null)] },
    }, latest.current, el);
    plot.current = u;
    const fit = new ResizeObserver(() => u.setSize({ width: Math.max(120, el.clientWidth), height: HEIGHT }));
    fit.observe(el);
    return () => { fit.disconnect(); u.destroy(); plot.current = null; };
  }, [group.keys.join(), smoothing > 0, log, repaint.value, sparse.join(), few, from]);
  useEffect(() => { plot.current?.setData(latest.current); }, [rows, smoothing]);

  const read = (i: number): string => {
    const y = shown[i]!;
    const v = at !== null ? y[at] : y.findLast((z) => z !== null);
    return v === null || v === undefined ? "–" : metricValue(group.keys[i]!, v);
  };
  const all = raw[0]!.filter((v) => v !== null);
  const title = metricName(group.title);
  return (
    <figure class="card chart">
      <figcaption>
        <h2 title={group.title}>{title}</h2>
        <span class={`readings${group.keys.length > 2 ? " small" : ""}`}>{group.keys.map((k, i) => <b key={k} title={k}>{group.keys.length > 1 && <i class={`key c${((from + i) % 8) + 1}`} />}{group.keys.length > 1 && <span class="spoken">{metricName(k)} </span>}{read(i)}</b>)}</span>
      </figcaption>
      <div class="plot" ref={box} role="img" aria-label={all.length ? t("chart.say", { title, last: num(all.at(-1)), low: num(Math.min(...all)), high: num(Math.max(...all)), step: x.at(-1) ?? 0 }) : t("chart.empty", { title })} />
    </figure>
  );
}

/** The place of a chart whose first value is on its way. */
export function Waiting({ name }: { name: string }): JSX.Element {
  return <figure class="card chart"><figcaption><h2>{metricName(name)}</h2><span class="readings"><b>–</b></span></figcaption><div class="plot" /></figure>;
}
