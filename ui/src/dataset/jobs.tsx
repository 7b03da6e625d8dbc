// The two buttons: train a reward model, improve the model; and the way back, a batch of new answers to label.
import type { JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import { ApiError, get, messageOf, post, uuid } from "../lib/api.ts";
import { useLoad } from "../lib/frame.tsx";
import { count, percent, t, tr, type Key } from "../lib/i18n.ts";
import { Button, Dialog, Failure, Later } from "../lib/parts.tsx";
import { go } from "../lib/router.tsx";
import { say } from "../lib/say.tsx";
import type { Dataset, Job, JobForm, PairsReport } from "../lib/types.ts";

type Kind = "train_reward" | "improve";
const SHOWN: Record<Kind, string[]> = { train_reward: ["epochs", "learning_rate"], improve: ["max_steps", "kl_coef"] };

function NumberField({ name, value, error }: { name: string; value: number; error: string | null }): JSX.Element {
  return (
    <label class="field"><span>{tr(`arg.${name}`, name)}</span>
      <input name={name} type="number" step="any" required defaultValue={String(value)} aria-invalid={error ? "true" : undefined} />
      <small class={error ? "field-error" : "quiet"}>{error ?? tr(`arg.${name}.hint`, "")}</small>
    </label>
  );
}

/** What will be learned from, and what is left out: never silently. */
function Report({ dataset }: { dataset: string }): JSX.Element | null {
  const { value } = useLoad((s) => get<PairsReport>(`/datasets/${dataset}/pairs`, s), [dataset]);
  if (!value) return <p class="quiet report-line">&nbsp;</p>;
  const out = [value.ties ? t("pairs.ties", { n: value.ties }) : "", value.both_bad ? t("pairs.bothBad", { n: value.both_bad }) : "", value.conflicting ? t("pairs.conflicting", { n: value.conflicting }) : "", value.discarded ? t("pairs.discarded", { n: value.discarded }) : ""].filter(Boolean);
  return <p class="quiet report-line">{t("pairs.from", { n: value.pairs, prompts: count(value.prompts) })}{out.length > 0 && ` ${t("pairs.leftOut", { what: out.join(", ") })}`}</p>;
}

function JobDialog({ kind, dataset, onClose }: { kind: Kind; dataset: Dataset; onClose: () => void }): JSX.Element {
  const form = useLoad((s) => get<JobForm>(`/datasets/${dataset.id}/jobs/form?kind=${kind}`, s), []);
  const [error, setError] = useState<ApiError | Error | null>(null);
  const [busy, setBusy] = useState(false);
  const id = useRef(uuid());
  const f = form.value;
  const field = error instanceof ApiError ? error.field : null;
  const submit = async (e: Event): Promise<void> => {
    e.preventDefault();
    const data = new FormData(e.currentTarget as HTMLFormElement);
    const args: Record<string, number> = {};
    for (const name of Object.keys(f!.args)) args[name] = Number(data.get(name));
    setBusy(true);
    setError(null);
    try {
      const reward = data.get("reward");
      const job = await post<Job>("/jobs", { id: id.current, kind, dataset: dataset.id, snapshot: null, model: String(data.get("model")), ...(reward ? { reward: String(reward) } : {}), args });
      go(`/runs/${job.id}`);
    } catch (x) {
      if (!(x instanceof ApiError && x.offline)) id.current = uuid(); // a refused job may be sent again changed; a lost answer must not start two
      setError(x instanceof Error ? x : new Error(messageOf(x)));
      setBusy(false);
    }
  };
  const args = (names: string[]): JSX.Element[] => names.map((n) => <NumberField key={n} name={n} value={f!.args[n]!} error={field === n ? error!.message : null} />);
  return (
    <Dialog title={t(`next.${kind}` as Key)} onClose={onClose}>
      <p class="quiet">{t(`job.${kind}` as Key)}</p>
      {form.error && <Failure message={form.error} again={form.again} />}
      {!f ? !form.error && <Later><p class="quiet">{t("loading")}</p></Later> : f.blocked ? <p class="notice" role="alert">{f.blocked.message}</p> : (
        <form class="stack" onSubmit={(e) => void submit(e)}>
          {kind === "train_reward" ? <Report dataset={dataset.id} /> : <p class="quiet">{t("job.prompts", { n: f.prompts })}</p>}
          <label class="field"><span>{t("job.model")}</span><select name="model" defaultValue={f.models.find((m) => m.default)?.id ?? f.models[0]?.id}>{f.models.map((m) => <option key={m.id} value={m.id} selected={m.default}>{m.label}</option>)}</select></label>
          {kind === "improve" && <label class="field"><span>{t("job.reward")}</span><select name="reward">{f.rewards?.map((r) => <option key={r.id} value={r.id} selected={r.default}>{r.label}{r.accuracy === null ? "" : ` (${percent(r.accuracy)})`}</option>)}</select></label>}
          <div class="pairs-of-fields">{args(SHOWN[kind].filter((n) => n in f.args))}</div>
          <details><summary>{t("job.more")}</summary><div class="pairs-of-fields">{args(Object.keys(f.args).filter((n) => !SHOWN[kind].includes(n)))}</div></details>
          <p class="field-error" role="alert">{error && !field ? error.message : ""}</p>
          <div class="actions"><Button onClick={onClose}>{t("cancel")}</Button><Button tone="primary" submit disabled={busy}>{t("job.start")}</Button></div>
        </form>
      )}
    </Dialog>
  );
}
export const TrainDialog = (p: { dataset: Dataset; onClose: () => void }): JSX.Element => <JobDialog kind="train_reward" {...p} />;
export const ImproveDialog = (p: { dataset: Dataset; onClose: () => void }): JSX.Element => <JobDialog kind="improve" {...p} />;

export function SendDialog({ run, from, onClose }: { run: string; from: string; onClose: () => void }): JSX.Element {
  const [error, setError] = useState<string | null>(null);
  const id = useRef(uuid());
  const submit = async (e: Event): Promise<void> => {
    e.preventDefault();
    const data = new FormData(e.currentTarget as HTMLFormElement);
    try {
      const r = await post<{ dataset: { id: string; name: string }; records: number }>(`/runs/${run}/send`, { id: id.current, name: String(data.get("name")).trim(), n: Number(data.get("n")) });
      say(t("send.done", { n: r.records, name: r.dataset.name }));
      go(`/datasets/${r.dataset.id}`);
    } catch (x) {
      id.current = uuid();
      setError(messageOf(x));
    }
  };
  return (
    <Dialog title={t("next.send")} onClose={onClose}>
      <p class="quiet">{t("send.text")}</p>
      <form class="stack" onSubmit={(e) => void submit(e)}>
        <label class="field"><span>{t("create.name")}</span><input name="name" required maxLength={200} defaultValue={t("send.name", { name: from })} autocomplete="off" /></label>
        <label class="field"><span>{t("send.n")}</span><input name="n" type="number" min={1} max={10000} defaultValue="50" required /></label>
        <p class="field-error" role="alert">{error}</p>
        <div class="actions"><Button onClick={onClose}>{t("cancel")}</Button><Button tone="primary" submit>{t("send.go")}</Button></div>
      </form>
    </Dialog>
  );
}
