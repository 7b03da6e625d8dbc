// The calls of docs/ui-api.md, in memory, over nasty content: what the screens are developed and browser-tested against without a server.
//   node dev/mock.mjs [--port 6901] [--quick]     sign in as maria / maria (owner) or tom / tom (annotator), or open /sign-in#demo (works any number of times)
// Test handles (POST, JSON): /mock/offline {"on":bool} drops every /ui/ connection; /mock/slow {"ms":n}; GET /mock/log lists what arrived.
import { createHash, randomUUID as uuid } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { nasty, pairs, rankings, ratings } from "./content.mjs";

const args = process.argv.slice(2);
const flag = (name, fallback) => { const i = args.indexOf(name); return i < 0 ? fallback : args[i + 1]; };
const port = Number(flag("--port", 6901));
const tick = args.includes("--quick") ? 120 : 1000;
const dist = join(dirname(fileURLToPath(import.meta.url)), "../dist");
const now = () => new Date().toISOString();
const state = { offline: false, slow: 0, log: [] };

/* People */

const people = ["maria:owner", "tom:annotator", "amelie:annotator", "dani:annotator"].map((s) => {
  const [username, role] = s.split(":");
  return { id: uuid(), username, name: null, role, workspaces: ["first"], last_at: now(), signed_in: true };
});
const sessions = new Map();
const meOf = (u) => ({ user: { id: u.id, username: u.username, name: u.name, role: u.role, has_password: true }, version: "0.1.0-mock", keys: u.keys ?? {} });

/* Datasets */

const field = (name, title) => ({ name, title, type: "text", markdown: true, required: true });
const question = (name, title, type, settings, more = {}) => ({ id: uuid(), name, title, description: null, required: true, type, settings, ...more });
const guidelines = "# What to prefer\n\nPrefer the answer that **helps the person who asked** and is honest about what it does not know.\n\n1. Correct beats long.\n2. Polite beats curt, unless it wastes time.\n3. When both are useless, press *Both bad*.\n";

function dataset(name, rows, answers, questions, more = {}) {
  const fields = [field("prompt", "Prompt"), ...answers.map((a) => field(a, `Answer ${a.toUpperCase()}`)), ...(more.fields ?? [])];
  return {
    id: uuid(), name, workspace: "first", status: "ready", answers, min_submitted: 1, guidelines: { version: 3, text: guidelines }, fields, questions, updated_at: now(),
    records: rows.map((r) => ({ id: uuid(), fields: r, metadata: {}, leases: [], responses: new Map(), judgments: [] })), snapshots: [], ...more.over,
  };
}
const pairwise = () => question("preference", "Which answer is better?", "pairwise", { strength: true, both_bad: true });
const rankQ = (k) => question("preference", "Rank the answers", "ranking", { options: [..."abcdefghi"].slice(0, k).map((v) => ({ value: v, text: `Answer ${v.toUpperCase()}`, description: null })) });
const datasets = [
  dataset("First comparisons", pairs(32), ["a", "b"], [pairwise()]),
  dataset("Nasty content", nasty(), ["a", "b"], [pairwise()]),
  dataset("Three answers", rankings(14, 3), ["a", "b", "c"], [rankQ(3)]),
  dataset("Six answers", rankings(8, 6), [..."abcdef"], [rankQ(6)]),
  dataset("Made by a client", ratings(10), [], [
    question("quality", "How good is the answer?", "rating", { options: [1, 2, 3, 4, 5] }, { description: "From **1** (useless) to **5** (could not be better)." }),
    question("kind", "What kind of prompt is it?", "label_selection", { options: [["qa", "Question"], ["write", "Writing"], ["code", "Code"], ["other", "Other"]].map(([value, text]) => ({ value, text })) }),
    question("issues", "What is wrong with it?", "multi_label_selection", { options: [["fact", "Facts"], ["tone", "Tone"], ["long", "Too long"], ["short", "Too short"]].map(([value, text]) => ({ value, text })) }, { required: false }),
    question("better", "Write a better answer", "text", { markdown: true }, { required: false }),
  ], { fields: [field("response", "Response")] }),
  dataset("Nothing in it", [], ["a", "b"], [pairwise()]),
];

