// Active seconds on a task: time passes while the page is visible and somebody did something in the last minute.
const IDLE_MS = 60_000;

export class ActiveClock {
  private total = 0;
  private since: number | null = null;
  private last = performance.now();
  private held = false;
  private readonly stop: () => void;

  constructor() {
    const touch = (): void => this.touch();
    const look = (): void => (document.hidden ? this.pause(performance.now()) : this.touch());
    const events = ["pointerdown", "pointermove", "keydown", "wheel", "scroll", "touchstart"] as const;
    for (const e of events) addEventListener(e, touch, { passive: true, capture: true });
    document.addEventListener("visibilitychange", look);
    this.stop = () => {
      for (const e of events) removeEventListener(e, touch, { capture: true });
      document.removeEventListener("visibilitychange", look);
    };
  }

  start(seconds = 0): void {
    this.total = seconds * 1000;
    this.since = document.hidden || this.held ? null : performance.now();
    this.last = performance.now();
  }
  private touch(): void {
    const now = performance.now();
    if (this.since !== null && now - this.last > IDLE_MS) this.pause(this.last + IDLE_MS);
    this.last = now;
    if (this.since === null && !document.hidden && !this.held) this.since = now;
  }
  private pause(at: number): void {
    if (this.since !== null) this.total += Math.max(0, at - this.since);
    this.since = null;
  }
  /** Paused by hand. */
  hold(on: boolean): void {
    this.held = on;
    if (on) this.pause(performance.now());
    else this.touch();
  }
  seconds(): number {
    const now = Math.min(performance.now(), this.last + IDLE_MS);
    const running = this.since === null ? 0 : Math.max(0, now - this.since);
    return Math.round((this.total + running) / 100) / 10;
  }
  dispose(): void { this.stop(); }
}
