// What is wrong and lasts: one entry a code, shown by `holdfast status` until it is right again. Words only; no path, no name.
import { isoTime, type Clock } from '@holdfast/shared/clock.ts'

export type Alarm = { readonly code: string; readonly since: string; readonly message: string }

export type Alarms = {
  readonly raise: (code: string, message: string) => void
  readonly clear: (code: string) => void
  readonly list: () => readonly Alarm[]
}

/** `changed` is told when an alarm comes or goes, or says something else. */
export function alarms(clock: Clock, changed: () => void): Alarms {
  const raised = new Map<string, Alarm>()
  return {
    raise: (code, message) => {
      const before = raised.get(code)
      if (before?.message === message) return
      raised.set(code, { code, since: before?.since ?? isoTime(clock.now()), message })
      changed()
    },
    clear: (code) => {
      if (raised.delete(code)) changed()
    },
    list: () => [...raised.values()].sort((a, b) => (a.since < b.since ? -1 : 1)),
  }
}