const leaseLive = (l) => Date.parse(l.expires_at) > Date.now();
const submittedOf = (r) => [...r.responses.values()].filter((x) => x.status === "submitted").length;
function counts(d) {
  const c = { records: d.records.length, waiting: 0, in_hand: 0, done: 0, submitted: 0, discarded: 0, drafts: 0, flagged: 0, conflicts: 0, today: 0 };
  for (const r of d.records) {
    for (const x of r.responses.values()) { c[x.status === "draft" ? "drafts" : x.status]++; if (x.flag) c.flagged++; if (x.status === "submitted") c.today++; }
    if (submittedOf(r) >= d.min_submitted) c.done++;
    else if (r.leases.some(leaseLive)) c.in_hand++;
    else c.waiting++;
  }
  return c;
}
function mine(d, u) {
  const m = { submitted: 0, discarded: 0, today: 0, available: 0 };
  for (const r of d.records) {
    const x = r.responses.get(u.id);
    if (x?.status === "submitted") { m.submitted++; m.today++; } else if (x?.status === "discarded") m.discarded++;
    else if (submittedOf(r) < d.min_submitted) m.available++;
  }
  return m;
}
const lead = (u) => u.role !== "annotator";
const head = (d, u) => ({ id: d.id, name: d.name, workspace: d.workspace, status: d.status, lead: lead(u), answers: d.answers, counts: counts(d), mine: mine(d, u), updated_at: d.updated_at });
const full = (d, u) => ({ ...head(d, u), guidelines: d.guidelines, min_submitted: d.min_submitted, fields: d.fields, questions: d.questions });

function orderFor(d, r, u) {
  if (d.name === "Made by a client") return [...d.answers];
  const h = (s) => createHash("sha1").update(s).digest("hex");
  return [...d.answers].sort((x, y) => (h(r.id + u.id + x) < h(r.id + u.id + y) ? -1 : 1));
}
function task(d, r, u, lease) {
  const x = r.responses.get(u.id);
  return {
    lease: lease ? { id: lease.id, expires_at: lease.expires_at } : null, record: { id: r.id, fields: r.fields, metadata: r.metadata }, order: orderFor(d, r, u),
    draft: x ? { values: x.values ?? {}, why: x.why ?? null, flag: x.flag ?? null, seconds: x.seconds ?? 0 } : null, suggestions: {}, status: x?.status ?? null,
  };
}
const takeLease = (r, u) => { const l = { id: uuid(), user: u.id, expires_at: new Date(Date.now() + 900e3).toISOString() }; r.leases.push(l); return l; };
const findRecord = (id) => { for (const d of datasets) { const r = d.records.find((x) => x.id === id); if (r) return [d, r]; } return []; };

/* Runs: curves that grow while the mock runs */

