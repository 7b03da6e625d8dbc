// How good it became: a policy against where it started, or a reward model on pairs it has not seen.
import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import { get } from "../lib/api.ts";
import { useLoad } from "../lib/frame.tsx";
import { count, num, percent, t } from "../lib/i18n.ts";
import { Failure } from "../lib/parts.tsx";
import type { EvalReply } from "../lib/types.ts";
import { type Row, SideBySide } from "./samples.tsx";

function Fact({ title, value, note }: { title: string; value: string; note: string }): JSX.Element {
  return <div><h2>{title}</h2><div class="big">{value}</div><small>{note}</small></div>;
}
const band = (ci: [number, number]): string => t("share.ci", { low: percent(ci[0]), high: percent(ci[1]) });

/** What was predicted against what happened: on the diagonal is honest. */
function Reliability({ points }: { points: { p: number; share: number; n: number }[] }): JSX.Element {
  const [W, H, M] = [220, 160, 28];
  const X = (p: number): number => M + p * (W - M - 8);
  const Y = (s: number): number => H - M - s * (H - M - 8);
  const most = Math.max(...points.map((p) => p.n), 1);
  return (
    <figure class="reliability">
      <svg viewBox={`0 0 ${W} ${H}`} role="img" aria-label={t("eval.calibration.say", { what: points.map((p) => `${percent(p.p)}: ${percent(p.share)}`).join("; ") })}>
        <path class="axis" d={`M${X(0)} ${Y(0)}H${X(1)}M${X(0)} ${Y(0)}V${Y(1)}`} /><path class="ideal" d={`M${X(0)} ${Y(0)}L${X(1)} ${Y(1)}`} />
        {points.map((p) => <circle key={p.p} cx={X(p.p)} cy={Y(p.share)} r={2 + 4 * Math.sqrt(p.n / most)} />)}
        <text x={X(0)} y={H - 8}>0</text><text x={X(1)} y={H - 8} text-anchor="end">1</text><text x={4} y={Y(1) + 8}>1</text>
      </svg>
      <figcaption><small>{t("eval.calibration")}</small></figcaption>
    </figure>
  );
}

export function Eval({ id, turn }: { id: string; turn: number }): JSX.Element | null {
  const { value: e, error } = useLoad((s) => get<EvalReply>(`/runs/${id}/eval`, s), [id, turn]);
  const rows = useMemo<Row[]>(() => (e?.kind === "policy" ? e.items.map((x) => ({ prompt: x.prompt, before: x.old, after: x.new })) : []), [e]);
  if (error) return <Failure message={error} />;
  if (!e) return null;
  if (e.kind === "policy") {
    return (
      <>
        <section class="card facts" aria-label={t("eval.policy")}>
          <Fact title={t("eval.winRate")} value={percent(e.win_rate)} note={band(e.ci)} />
          <Fact title={t("eval.wins")} value={count(e.wins)} note={t("eval.lossesTies", { losses: e.losses, ties: e.ties })} />
          <Fact title={t("eval.meanNew")} value={num(e.mean_new)} note={t("eval.meanOld", { x: num(e.mean_old) })} />
          <Fact title={t("eval.held")} value={count(e.n)} note={t("eval.heldNote")} />
        </section>
        <SideBySide rows={rows} title={t("eval.items")} note={t("eval.heldNote")} />
      </>
    );
  }
  const strength = e.by_strength ? Object.entries(e.by_strength).map(([k, v]) => t("eval.strength", { k, x: percent(v) })).join(", ") : "";
  return (
    <section class="card facts" aria-label={t("eval.reward")}>
      <Fact title={t("eval.accuracy")} value={percent(e.accuracy)} note={`${band(e.ci)}, ${t("eval.of", { n: e.n })}`} />
      <Fact title={t("eval.longer")} value={e.longer_wins === null ? "–" : percent(e.longer_wins)} note={e.shorter_wins === null ? "" : t("eval.shorter", { x: percent(e.shorter_wins) })} />
      <Fact title={t("eval.margin")} value={num(e.margin)} note={[e.ece === null ? "" : t("eval.ece", { x: num(e.ece) }), strength].filter(Boolean).join("; ")} />
      {e.calibration && e.calibration.length > 1 && <Reliability points={e.calibration} />}
    </section>
  );
}
