// Small parts that several screens share.
import type { ComponentChildren, ButtonHTMLAttributes, JSX } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { t } from "./i18n.ts";
import { Icon } from "./icons.tsx";
import type { CommandId } from "./commands.ts";
import { ariaKeys, keyLabel, keysOf, useCommands } from "./keys.ts";

export function Cap({ of }: { of: CommandId }): JSX.Element {
  return <kbd aria-hidden="true">{keyLabel(keysOf(of)[0]!)}</kbd>;
}

type ButtonProps = Omit<ButtonHTMLAttributes<HTMLButtonElement>, "type" | "class" | "disabled" | "children"> & {
  tone?: "plain" | "primary" | "quiet" | "danger"; command?: CommandId; children?: ComponentChildren; disabled?: boolean; submit?: boolean; class?: string;
};
export function Button({ tone = "plain", command, children, submit, class: more, ...rest }: ButtonProps): JSX.Element {
  return (
    <button {...(rest as object)} type={submit ? "submit" : "button"} class={`button ${tone}${more ? " " + more : ""}`} {...(command ? { "aria-keyshortcuts": ariaKeys(command) } : {})}>
      {children}{command && <Cap of={command} />}
    </button>
  );
}

const layered: HTMLDialogElement[] = [];

/** A modal dialog (or a drawer at the side): the browser keeps the focus inside and gives it back. */
export function Dialog({ title, onClose, children, side, wide }: { title: string; onClose: () => void; children: ComponentChildren; side?: boolean; wide?: boolean }): JSX.Element {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useCommands("dialog", { close: onClose });
  useEffect(() => {
    const el = ref.current!;
    const back = document.activeElement;
    layered.push(el);
    el.showModal();
    return () => {
      layered.splice(layered.indexOf(el), 1);
      el.close();
      if (back instanceof HTMLElement && back.isConnected) back.focus({ preventScroll: true });
    };
  }, []);
  return (
    <dialog ref={ref} class={side ? "drawer" : wide ? "wide" : ""} aria-labelledby={id} onCancel={(e) => { e.preventDefault(); onClose(); }}
      onClick={(e) => { if (e.target === ref.current) onClose(); }}>
      <div class="inside">
        <header><h2 id={id}>{title}</h2><button type="button" class="icon-button" aria-label={t("close")} onClick={onClose}><Icon name="close" /></button></header>
        {children}
      </div>
    </dialog>
  );
}

/** Shows its children only after 300 ms: nothing flickers on a quick answer. */
export function Later({ children }: { children: ComponentChildren }): JSX.Element | null {
  const [show, set] = useState(false);
  useEffect(() => { const h = setTimeout(() => set(true), 300); return () => clearTimeout(h); }, []);
  return show ? <>{children}</> : null;
}

export function Failure({ message, again }: { message: string; again?: () => void }): JSX.Element {
  return (
    <div class="notice error" role="alert"><Icon name="warn" /><span>{message}</span>{again && <Button onClick={again}>{t("retry")}</Button>}</div>
  );
}
