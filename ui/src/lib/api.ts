// One way to the server: JSON in, JSON out, and every failure an ApiError whose message can be shown as it is.
import { t } from "./i18n.ts";

export class ApiError extends Error {
  constructor(readonly status: number, readonly code: string, message: string, readonly field: string | null = null) {
    super(message);
  }
  /** No answer came: the network or the server is away, trying again later makes sense. */
  get offline(): boolean { return this.status === 0 || this.status === 502 || this.status === 503 || this.status === 504; }
}

type Options = { body?: unknown; keepalive?: boolean; signal?: AbortSignal; raw?: Blob };

let onUnauthorized: () => void = () => {};
export function whenSignedOut(f: () => void): void { onUnauthorized = f; }

async function errorOf(r: Response): Promise<ApiError> {
  try {
    const e = (await r.json() as { error?: { code?: string; message?: string; field?: string } }).error;
    if (e?.message) return new ApiError(r.status, e.code ?? "error", e.message, e.field ?? null);
  } catch { /* not ours: fall through to the status line */ }
  return new ApiError(r.status, "http", t("error.http", { status: r.status }));
}

export async function call<T>(method: string, path: string, o: Options = {}): Promise<T> {
  const headers: Record<string, string> = { accept: "application/json" };
  if (o.raw) headers["content-type"] = "application/octet-stream";
  else if (o.body !== undefined) headers["content-type"] = "application/json";
  let r: Response;
  try {
    r = await fetch("/ui" + path, {
      method, headers, credentials: "same-origin", keepalive: o.keepalive ?? false, signal: o.signal ?? null,
      body: o.raw ?? (o.body === undefined ? null : JSON.stringify(o.body)),
    });
  } catch (e) {
    if (e instanceof DOMException && e.name === "AbortError") throw e;
    throw new ApiError(0, "offline", t("error.offline"));
  }
  if (!r.ok) {
    const e = await errorOf(r);
    if (r.status === 401 && path !== "/session") onUnauthorized();
    throw e;
  }
  return r.status === 204 ? (undefined as T) : (await r.json() as T);
}

export const get = <T>(path: string, signal?: AbortSignal): Promise<T> => call<T>("GET", path, signal ? { signal } : {});
export const post = <T>(path: string, body: unknown, o: Options = {}): Promise<T> => call<T>("POST", path, { ...o, body });
export const put = <T>(path: string, body: unknown, o: Options = {}): Promise<T> => call<T>("PUT", path, { ...o, body });
export const del = (path: string): Promise<void> => call<void>("DELETE", path);

/** Minutes east of UTC: "today" is the caller's day. */
export const tz = (): number => -new Date().getTimezoneOffset();

export function uuid(): string {
  if (typeof crypto.randomUUID === "function") return crypto.randomUUID();
  const b = crypto.getRandomValues(new Uint8Array(16)); // plain http off localhost has no randomUUID
  b[6] = (b[6]! & 0x0f) | 0x40;
  b[8] = (b[8]! & 0x3f) | 0x80;
  const h = [...b].map((x) => x.toString(16).padStart(2, "0")).join("");
  return `${h.slice(0, 8)}-${h.slice(8, 12)}-${h.slice(12, 16)}-${h.slice(16, 20)}-${h.slice(20)}`;
}

export const messageOf = (e: unknown): string => (e instanceof Error ? e.message : String(e));
