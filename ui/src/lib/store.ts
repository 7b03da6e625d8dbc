// A few kilobytes that survive a closed tab: two object stores in IndexedDB, and plain memory where there is none (private windows).
type Name = "outbox" | "drafts";

let opened: Promise<IDBDatabase> | null = null;
const memory: Record<Name, Map<string, unknown>> = { outbox: new Map(), drafts: new Map() };

function open(): Promise<IDBDatabase> {
  opened ??= new Promise((resolve, reject) => {
    const r = indexedDB.open("podium", 1);
    r.onupgradeneeded = () => { r.result.createObjectStore("outbox"); r.result.createObjectStore("drafts"); };
    r.onsuccess = () => resolve(r.result);
    r.onerror = () => reject(r.error);
  });
  return opened;
}

async function run<T>(name: Name, mode: IDBTransactionMode, f: (s: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const db = await open();
  return new Promise((resolve, reject) => {
    const tx = db.transaction(name, mode, { durability: "strict" });
    const r = f(tx.objectStore(name));
    tx.oncomplete = () => resolve(r.result);
    tx.onerror = tx.onabort = () => reject(tx.error);
  });
}

export async function keep(name: Name, key: string, value: unknown): Promise<void> {
  memory[name].set(key, value);
  await run(name, "readwrite", (s) => s.put(value, key)).catch(() => {});
}
export async function drop(name: Name, key: string): Promise<void> {
  memory[name].delete(key);
  await run(name, "readwrite", (s) => s.delete(key)).catch(() => {});
}
export async function find<T>(name: Name, key: string): Promise<T | undefined> {
  const v = await run(name, "readonly", (s) => s.get(key) as IDBRequest<T | undefined>).catch(() => undefined);
  return v ?? (memory[name].get(key) as T | undefined);
}
/** All values in key order. */
export async function all<T>(name: Name): Promise<T[]> {
  try {
    return await run(name, "readonly", (s) => s.getAll() as IDBRequest<T[]>);
  } catch {
    return [...memory[name].entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, v]) => v as T);
  }
}