const runs = new Map();
const noise = (i, k) => Math.sin(i * 12.9898 + k * 78.233) * 0.5 + Math.sin(i * 4.1 + k) * 0.5;
function metricRow(run, i) {
  const T = run.total_steps;
  const common = { step: i, epoch: i / T, time: i * 2.1, learning_rate: 1e-5 * (1 - i / T), grad_norm: 1.4 + 0.5 * noise(i, 1), tokens_per_second: 1140 + 60 * noise(i, 2), peak_rss_bytes: 3.1e9, num_tokens: i * 4096 };
  if (run.kind === "train_reward") {
    const row = { ...common, loss: 0.693 * Math.exp(-i / 90) + 0.04 * noise(i, 3), accuracy: Math.min(1, 0.5 + 0.24 * (1 - Math.exp(-i / 40)) + 0.05 * noise(i, 4)), margin: 1.1 * (1 - Math.exp(-i / 60)) + 0.1 * noise(i, 5), mean_reward: 0.2 * noise(i, 6), min_reward: -1.4 + 0.2 * noise(i, 7), max_reward: 1.6 + 0.2 * noise(i, 8) };
    if (i % 20 === 0) Object.assign(row, { eval_loss: 0.693 * Math.exp(-i / 130), eval_accuracy: 0.5 + 0.16 * (1 - Math.exp(-i / 40)) });
    return row;
  }
  return { ...common, "objective/rlhf_reward": -0.3 + 1.5 * (1 - Math.exp(-i / 30)) + 0.12 * noise(i, 1), "objective/scores": -0.2 + 1.6 * (1 - Math.exp(-i / 30)) + 0.12 * noise(i, 2), "objective/kl": 6.2 * (1 - Math.exp(-i / 18)) + 0.5 * noise(i, 3),
    "objective/entropy": 40 - 8 * (1 - Math.exp(-i / 50)) + noise(i, 4), "policy/clipfrac_avg": 0.08 + 0.03 * noise(i, 5), "policy/approxkl_avg": 0.02 + 0.008 * noise(i, 6), "loss/policy_avg": -0.01 + 0.01 * noise(i, 7), "loss/value_avg": 0.4 * Math.exp(-i / 40) + 0.05 * noise(i, 8), "val/ratio": 1 + 0.01 * noise(i, 9), "response/length": 41 + 6 * (1 - Math.exp(-i / 40)) + 1.4 * noise(i, 10), eos_share: 0.92 + 0.04 * noise(i, 11) };
}
function newRun(kind, d, over = {}) {
  const id = over.id ?? uuid();
  const run = {
    id, kind, verb: kind === "improve" ? "train ppo" : "train reward", name: kind === "improve" ? `Improve SmolLM2 on ${d.name}` : `Reward model on ${d.name}`, state: "queued", dataset: { id: d.id, name: d.name },
    model: "SmolLM2-135M-Instruct", step: 0, total_steps: kind === "improve" ? 200 : 100, created_at: now(), started_at: null, ended_at: null, headline: null, seed: 42, version: "0.1.0", host: "workbench",
    error: null, alarms: [], rows: [], config: { learning_rate: 1e-5, epochs: 1, freeze_layers: 0.7, dtype: "fp32" }, ...over,
  };
  runs.set(id, run);
  return run;
}
function advance(run) {
  if (run.state === "queued") { run.state = "running"; run.started_at = now(); return; }
  if (run.state === "stopping") { run.state = "interrupted"; run.ended_at = now(); return; }
  if (run.state !== "running") return;
  run.step++;
  const row = metricRow(run, run.step);
  run.rows.push(row);
  if (run.kind === "improve") {
    run.headline = { key: "objective/rlhf_reward", value: row["objective/rlhf_reward"], ci: null };
    if (run.step === 60) run.alarms.push({ kind: "kl_high", step: 60, value: 6.9, text: "KL to the start is 6.9, above its target of 6.0, since step 56." });
  } else if (row.eval_accuracy) run.headline = { key: "eval_accuracy", value: row.eval_accuracy, ci: [row.eval_accuracy - 0.03, row.eval_accuracy + 0.03] };
  if (run.step >= run.total_steps) { run.state = "done"; run.ended_at = now(); }
}
setInterval(() => runs.forEach(advance), tick);
const runHead = (r) => Object.fromEntries(["id", "kind", "verb", "name", "state", "dataset", "model", "step", "total_steps", "created_at", "started_at", "ended_at", "headline"].map((k) => [k, r[k]]));
const jobOf = (r) => ({ id: r.id, kind: r.kind, state: r.state, dataset: r.dataset.id, snapshot: null, created_at: r.created_at, started_at: r.started_at, ended_at: r.ended_at, error: r.error, ahead: 0 });
const runFull = (r) => ({ ...runHead(r), job: jobOf(r), config: r.config, snapshot: { id: uuid(), hash: "9f2c41d07be3" }, reward: null, seed: r.seed, version: r.version, host: r.host, error: r.error,
  eta_seconds: r.state === "running" ? (r.total_steps - r.step) * 11.4 : null, tokens_per_second: 1140, peak_rss_bytes: 3.1 * 2 ** 30, updated_at: now(), alarms: r.alarms,
  has: { samples: r.kind === "improve" && r.step >= 20, eval: r.state === "done", report: r.state === "done" }, can: { stop: r.state === "running", resume: r.state === "interrupted" || r.state === "failed", send: r.kind === "improve" && r.step >= 20 } });
{
  const d = datasets[0];
  for (const [kind, steps, st] of [["train_reward", 100, "done"], ["improve", 84, "running"], ["train_reward", 12, "failed"]]) {
    const r = newRun(kind, d, { state: "running", started_at: now(), created_at: new Date(Date.now() - 36e5).toISOString() });
    for (let i = 0; i < steps; i++) { r.state = "running"; advance(r); }
    r.state = st;
    if (st === "failed") { r.error = "step 12: NaN in layer 3 mlp.down_proj; lower --learning-rate or use --dtype fp32"; r.alarms.push({ kind: "nan", step: 12, text: r.error }); r.ended_at = now(); }
  }
}
const sampleRows = pairs(24).map((p, i) => ({ prompt: p.prompt, policy: { text: p.a, score: 0.4 + noise(i, 3), kl: 5 + 2 * noise(i, 4), tokens: 46 }, reference: { text: p.b, score: -0.4 + noise(i, 5), tokens: 44 } }));

/* Overview */

