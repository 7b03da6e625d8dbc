// The shapes of docs/ui-api.md.

export type Uuid = string;
export type Role = "owner" | "admin" | "annotator";
export interface User { id: Uuid; username: string; name: string | null; role: Role; has_password: boolean }
export interface Me { user: User; version: string; keys?: Record<string, string> }

export interface Counts {
  records: number; waiting: number; in_hand: number; done: number;
  submitted: number; discarded: number; drafts: number; flagged: number; conflicts: number; today: number;
}
export interface Mine { submitted: number; discarded: number; today: number; available: number }
export interface DatasetHead {
  id: Uuid; name: string; workspace: string; status: "draft" | "ready"; lead: boolean;
  answers: string[]; counts: Counts; mine: Mine; updated_at: string;
}
export interface Field { name: string; title: string; type: "text" | "chat" | "image" | "custom"; markdown: boolean; required: boolean }
export interface Option { value: string; text: string; description?: string | null }
interface QuestionBase { id: Uuid; name: string; title: string; description: string | null; required: boolean }
export type Question = QuestionBase & (
  | { type: "pairwise"; settings: { strength: boolean; both_bad: boolean } }
  | { type: "ranking"; settings: { options: Option[]; partial?: boolean } }
  | { type: "rating"; settings: { options: number[] } }
  | { type: "label_selection" | "multi_label_selection"; settings: { options: Option[] } }
  | { type: "text"; settings: { markdown?: boolean } }
  | { type: "span"; settings: object }
);
export interface Dataset extends DatasetHead {
  guidelines: { version: number; text: string | null }; min_submitted: number; fields: Field[]; questions: Question[];
}

export type Tiers = string[][];
export interface Answer { value: Tiers | string | string[] | number; strength?: number; both_bad?: boolean }
export type Values = Record<string, Answer>;
export interface Flag { kind: "harmful" | "wrong_prompt" | "duplicate" | "personal_data" | "other"; text?: string }
export type SkipReason = "unclear" | "expertise" | "language" | "disturbing" | "other";
export interface Message { role: string; content: string }
export interface Draft { values: Values; why: string | null; flag: Flag | null; seconds: number }
export interface Lease { id: Uuid; expires_at: string }
export interface Task {
  lease: Lease | null;
  record: { id: Uuid; fields: Record<string, unknown>; metadata: Record<string, unknown> };
  order: string[]; draft: Draft | null;
  suggestions: Record<string, { value: Answer["value"]; agent: string | null; score: number | null }>;
  status: null | "submitted" | "discarded" | "draft";
}
export interface Empty { reason: "done" | "reserved" | "no_records" | "mine_done" | "draft"; retry_at: string | null }
export interface TasksReply { tasks: Task[]; mine: Mine; counts: Counts; empty: Empty | null }
export interface Judgment {
  id: Uuid; record: Uuid; lease: Uuid | null; status: "submitted" | "discarded"; values: Values; shown: string[];
  seconds: number; guideline: number | null; why: string | null; reason: SkipReason | null; flag: Flag | null; at: string;
}

export interface Share { n: number; share: number; ci: [number, number] }
export interface Labeler {
  id: Uuid; username: string; submitted: number; today: number; discarded: number; per_hour: number | null;
  median_seconds: number | null; agreement: number | null; left: Share | null; last_at: string | null; active: boolean;
}
export interface Attention { kind: string; n: number; value?: number; user?: { id: Uuid; username: string }; run?: Uuid; text?: string }
export type StepState = "empty" | "active" | "done" | "failed";
export type NextStep = "import" | "label" | "train_reward" | "watch_reward" | "improve" | "watch_policy" | "send" | "none";
export interface Overview {
  as_of: string; counts: Counts;
  facts: { judgments: number; today: number; median_seconds: number | null; left: Share | null; longer: Share | null; ties: number; both_bad: number };
  agreement: { question: string; title: string; measure: string; value: number | null; ci: [number, number] | null; percent: number | null; records: number; labelers: number }[];
  eta: { seconds: number; low: number; high: number } | null;
  labelers: Labeler[]; attention: Attention[];
  steps: {
    generate: { state: StepState; prompts: number; answers: number; models: string[] };
    label: { state: StepState; done: number; records: number };
    agree: { state: StepState; value: number | null; ci: [number, number] | null; conflicts: number };
    reward: { state: StepState; run: RunHead | null; runs: number };
    policy: { state: StepState; run: RunHead | null; runs: number };
  };
  next: NextStep;
}
export interface RecordRow {
  id: Uuid; fields: Record<string, unknown>; submitted: number; discarded: number; done: boolean;
  judgments: {
    id: Uuid; user: { id: Uuid; username: string }; status: string; values: Values | null; shown: string[];
    why: string | null; reason: string | null; flag: Flag | null; seconds: number | null; at: string;
  }[];
}
export interface PairsReport { judgments: number; pairs: number; ties: number; both_bad: number; conflicting: number; discarded: number; prompts: number }
export interface Snapshot { id: Uuid; hash: string; created_at: string; records: number; pairs: number; ties: number; both_bad: number; splits: Record<string, number> }

export type JobState = "queued" | "running" | "stopping" | "done" | "failed" | "interrupted";
export interface Job {
  id: Uuid; kind: string; state: JobState; dataset: Uuid | null; snapshot: Uuid | null;
  created_at: string; started_at: string | null; ended_at: string | null; error: string | null; ahead: number;
}
export interface JobForm {
  blocked: null | { code: string; message: string };
  models: { id: string; label: string; parameters: number | null; default: boolean }[];
  rewards?: { id: Uuid; label: string; accuracy: number | null; default: boolean }[];
  pairs: number; prompts: number; args: Record<string, number>;
}
export interface RunHead {
  id: Uuid; kind: "train_reward" | "improve" | "other"; verb: string; name: string; state: JobState;
  dataset: { id: Uuid; name: string } | null; model: string; step: number; total_steps: number | null;
  created_at: string; started_at: string | null; ended_at: string | null;
  headline: null | { key: string; value: number; ci: [number, number] | null };
}
export interface Run extends RunHead {
  job: Job | null; config?: Record<string, unknown>; snapshot: null | { id: Uuid; hash: string }; reward: null | { id: Uuid; name: string };
  seed: number | null; version: string | null; host: string | null; error: string | null;
  eta_seconds: number | null; tokens_per_second: number | null; peak_rss_bytes: number | null; updated_at: string;
  alarms: { kind: string; step: number; value?: number; text: string }[];
  has: { samples: boolean; eval: boolean; report: boolean }; can: { stop: boolean; resume: boolean; send: boolean };
}
export type MetricRow = { step: number } & Record<string, number | null>;
export interface Sample {
  prompt: string | Message[];
  policy: { text: string; score: number | null; kl: number | null; tokens: number | null };
  reference: { text: string; score: number | null; tokens: number | null } | null;
}
export interface SamplesReply { steps: number[]; step: number | null; samples: Sample[] }
export type EvalReply =
  | { kind: "policy"; n: number; wins: number; losses: number; ties: number; win_rate: number; ci: [number, number]; mean_new: number; mean_old: number;
      items: { prompt: string | Message[]; old: { text: string; score: number }; new: { text: string; score: number } }[] }
  | { kind: "reward"; n: number; accuracy: number; ci: [number, number]; longer_wins: number | null; shorter_wins: number | null; margin: number | null;
      ece: number | null; by_strength: Record<string, number> | null; calibration: { p: number; share: number; n: number }[] | null };
export interface Person { id: Uuid; username: string; name: string | null; role: Role; workspaces: string[]; last_at: string | null; signed_in: boolean }
