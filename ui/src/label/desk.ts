// One labeler's desk: the task in front of them, those already fetched behind it, and those just done.
import { batch, type Signal, signal } from "@preact/signals";
import { ApiError, get, messageOf, post, put, tz, uuid } from "../lib/api.ts";
import { ActiveClock } from "../lib/clock.ts";
import { t } from "../lib/i18n.ts";
import { guard, keysOf } from "../lib/keys.ts";
import { openOutbox, send, takeBack } from "../lib/outbox.ts";
import { hush, say } from "../lib/say.tsx";
import { drop, find, keep } from "../lib/store.ts";
import type { Counts, Dataset, Draft, Empty, Judgment, Mine, SkipReason, Task, TasksReply } from "../lib/types.ts";
import { prepare } from "../text/reader.tsx";
import { complete, isBlank, lacking, type Work, workOf } from "./work.ts";

const AHEAD = 4; // the one in front and three behind it
const DRAFT_MS = 500;
const RENEW_MS = 120_000;

export interface Item {
  task: Task;
  work: Signal<Work>;
  past: Work[];
  future: Work[];
  seconds: number;
  /** Opened again from the labeler's own history: leaving it changes nothing. */
  revisit: boolean;
}
interface Done { item: Item; judgment: string; outboxKey: Promise<string>; arrived: boolean }

export class Desk {
  readonly dataset = signal<Dataset | null>(null);
  readonly items = signal<Item[]>([]);
  readonly empty = signal<Empty | null>(null);
  readonly mine = signal<Mine | null>(null);
  readonly counts = signal<Counts | null>(null);
  readonly error = signal<string | null>(null);
  readonly paused = signal(false);
  readonly pace = signal<number | null>(null); // median active seconds of the last tasks
  readonly leaseLost = signal<string | null>(null);
  /** Set when a submit was asked for and something is lacking: the name of the question. */
  readonly wanting = signal<string | null>(null);

  private readonly clock = new ActiveClock();
  private readonly done: Done[] = [];
  private readonly times: number[] = [];
  private filling = false;
  private closed = false;
  private draftTimer = 0;
  private retryTimer = 0;
  private readonly renewTimer: number;
  private history: string[] = [];
  private at = -1;

  constructor(private readonly id: string, private readonly user: string) {
    this.renewTimer = window.setInterval(() => void this.renew(), RENEW_MS);
    document.addEventListener("visibilitychange", this.onHide);
    addEventListener("pagehide", this.onLeave);
  }

  get current(): Item | null { return this.items.value[0] ?? null; }

  async open(): Promise<void> {
    this.error.value = null;
    try {
      await openOutbox(this.user);
      const d = await get<Dataset>(`/datasets/${this.id}`);
      batch(() => { this.dataset.value = d; this.mine.value = d.mine; this.counts.value = d.counts; });
      const wanted = new URLSearchParams(location.search).get("record");
      if (wanted) await this.visit(wanted);
      await this.fill();
    } catch (e) {
      this.error.value = messageOf(e);
    }
  }

  dispose(): void {
    this.closed = true;
    this.saveNow();
    clearInterval(this.renewTimer);
    clearTimeout(this.draftTimer);
    clearTimeout(this.retryTimer);
    document.removeEventListener("visibilitychange", this.onHide);
    removeEventListener("pagehide", this.onLeave);
    this.release();
    this.clock.dispose();
  }

  /* Fetching */

  private async itemOf(task: Task): Promise<Item> {
    const kept = await find<Draft>("drafts", this.draftKey(task.record.id));
    const draft = kept ?? task.draft;
    await prepare(Object.values(task.record.fields));
    return { task, work: signal(workOf(draft)), past: [], future: [], seconds: draft?.seconds ?? 0, revisit: false };
  }