const share = (x, n) => ({ n, share: x, ci: [x - 0.023, x + 0.023] });
function overview(d) {
  const c = counts(d);
  const full = d === datasets[0];
  const pick = (kind) => [...runs.values()].filter((r) => r.dataset.id === d.id && r.kind === kind).sort((a, b) => (b.state === "running") - (a.state === "running"))[0] ?? null;
  const [rm, pol] = [pick("train_reward"), pick("improve")];
  const step = (r) => (!r ? "empty" : r.state === "running" || r.state === "queued" ? "active" : r.state === "done" ? "done" : "failed");
  const people4 = people.slice(1).map((p, i) => ({ id: p.id, username: p.username, submitted: [254, 612, 540][i], today: [12, 104, 96][i], discarded: [9, 2, 4][i], per_hour: [188, 104, 97][i], median_seconds: [14, 33, 36][i], agreement: [0.58, 0.93, 0.88][i], left: share([0.61, 0.505, 0.497][i], 200), last_at: new Date(Date.now() - [864e5, 1e4, 2e4][i]).toISOString(), active: i > 0 }));
  return {
    as_of: now(), counts: c,
    facts: full ? { judgments: 1861 + c.submitted, today: 212 + c.today, median_seconds: 31, left: share(0.508, 1700), longer: share(0.573, 1700), ties: 120, both_bad: 41 } : { judgments: c.submitted, today: c.today, median_seconds: null, left: null, longer: null, ties: 0, both_bad: 0 },
    agreement: full ? [{ question: "preference", title: "Which answer is better?", measure: "alpha_ordinal", value: 0.612, ci: [0.571, 0.653], percent: 0.81, records: 480, labelers: 4 }] : [{ question: "preference", title: "Which answer is better?", measure: "alpha_ordinal", value: null, ci: null, percent: null, records: 0, labelers: 0 }],
    eta: full ? { seconds: 86400 * 2, low: 86400, high: 86400 * 4 } : null,
    labelers: full ? people4 : [],
    attention: full ? [{ kind: "conflicts", n: 38 }, { kind: "low_agreement", n: 1, value: 0.58, user: { id: people[1].id, username: "tom" } }, { kind: "fast", n: 1, value: 14, user: { id: people[1].id, username: "tom" } }, { kind: "skipped", n: 5 }, { kind: "length_bias", n: 1, value: 0.573 }] : [],
    steps: { generate: { state: c.records ? "done" : "empty", prompts: c.records, answers: c.records * d.answers.length, models: c.records ? ["SmolLM2-135M-Instruct"] : [] },
      label: { state: !c.records ? "empty" : c.done < c.records ? "active" : "done", done: c.done, records: c.records },
      agree: full ? { state: "active", value: 0.612, ci: [0.571, 0.653], conflicts: 38 } : { state: "empty", value: null, ci: null, conflicts: 0 },
      reward: { state: step(rm), run: rm && runHead(rm), runs: rm ? 2 : 0 }, policy: { state: step(pol), run: pol && runHead(pol), runs: pol ? 1 : 0 } },
    next: !c.records ? "import" : c.done < c.records && !rm ? "label" : !rm ? "train_reward" : !pol ? "improve" : pol.state === "running" ? "watch_policy" : "send",
  };
}

/* Routes */

class Refusal extends Error { constructor(status, code, message, field) { super(message); Object.assign(this, { status, code, field }); } }
const refuse = (...a) => { throw new Refusal(...a); };
const must = (x) => x ?? refuse(404, "not_found", "There is no such thing here.");
const ds = (id) => must(datasets.find((d) => d.id === id));
const seen = new Map(); // idempotency: id -> answer

