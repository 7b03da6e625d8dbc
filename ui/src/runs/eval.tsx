// How good it became: a policy against where it started, or a reward model on pairs it has not seen.
import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import { count, num, percent, t } from "../lib/i18n.ts";
import type { EvalReply } from "../lib/types.ts";
import { type Row, SideBySide } from "./samples.tsx";

function Fact({ title, value, note }: { title: string; value: string; note: string }): JSX.Element {
  return <div><h2>{title}</h2><div class="big">{value}</div><small>{note}</small></div>;
}
const band = (ci: [number, number]): string => t("share.ci", { low: percent(ci[0]), high: percent(ci[1]) });

/** What was predicted against what happened: on the diagonal is honest. */
export function Reliability({ points }: { points: { p: number; share: number; n: number }[] }): JSX.Element {
  const [W, H, M] = [220, 160, 28];
  const X = (p: number): number => M + p * (W - M - 8);
  const Y = (s: number): number => H - M - s * (H - M - 8);
  const most = Math.max(...points.map((p) => p.n), 1);
  return (
    <figure class="card chart reliability">
      <figcaption><h2>{t("eval.calibration")}</h2></figcaption>
      <svg viewBox={`0 0 ${W} ${H}`} role="img" aria-label={t("eval.calibration.say", { what: points.map((p) => `${percent(p.p)}: ${percent(p.share)}`).join("; ") })}>
        <path class="axis" d={`M${X(0)} ${Y(0)}H${X(1)}M${X(0)} ${Y(0)}V${Y(1)}`} /><path class="ideal" d={`M${X(0)} ${Y(0)}L${X(1)} ${Y(1)}`} />
        {points.map((p) => <circle key={p.p} cx={X(p.p)} cy={Y(p.share)} r={2 + 4 * Math.sqrt(p.n / most)} />)}
        <text x={X(0)} y={H - 8}>0</text><text x={X(1)} y={H - 8} text-anchor="end">1</text><text x={4} y={Y(1) + 8}>1</text>
      </svg>
    </figure>
  );
}

/** Stands there from the start, so that nothing moves when the run is done. */
export function Verdict({ kind, e, over }: { kind: "train_reward" | "improve"; e: EvalReply | null; over: boolean }): JSX.Element {
  const none = t(over ? "eval.none" : "eval.soon");
  if (kind === "improve") {
    const p = e?.kind === "policy" ? e : null;
    return (
      <section class="card facts" aria-label={t("eval.policy")}>
        <Fact title={t("eval.winRate")} value={p ? percent(p.win_rate) : "–"} note={p ? band(p.ci) : none} />
        <Fact title={t("eval.wins")} value={p ? count(p.wins) : "–"} note={p ? t("eval.lossesTies", { losses: p.losses, ties: p.ties }) : "\u00a0"} />
        <Fact title={t("eval.meanNew")} value={p ? num(p.mean_new) : "–"} note={p ? t("eval.meanOld", { x: num(p.mean_old) }) : "\u00a0"} />
        <Fact title={t("eval.held")} value={p ? count(p.n) : "–"} note={t("eval.heldNote")} />
      </section>
    );
  }
  const r = e?.kind === "reward" ? e : null;
  const strength = r?.by_strength ? Object.entries(r.by_strength).map(([k, v]) => t("eval.strength", { k, x: percent(v) })).join(", ") : "";
  return (
    <section class="card facts" aria-label={t("eval.reward")}>
      <Fact title={t("eval.accuracy")} value={r ? percent(r.accuracy) : "–"} note={r ? `${band(r.ci)}, ${t("eval.of", { n: r.n })}` : none} />
      <Fact title={t("eval.longer")} value={r && r.longer_wins !== null ? percent(r.longer_wins) : "–"} note={r && r.shorter_wins !== null ? t("eval.shorter", { x: percent(r.shorter_wins) }) : "\u00a0"} />
      <Fact title={t("eval.margin")} value={r ? num(r.margin) : "–"} note={r ? strength || t("eval.marginNote") : "\u00a0"} />
      <Fact title={t("eval.ece")} value={r ? num(r.ece) : "–"} note={t("eval.eceNote")} />
    </section>
  );
}

export function Items({ e }: { e: EvalReply }): JSX.Element | null {
  const rows = useMemo<Row[]>(() => (e.kind === "policy" ? e.items.map((x) => ({ prompt: x.prompt, before: x.old, after: x.new })) : []), [e]);
  return rows.length ? <SideBySide rows={rows} title={t("eval.items")} note={t("eval.heldNote")} /> : null;
}
