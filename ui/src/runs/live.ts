// A run as it grows: what there is already, then what the server sends.
import { batch, signal } from "@preact/signals";
import { get, messageOf } from "../lib/api.ts";
import type { EvalReply, MetricRow, Run } from "../lib/types.ts";
import { isLive } from "./words.ts";

export class LiveRun {
  readonly run = signal<Run | null>(null);
  readonly rows = signal<MetricRow[]>([]);
  readonly error = signal<string | null>(null);
  readonly away = signal(false);
  /** Step of the newest samples the server has told of; every connection tells it again. */
  readonly sampled = signal(0);
  readonly verdict = signal<EvalReply | null>(null);
  private source: EventSource | null = null;
  private timer = 0;
  private closed = false;
  private looks = 0;

  constructor(private readonly id: string) {}

  async open(): Promise<void> {
    this.error.value = null;
    try {
      const [run, m] = await Promise.all([get<Run>(`/runs/${this.id}`), get<{ rows: MetricRow[] }>(`/runs/${this.id}/metrics?since=0`)]);
      const verdict = run.has.eval ? await get<EvalReply>(`/runs/${this.id}/eval`).catch(() => null) : null;
      if (this.closed) return;
      batch(() => { this.run.value = run; this.rows.value = m.rows; this.verdict.value = verdict; });
      if (isLive(run.state)) this.listen();
      else if (run.state === "done" && !run.has.eval && Date.now() - Date.parse(run.ended_at ?? "") < 300_000) void this.refresh();
    } catch (e) {
      this.error.value = messageOf(e);
    }
  }
  /** After stop or resume: the state may go live again. */
  async again(): Promise<void> {
    this.close();
    this.closed = false;
    await this.open();
  }
  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  private get last(): number { return this.rows.value.at(-1)?.step ?? 0; }

  private listen(): void {
    const s = new EventSource(`/ui/runs/${this.id}/events?since=${this.last}`);
    this.source = s;
    const data = <T>(e: Event): T => JSON.parse((e as MessageEvent<string>).data) as T;
    s.addEventListener("open", () => { this.away.value = false; });
    s.addEventListener("metrics", (e) => this.append(data<{ rows: MetricRow[] }>(e).rows));
    s.addEventListener("samples", (e) => { this.sampled.value = data<{ step: number }>(e).step; });
    s.addEventListener("run", (e) => { this.run.value = { ...this.run.value, ...data<Run>(e) }; });
    s.addEventListener("end", () => { s.close(); void this.refresh(); });
    s.addEventListener("error", () => { // the browser may give up: start again from what we have
      this.away.value = true;
      if (s.readyState !== EventSource.CLOSED || this.closed) return;
      clearTimeout(this.timer);
      this.timer = window.setTimeout(() => { if (!this.closed) this.listen(); }, 3000);
    });
  }
  private append(rows: MetricRow[]): void {
    const first = rows[0]?.step;
    if (first === undefined) return;
    const kept = first > this.last ? this.rows.value : this.rows.value.filter((r) => r.step < first); // a resumed run goes back to its checkpoint
    this.rows.value = [...kept, ...rows];
  }
  private async refresh(): Promise<void> {
    const run = await get<Run>(`/runs/${this.id}`).catch(() => null);
    if (!run || this.closed) return;
    this.run.value = run;
    // The evaluation follows the run: look for it a while.
    if (!run.has.eval && run.state === "done" && this.looks++ < 60) this.timer = window.setTimeout(() => void this.refresh(), 3000);
    if (run.has.eval) this.verdict.value = await get<EvalReply>(`/runs/${this.id}/eval`).catch(() => null);
  }
}