const routes = [
  ["GET", /^\/me$/, (c) => meOf(c.user)],
  ["PUT", /^\/me\/keys$/, (c) => { c.user.keys = c.body.keys; return null; }],
  ["PUT", /^\/me\/password$/, () => null],
  ["GET", /^\/datasets$/, (c) => ({ datasets: datasets.map((d) => head(d, c.user)) })],
  ["POST", /^\/datasets$/, (c) => { const k = c.body.template === "ranking" ? c.body.answers ?? 3 : 2; const a = [..."abcdefghi"].slice(0, k); if (datasets.some((d) => d.name === c.body.name)) refuse(409, "conflict", `A dataset named ${c.body.name} exists; choose another name.`, "name"); const d = dataset(c.body.name, [], a, [c.body.template === "ranking" ? rankQ(k) : pairwise()]); datasets.unshift(d); return [201, full(d, c.user)]; }],
  ["GET", /^\/datasets\/([^/]+)$/, (c, id) => full(ds(id), c.user)],
  ["PUT", /^\/datasets\/([^/]+)\/guidelines$/, (c, id) => { const d = ds(id); d.guidelines = { version: d.guidelines.version + 1, text: c.body.text }; return d.guidelines; }],
  ["POST", /^\/datasets\/([^/]+)\/import$/, (c, id) => { const d = ds(id); const lines = c.raw.toString("utf8").split("\n").filter(Boolean); let n = 0; const errors = []; lines.forEach((l, i) => { try { const o = JSON.parse(l); d.records.push({ id: uuid(), fields: { prompt: o.prompt, a: o.answers?.[0]?.text ?? o.chosen, b: o.answers?.[1]?.text ?? o.rejected }, metadata: {}, leases: [], responses: new Map(), judgments: [] }); n++; } catch { errors.push(`${c.query.get("name")}:${i + 1}: not a JSON object`); } }); if (!n) refuse(422, "invalid", errors[0] ?? "The file is empty."); return { shape: "answers", records: n, skipped: errors.length, errors }; }],
  ["GET", /^\/datasets\/([^/]+)\/overview$/, (c, id) => overview(ds(id))],
  ["GET", /^\/datasets\/([^/]+)\/records$/, (c, id) => { const d = ds(id); const at = Number(c.query.get("after") ?? 0); const rows = d.records.map((r) => ({ id: r.id, fields: r.fields, submitted: submittedOf(r), discarded: [...r.responses.values()].filter((x) => x.status === "discarded").length, done: submittedOf(r) >= d.min_submitted, judgments: r.judgments })).filter((r) => { const f = c.query.get("filter"); return f === "done" ? r.done : f === "waiting" ? !r.done : f === "skipped" ? r.discarded > 0 : f === "flagged" ? r.judgments.some((j) => j.flag) : f !== "conflicts"; }); return { records: rows.slice(at, at + 10), next: rows.length > at + 10 ? String(at + 10) : null }; }],
  ["POST", /^\/datasets\/([^/]+)\/tasks$/, (c, id) => {
    const d = ds(id); const u = c.user; const tasks = []; let reserved = 0; let open = 0;
    for (const r of d.records) {
      if (tasks.length >= c.body.n) break;
      const live = r.leases.filter(leaseLive);
      if (r.responses.get(u.id) && r.responses.get(u.id).status !== "draft") continue;
      if (submittedOf(r) >= d.min_submitted) continue;
      open++;
      const own = live.find((l) => l.user === u.id);
      if (own && c.body.have.includes(own.id)) continue;
      if (!own && live.length + submittedOf(r) >= d.min_submitted) { reserved++; continue; }
      tasks.push(task(d, r, u, own ?? takeLease(r, u)));
    }
    const empty = tasks.length >= c.body.n ? null : !d.records.length ? { reason: "no_records", retry_at: null } : reserved ? { reason: "reserved", retry_at: new Date(Date.now() + 240e3).toISOString() } : { reason: d.records.every((r) => submittedOf(r) >= d.min_submitted) ? "done" : "mine_done", retry_at: null };
    return { tasks, mine: mine(d, u), counts: counts(d), empty };
  }],
  ["POST", /^\/judgments$/, (c) => {
    const [d, r] = findRecord(c.body.record); must(r);
    const b = c.body;
    r.leases = r.leases.filter((l) => l.user !== c.user.id);
    const surplus = submittedOf(r) >= d.min_submitted;
    r.responses.set(c.user.id, { judgment: b.id, status: b.status, values: b.values, why: b.why, flag: b.flag, seconds: b.seconds });
    r.judgments.push({ id: b.id, user: { id: c.user.id, username: c.user.username }, status: b.status, values: b.values, shown: b.shown, why: b.why, reason: b.reason, flag: b.flag, seconds: b.seconds, at: now() });
    d.updated_at = now();
    return [201, { id: b.id, record: r.id, status: b.status, surplus, mine: mine(d, c.user) }];
  }],
  ["POST", /^\/judgments\/([^/]+)\/undo$/, (c, id) => { for (const d of datasets) for (const r of d.records) { const x = r.responses.get(c.user.id); if (x?.judgment === id) { x.status = "draft"; return { task: task(d, r, c.user, takeLease(r, c.user)) }; } } return refuse(404, "not_found", "That answer never arrived."); }],
  ["PUT", /^\/records\/([^/]+)\/draft$/, (c, id) => { const [, r] = findRecord(id); must(r); const x = r.responses.get(c.user.id); if (x?.status === "submitted") refuse(409, "conflict", "This answer is submitted."); r.responses.set(c.user.id, { ...c.body, status: "draft" }); return null; }],
  ["GET", /^\/records\/([^/]+)\/task$/, (c, id) => { const [d, r] = findRecord(id); must(r); return task(d, r, c.user, null); }],
  ["GET", /^\/datasets\/([^/]+)\/mine$/, (c, id) => ({ items: ds(id).records.flatMap((r) => r.judgments.filter((j) => j.user.id === c.user.id).map((j) => ({ record: r.id, judgment: j.id, status: j.status, at: j.at, values: j.values }))).sort((a, b) => (a.at < b.at ? 1 : -1)), next: null })],
  ["POST", /^\/leases\/renew$/, (c) => ({ leases: c.body.leases.map((id) => ({ id, expires_at: new Date(Date.now() + 900e3).toISOString() })), lost: [] })],
  ["POST", /^\/leases\/release$/, (c) => { const gone = new Set(c.body.leases); for (const d of datasets) for (const r of d.records) r.leases = r.leases.filter((l) => !gone.has(l.id)); return null; }],
  ["GET", /^\/datasets\/([^/]+)\/pairs$/, (c, id) => { const n = counts(ds(id)).submitted + (ds(id) === datasets[0] ? 1861 : 0); return { judgments: n, pairs: Math.round(n * 0.9), ties: Math.round(n * 0.07), both_bad: Math.round(n * 0.03), conflicting: n ? 38 : 0, discarded: 15, prompts: ds(id).records.length }; }],
  ["GET", /^\/export-formats$/, () => ({ formats: [["trl", "Preference pairs (TRL)"], ["trl-unpaired", "Unpaired (TRL, KTO)"], ["openai-dpo", "OpenAI DPO"], ["hh", "Anthropic HH"], ["csv", "Spreadsheet"], ["raw", "Every raw judgment"]].map(([name, title]) => ({ name, title, extension: name === "csv" ? "csv" : "jsonl" })) })],
  ["GET", /^\/datasets\/([^/]+)\/snapshots$/, (c, id) => ({ snapshots: ds(id).snapshots })],
  ["POST", /^\/datasets\/([^/]+)\/snapshots$/, (c, id) => { const s = { id: c.body.id, hash: "9f2c41d07be3", created_at: now(), records: 32, pairs: 30, ties: 2, both_bad: 0, splits: { train: 26, test: 6 } }; ds(id).snapshots.unshift(s); return [201, s]; }],
  ["GET", /^\/datasets\/([^/]+)\/jobs\/form$/, (c, id) => { const kind = c.query.get("kind"); const d = ds(id); const n = counts(d).submitted + (d === datasets[0] ? 1674 : 0); const rewards = [...runs.values()].filter((r) => r.kind === "train_reward" && r.state === "done").map((r, i) => ({ id: r.id, label: r.name, accuracy: r.headline?.value ?? null, default: i === 0 })); return { blocked: kind === "train_reward" && n === 0 ? { code: "no_pairs", message: "There are no preferences yet: label some records first." } : null, models: [{ id: "m1", label: "SmolLM2-135M-Instruct", parameters: 134515008, default: true }, { id: "m2", label: "tiny-llama-random", parameters: 120000, default: false }], rewards, pairs: n, prompts: d.records.length, args: kind === "train_reward" ? { epochs: 1, learning_rate: 1e-5, freeze_layers: 0.7, batch_size: 16, max_length: 512, test_share: 0.1, seed: 42 } : { max_steps: 200, learning_rate: 3e-6, kl_coef: 0.05, rollout_batch: 64, response_length: 64, temperature: 1, seed: 42 } }; }],
  ["POST", /^\/jobs$/, (c) => { if (c.body.args.learning_rate > 1) refuse(422, "invalid", "The learning rate must be below 1.", "learning_rate"); const r = newRun(c.body.kind, ds(c.body.dataset), { id: c.body.id }); return [201, jobOf(r)]; }],
  ["POST", /^\/jobs\/([^/]+)\/stop$/, (c, id) => { const r = must(runs.get(id)); r.state = "stopping"; return [202, jobOf(r)]; }],
  ["POST", /^\/jobs\/([^/]+)\/resume$/, (c, id) => { const r = must(runs.get(id)); r.state = "queued"; r.ended_at = null; r.error = null; return [202, jobOf(r)]; }],
  ["GET", /^\/runs$/, (c) => ({ runs: [...runs.values()].filter((r) => !c.query.get("dataset") || r.dataset.id === c.query.get("dataset")).map(runHead).reverse() })],
  ["GET", /^\/runs\/([^/]+)$/, (c, id) => runFull(must(runs.get(id)))],
  ["GET", /^\/runs\/([^/]+)\/metrics$/, (c, id) => { const r = must(runs.get(id)); const since = Number(c.query.get("since") ?? 0); return { rows: r.rows.filter((x) => x.step > since), last: r.step }; }],
  ["GET", /^\/runs\/([^/]+)\/samples$/, (c, id) => { const r = must(runs.get(id)); const steps = []; for (let i = 20; i <= r.step; i += 20) steps.push(i); const step = c.query.has("step") ? Number(c.query.get("step")) : steps.at(-1) ?? null; return { steps, step, samples: steps.length ? sampleRows.map((s) => ({ ...s, policy: { ...s.policy, score: s.policy.score + step / 100 } })) : [] }; }],
  ["GET", /^\/runs\/([^/]+)\/eval$/, (c, id) => { const r = must(runs.get(id)); if (r.state !== "done") refuse(404, "not_found", "There is no evaluation yet."); return r.kind === "improve" ? { kind: "policy", n: 64, wins: 41, losses: 17, ties: 6, win_rate: 0.6875, ci: [0.57, 0.785], mean_new: 0.93, mean_old: -0.31, items: sampleRows.map((s) => ({ prompt: s.prompt, old: { text: s.reference.text, score: s.reference.score }, new: { text: s.policy.text, score: s.policy.score } })) } : { kind: "reward", n: 186, accuracy: 0.641, ci: [0.61, 0.671], longer_wins: 0.573, shorter_wins: 0.427, margin: 0.42, ece: 0.041, by_strength: { 1: 0.55, 2: 0.62, 3: 0.78 }, calibration: [0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95].map((p, i) => ({ p, share: Math.min(1, Math.max(0, 0.5 + (p - 0.5) * 0.85 + 0.03 * noise(i, 1))), n: 10 + i * 3 })) }; }],
  ["POST", /^\/runs\/([^/]+)\/send$/, (c) => { const d = dataset(c.body.name, pairs(c.body.n), ["a", "b"], [pairwise()]); datasets.unshift(d); return [201, { dataset: { id: d.id, name: d.name }, records: d.records.length }]; }],
  ["GET", /^\/users$/, () => ({ users: people, workspaces: ["first", "second"] })],
  ["POST", /^\/users$/, (c) => { if (people.some((p) => p.username === c.body.username)) refuse(409, "conflict", `There is a user named ${c.body.username} already.`, "username"); const p = { id: uuid(), username: c.body.username, name: null, role: c.body.role, workspaces: c.body.workspaces, last_at: null, signed_in: false }; people.push(p); return [201, p]; }],
  ["POST", /^\/users\/([^/]+)\/invite$/, () => ({ url: `http://127.0.0.1:${port}/sign-in#demo`, expires_at: new Date(Date.now() + 7 * 864e5).toISOString() })],
  ["DELETE", /^\/users\/([^/]+)$/, (c, id) => { const i = people.findIndex((p) => p.id === id); if (i >= 0) people.splice(i, 1); return null; }],
];