  async fill(): Promise<void> {
    if (this.filling || this.closed) return;
    const queue = this.items.value.filter((i) => !i.revisit);
    const need = AHEAD - queue.length;
    if (need <= 0) return;
    this.filling = true;
    clearTimeout(this.retryTimer);
    try {
      // What was just submitted may still be on its way: it counts as in hand, or the server would hand it out again.
      const have = [...queue, ...this.done.filter((x) => !x.arrived).map((x) => x.item)].flatMap((i) => (i.task.lease ? [i.task.lease.id] : []));
      const reply = await post<TasksReply>(`/datasets/${this.id}/tasks`, { n: need, have, tz: tz() });
      const known = new Set([...this.items.value, ...this.done.map((x) => x.item)].map((i) => i.task.record.id));
      const fresh = await Promise.all(reply.tasks.filter((x) => !known.has(x.record.id)).map((x) => this.itemOf(x)));
      if (this.closed) { this.release(fresh); return; }
      const first = this.items.value.length === 0;
      batch(() => {
        this.items.value = [...this.items.value, ...fresh];
        this.empty.value = reply.empty;
        this.counts.value = reply.counts;
        this.error.value = null;
        if (!this.done.length) this.mine.value = reply.mine;
      });
      if (first && fresh.length) this.present();
      if (reply.empty?.reason === "reserved") this.retryAfter(reply.empty.retry_at);
    } catch (e) {
      if (this.items.value.length === 0) this.error.value = messageOf(e);
      this.retryTimer = window.setTimeout(() => void this.fill(), 5000);
    } finally {
      this.filling = false;
    }
  }
  private retryAfter(iso: string | null): void {
    const ms = iso ? Math.max(2000, Date.parse(iso) - Date.now()) : 30_000;
    this.retryTimer = window.setTimeout(() => void this.fill(), Math.min(ms, 60_000));
  }

  /** A task has come to the front. */
  private present(): void {
    this.wanting.value = null;
    this.leaseLost.value = null;
    guard();
    const item = this.current;
    if (!item) return;
    requestAnimationFrame(() => {
      guard();
      this.clock.start(item.seconds);
    });
  }

  /* Editing */

  edit(change: (w: Work) => Work): void {
    const item = this.current;
    if (!item) return;
    const next = change(item.work.value);
    if (next === item.work.value) return;
    item.past.push(item.work.value);
    if (item.past.length > 200) item.past.shift();
    item.future = [];
    item.work.value = next;
    this.wanting.value = null;
    this.saveSoon();
  }
  /** Typing: a burst is one step to undo. */
  type(change: (w: Work) => Work, burst: boolean): void {
    const item = this.current;
    if (!item) return;
    if (burst) { item.work.value = change(item.work.value); this.saveSoon(); } else this.edit(change);
  }
  undo(): void {
    const item = this.current;
    const before = item?.past.pop();
    if (item && before) {
      item.future.push(item.work.value);
      item.work.value = before;
      this.saveSoon();
    } else void this.undoSubmit();
  }
  redo(): void {
    const item = this.current;
    const after = item?.future.pop();
    if (!item || !after) return;
    item.past.push(item.work.value);
    item.work.value = after;
    this.saveSoon();
  }

  /* Drafts */

  private draftKey(record: string): string { return `${this.user}/${record}`; }
  private saveSoon(): void {
    clearTimeout(this.draftTimer);
    this.draftTimer = window.setTimeout(() => this.saveNow(), DRAFT_MS);
  }
  saveNow(): void {
    clearTimeout(this.draftTimer);
    this.draftTimer = 0;
    const item = this.current;
    if (!item || (isBlank(item.work.value) && !item.past.length)) return;
    const w = item.work.value;
    item.seconds = this.clock.seconds();
    const draft: Draft = { values: w.values, why: w.why || null, flag: w.flag, seconds: item.seconds };
    const key = this.draftKey(item.task.record.id);
    void keep("drafts", key, draft);
    if (item.task.status === "submitted") return; // a submitted answer changes only by another submit
    put(`/records/${item.task.record.id}/draft`, { ...draft, lease: item.task.lease?.id ?? null }, { keepalive: true }).then(() => drop("drafts", key), () => {});
  }

  /* Submitting */

  submit(): boolean {
    const item = this.current;
    const d = this.dataset.value;
    if (!item || !d) return false;
    const open = lacking(d.questions, item.work.value);
    if (open) { this.wanting.value = open.name; return false; }
    this.settle(item, "submitted", null);
    return true;
  }
  skip(reason: SkipReason): void {
    const item = this.current;
    if (item) this.settle(item, "discarded", reason);
  }

