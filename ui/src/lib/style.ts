// The second style sheet, for the screens that labelers do not open. Awaited before such a screen is drawn, so that nothing shifts.
let asked: Promise<void> | null = null;

export function moreStyle(): Promise<void> {
  asked ??= new Promise((resolve) => {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = document.querySelector<HTMLMetaElement>("meta[name=more-style]")!.content;
    link.onload = () => resolve();
    link.onerror = () => resolve();
    document.head.append(link);
  });
  return asked;
}