function events(req, res, run, since) {
  res.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  let last = since, sampled = 0;
  const emit = (event, data, id) => res.write(`event: ${event}\n${id ? `id: ${id}\n` : ""}data: ${JSON.stringify(data)}\n\n`);
  const beat = () => {
    const rows = run.rows.filter((r) => r.step > last);
    if (rows.length) {
      last = rows.at(-1).step;
      emit("metrics", { rows }, last);
    }
    const newest = run.step - run.step % 20; // every connection is told of the newest samples, as the server does
    if (newest > sampled) emit("samples", { step: sampled = newest });
    const { config, ...rest } = runFull(run);
    emit("run", rest);
    if (["done", "failed", "interrupted"].includes(run.state)) { emit("end", { state: run.state }); clearInterval(timer); res.end(); }
  };
  const timer = setInterval(beat, 1000);
  beat();
  req.on("close", () => clearInterval(timer));
}

const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const PAGE = { "cache-control": "no-cache", "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cross-origin-opener-policy": "same-origin",
  "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" };
function asset(path, res) {
  const isAsset = path.startsWith("/assets/") || path === "/favicon.svg";
  const file = join(dist, isAsset ? path : "index.html");
  if (path.includes("..") || !existsSync(file)) { res.writeHead(404).end(); return; }
  const packed = existsSync(file + ".gz");
  res.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream", ...(packed ? { "content-encoding": "gzip" } : {}), ...(isAsset ? { "cache-control": "public, max-age=31536000, immutable" } : PAGE) });
  res.end(readFileSync(packed ? file + ".gz" : file));
}
const json = (res, status, body, headers = {}) => { res.writeHead(status, { "content-type": "application/json", "cache-control": "no-store", ...headers }); res.end(body === null ? "" : JSON.stringify(body)); };

