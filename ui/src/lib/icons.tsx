// The few icons there are: 20 px, 1.5 px stroke.
import type { JSX } from "preact";

const PATHS = {
  up: "M10 16V4M5 9l5-5 5 5", down: "M10 4v12M5 11l5 5 5-5",
  grip: "M7.5 5h.01M7.5 10h.01M7.5 15h.01M12.5 5h.01M12.5 10h.01M12.5 15h.01",
  sun: "M10 6.5a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7ZM10 1.5v1.8M10 16.7v1.8M18.5 10h-1.8M3.3 10H1.5M16 4l-1.3 1.3M5.3 14.7 4 16M16 16l-1.3-1.3M5.3 5.3 4 4",
  moon: "M16.5 12.2A7 7 0 0 1 7.8 3.5a7 7 0 1 0 8.7 8.7Z",
  auto: "M10 2.5a7.5 7.5 0 1 1 0 15 7.5 7.5 0 0 1 0-15ZM10 2.5v15M10 6l5 1M10 10h7M10 14l5-1",
  cloud: "M6 15.5a3.8 3.8 0 0 1-.4-7.6 5 5 0 0 1 9.5 1.2A3.2 3.2 0 0 1 14.8 15.5M4 3l12 14",
  close: "M5 5l10 10M15 5 5 15", more: "M3.5 9.5h1v1h-1zM9.5 9.5h1v1h-1zM15.5 9.5h1v1h-1z", warn: "M10 3 2.5 16.5h15zM10 8v4M10 14.2v.1",
} as const;
// Those that only the screens of leads show are added by their frame.
type LeadIcon = "down2" | "check" | "stop" | "play" | "download";
const paths: Partial<Record<LeadIcon | keyof typeof PATHS, string>> = { ...PATHS };
export function addIcons(more: Record<LeadIcon, string>): void { Object.assign(paths, more); }

export function Icon({ name }: { name: LeadIcon | keyof typeof PATHS }): JSX.Element {
  return (
    <svg class="icon" width="20" height="20" viewBox="0 0 20 20" fill="none" stroke="currentColor" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
      <path d={paths[name]!} />
    </svg>
  );
}

export function Mark(): JSX.Element {
  return (
    <svg class="mark" width="20" height="20" viewBox="0 0 20 20" aria-hidden="true">
      <rect x="1" y="9" width="5" height="10" rx="1" /><rect x="7.5" y="3" width="5" height="16" rx="1" /><rect x="14" y="12" width="5" height="7" rx="1" />
    </svg>
  );
}