  private settle(item: Item, status: Judgment["status"], reason: SkipReason | null): void {
    const d = this.dataset.value!;
    const w = item.work.value;
    clearTimeout(this.draftTimer);
    item.seconds = this.clock.seconds();
    const judgment: Judgment = {
      id: uuid(), record: item.task.record.id, lease: item.task.lease?.id ?? null, status, values: complete(d.questions, w), shown: item.task.order,
      seconds: item.seconds, guideline: d.guidelines.text === null ? null : d.guidelines.version, why: w.why.trim() || null, reason, flag: w.flag, at: new Date().toISOString(),
    };
    const before = item.task.status;
    const outboxKey = send("POST", "/judgments", judgment, judgment.record, (r: { mine: Mine }) => {
      done.arrived = true;
      if (this.done.at(-1) === done) this.mine.value = r.mine;
      if (!this.current) void this.fill(); // why there is nothing left may have changed with it
    });
    const done: Done = { item, judgment: judgment.id, outboxKey, arrived: false };
    this.done.push(done);
    void drop("drafts", this.draftKey(judgment.record));
    if (this.done.length > 50) this.done.shift();
    this.learnPace(item.seconds);
    batch(() => {
      this.items.value = this.items.value.slice(1);
      this.tally(status, before, 1);
    });
    this.at = -1;
    this.history = [];
    this.present();
    void this.fill();
    say(t(status === "submitted" ? "label.submitted" : "label.skipped"), { action: { label: t("undo"), key: keysOf("undo")[0]!, run: () => void this.undoSubmit() } });
  }
  private tally(status: Judgment["status"], before: Task["status"], by: 1 | -1): void {
    const m = this.mine.value;
    if (!m || before === status) return;
    const sub = status === "submitted" ? by : 0;
    this.mine.value = { submitted: m.submitted + sub, discarded: m.discarded + (by - sub), today: m.today + sub, available: Math.max(0, m.available - by) };
  }
  private learnPace(seconds: number): void {
    this.times.push(seconds);
    if (this.times.length > 15) this.times.shift();
    const sorted = [...this.times].sort((a, b) => a - b);
    if (sorted.length >= 3) this.pace.value = sorted[sorted.length >> 1]!;
  }

  /** Brings the last submitted task back to the front, as it was. */
  async undoSubmit(): Promise<void> {
    const last = this.done.pop();
    if (!last) { say(t("label.nothingToUndo")); return; }
    hush();
    this.saveNow();
    const { item } = last;
    const status = item.task.status === "submitted" || item.task.status === "discarded" ? item.task.status : null;
    batch(() => {
      this.items.value = [item, ...this.items.value];
      this.tally("submitted", status, -1);
    });
    this.present();
    if (await takeBack(await last.outboxKey)) return;
    await send("POST", `/judgments/${last.judgment}/undo`, { id: uuid() }, item.task.record.id, (r: { task: Task }) => { item.task = { ...item.task, lease: r.task.lease }; });
  }

  /* The labeler's own history */

  async previous(): Promise<void> {
    try {
      if (!this.history.length) {
        const r = await get<{ items: { record: string }[] }>(`/datasets/${this.id}/mine?limit=50`);
        this.history = r.items.map((i) => i.record);
        this.at = -1;
      }
      const next = this.history[this.at + 1];
      if (next === undefined) { say(t("label.noPrevious")); return; }
      this.at++;
      await this.visit(next);
    } catch (e) {
      say(messageOf(e), { tone: "error" });
    }
  }
  async next(): Promise<void> {
    if (!this.current?.revisit) { say(t("label.noNext")); return; }
    this.saveNow();
    this.at--;
    const newer = this.history[this.at];
    if (newer !== undefined && this.at >= 0) await this.visit(newer);
    else { this.at = -1; this.items.value = this.items.value.filter((i) => !i.revisit); this.present(); }
  }
  private async visit(record: string): Promise<void> {
    this.saveNow();
    const item = await this.itemOf(await get<Task>(`/records/${record}/task`));
    item.revisit = true;
    this.items.value = [item, ...this.items.value.filter((i) => !i.revisit && i.task.record.id !== record)];
    this.present();
  }

  /* Leases, pausing and leaving */

  private async renew(): Promise<void> {
    if (document.hidden || this.paused.value) return;
    const leases = this.items.value.flatMap((i) => (i.task.lease ? [i.task.lease.id] : []));
    if (!leases.length) return;
    try {
      const r = await post<{ lost: string[] }>("/leases/renew", { leases });
      const lost = new Set(r.lost);
      if (!lost.size) return;
      const [front, ...rest] = this.items.value;
      if (front?.task.lease && lost.has(front.task.lease.id)) this.leaseLost.value = front.task.record.id;
      this.items.value = [front!, ...rest.filter((i) => !i.task.lease || !lost.has(i.task.lease.id))];
      void this.fill();
    } catch (e) {
      if (!(e instanceof ApiError)) throw e; // away: the next beat tries again
    }
  }
  private release(items = this.items.value): void {
    const leases = items.flatMap((i) => (i.task.lease ? [i.task.lease.id] : []));
    if (leases.length) post("/leases/release", { leases }, { keepalive: true }).catch(() => {});
  }
  private readonly onHide = (): void => { if (document.hidden) this.saveNow(); };
  private readonly onLeave = (): void => { this.saveNow(); this.release(); };

  pause(): void {
    this.paused.value = !this.paused.value;
    this.clock.hold(this.paused.value);
  }
}