async function ui(req, res, url) {
  const path = url.pathname.slice(3);
  const chunks = [];
  for await (const c of req) chunks.push(c);
  const raw = Buffer.concat(chunks);
  if (req.method !== "GET" && req.headers.origin !== `http://${req.headers.host}`) refuse(403, "forbidden", "This request comes from another site.");
  const body = raw.length && (req.headers["content-type"] ?? "").startsWith("application/json") ? JSON.parse(raw) : {};
  if (req.method !== "GET") state.log.push({ at: Date.now(), method: req.method, path, body });
  const sid = /podium_session=([\w-]+)/.exec(req.headers.cookie ?? "")?.[1];
  if (path === "/session") {
    if (req.method === "DELETE") { sessions.delete(sid); return json(res, 204, null); }
    const u = body.token ? people[0] : people.find((p) => p.username === body.username && body.password === p.username);
    if (body.token && body.token !== "demo") refuse(401, "link_used", "This link was used before or has expired.");
    if (!u) refuse(401, "unauthorized", "The username or the password is wrong.");
    const id = uuid();
    sessions.set(id, u);
    return json(res, 200, meOf(u), { "set-cookie": `podium_session=${id}; HttpOnly; SameSite=Strict; Path=/ui` });
  }
  const user = sessions.get(sid);
  if (!user) refuse(401, "unauthorized", "Sign in first.");
  const ev = /^\/runs\/([^/]+)\/events$/.exec(path);
  if (ev) return events(req, res, must(runs.get(ev[1])), Number(req.headers["last-event-id"] ?? url.searchParams.get("since") ?? 0));
  if (/\/export$/.test(path)) { res.writeHead(200, { "content-type": "application/jsonl", "content-disposition": `attachment; filename="export.jsonl"` }); return res.end('{"prompt":"p","chosen":"a","rejected":"b"}\n'); }
  for (const [method, rule, run] of routes) {
    const m = method === req.method && rule.exec(path);
    if (!m) continue;
    if (body.id && method === "POST" && seen.has(body.id)) return json(res, 200, seen.get(body.id));
    const out = run({ user, body, raw, query: url.searchParams }, ...m.slice(1));
    const [status, answer] = Array.isArray(out) ? out : [out === null ? 204 : 200, out];
    if (body.id && method === "POST") seen.set(body.id, answer);
    return json(res, status, answer);
  }
  refuse(404, "not_found", "There is no such call.");
}

createServer((req, res) => {
  const url = new URL(req.url, "http://x");
  if (url.pathname.startsWith("/mock/")) {
    let text = "";
    req.on("data", (c) => { text += c; }).on("end", () => {
      const b = text ? JSON.parse(text) : {};
      if (url.pathname === "/mock/offline") state.offline = b.on;
      if (url.pathname === "/mock/slow") state.slow = b.ms;
      if (url.pathname === "/mock/signout") sessions.clear();
      const kept = datasets.flatMap((d) => d.records.flatMap((r) => r.judgments));
      json(res, 200, url.pathname === "/mock/log" ? state.log : url.pathname === "/mock/kept" ? { judgments: kept } : { ok: true });
    });
    return;
  }
  if (!url.pathname.startsWith("/ui/")) { asset(url.pathname, res); return; }
  if (state.offline) { req.destroy(); return; }
  setTimeout(() => ui(req, res, url).catch((e) => {
    if (!(e instanceof Refusal)) console.error(e);
    json(res, e.status ?? 500, { error: { code: e.code ?? "internal", message: e.status ? e.message : "The mock failed.", ...(e.field ? { field: e.field } : {}) } });
  }), state.slow);
}).listen(port, "127.0.0.1", () => console.log(`http://127.0.0.1:${port}/sign-in#demo`));
