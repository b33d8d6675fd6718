// What a simulated disk holds: inodes, file content in pages with holes between them, and for each what of it is durable. A page is never
// changed in place, so what was synced costs nothing to keep.
import { type Random, randomBelow } from '@holdfast/shared/random.ts'
import type { FileKind } from '../../agent/file-system/file-system.ts'

export const PAGE_BYTES = 4096

/** Content of a file as it stands at one moment. */
export type Content = { size: number; pages: Map<number, Buffer> }

export type Inode = {
  readonly number: bigint
  readonly kind: FileKind
  deviceId: bigint
  mode: number
  uid: number
  gid: number
  mtimeNs: bigint
  ctimeNs: bigint
  links: number
  major: number
  minor: number
  target: Buffer
  /** Names as latin1. */
  readonly attributes: Map<string, Buffer>
  content: Content
  /** What a crash cannot take away. */
  durable: Content
  /** Directories: names as latin1, now and after a crash. */
  readonly entries: Map<string, Inode>
  durableEntries: Map<string, Inode>
  parent: Inode | undefined
}

export function emptyContent(): Content {
  return { size: 0, pages: new Map() }
}

export function copyContent(content: Content): Content {
  return { size: content.size, pages: new Map(content.pages) }
}

export function readContent(content: Content, into: Uint8Array, offset: number, length: number, position: number): number {
  const count = Math.max(0, Math.min(length, content.size - position))
  for (let done = 0; done < count;) {
    const at = position + done
    const within = at % PAGE_BYTES
    const some = Math.min(count - done, PAGE_BYTES - within)
    const page = content.pages.get(Math.floor(at / PAGE_BYTES))
    if (page === undefined) into.fill(0, offset + done, offset + done + some)
    else into.set(page.subarray(within, within + some), offset + done)
    done += some
  }
  return count
}

export function writeContent(content: Content, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length;) {
    const at = position + done
    const within = at % PAGE_BYTES
    const some = Math.min(bytes.length - done, PAGE_BYTES - within)
    const index = Math.floor(at / PAGE_BYTES)
    const old = content.pages.get(index)
    const page = old === undefined ? Buffer.alloc(PAGE_BYTES) : Buffer.from(old)
    page.set(bytes.subarray(done, done + some), within)
    content.pages.set(index, page)
    done += some
  }
  content.size = Math.max(content.size, position + bytes.length)
}

export function truncateContent(content: Content, size: number): void {
  if (size < content.size) {
    const last = Math.floor(size / PAGE_BYTES)
    for (const index of content.pages.keys()) if (index > last || (index === last && size % PAGE_BYTES === 0)) content.pages.delete(index)
    const page = content.pages.get(last)
    if (page !== undefined) content.pages.set(last, Buffer.concat([page.subarray(0, size % PAGE_BYTES)], PAGE_BYTES))
  }
  content.size = size
}

export function nextData(content: Content, offset: number): number | undefined {
  if (offset >= content.size) return undefined
  if (content.pages.has(Math.floor(offset / PAGE_BYTES))) return offset
  let least = Infinity
  for (const index of content.pages.keys()) if (index * PAGE_BYTES >= offset && index < least) least = index
  return least === Infinity ? undefined : least * PAGE_BYTES
}

export function nextHole(content: Content, offset: number): number {
  let index = Math.floor(offset / PAGE_BYTES)
  if (!content.pages.has(index)) return offset
  while (content.pages.has(index)) index += 1
  return Math.min(index * PAGE_BYTES, content.size)
}

/** What stands after a crash of a file that was not synced: all of it, none of it, or some pages old, some new and some gone. */
export function afterCrash(inode: Inode, random: Random): Content {
  const { content, durable } = inode
  const fate = randomBelow(random, 3)
  if (fate === 0) return copyContent(durable)
  if (fate === 1) return copyContent(content)
  const size = randomBelow(random, 2) === 0 ? content.size : Math.min(content.size, durable.size + randomBelow(random, content.size + 1))
  const torn: Content = { size, pages: new Map() }
  for (const index of new Set([...durable.pages.keys(), ...content.pages.keys()])) {
    if (index * PAGE_BYTES >= size) continue
    const page = randomBelow(random, 2) === 0 ? content.pages.get(index) : durable.pages.get(index)
    if (page !== undefined) torn.pages.set(index, page)
  }
  return torn
}

/** A change of names that is not durable yet. Applied to what is durable, in order, by a sync of a directory it touches or by a lucky crash. */
export type NameChange =
  | { readonly kind: 'link'; readonly directory: Inode; readonly name: string; readonly inode: Inode }
  | { readonly kind: 'unlink'; readonly directory: Inode; readonly name: string }
  | {
      readonly kind: 'rename'
      readonly from: Inode
      readonly fromName: string
      readonly directory: Inode
      readonly name: string
      readonly inode: Inode
    }

export function touches(change: NameChange, directory: Inode): boolean {
  return change.directory === directory || (change.kind === 'rename' && change.from === directory)
}

/** Makes a change durable; one whose ground is missing (the name it moves never became durable) is passed over. */
export function makeDurable(change: NameChange, forced: boolean): void {
  if (change.kind === 'link') change.directory.durableEntries.set(change.name, change.inode)
  else if (change.kind === 'unlink') change.directory.durableEntries.delete(change.name)
  else {
    if (!forced && change.from.durableEntries.get(change.fromName) !== change.inode) return
    change.from.durableEntries.delete(change.fromName)
    change.directory.durableEntries.set(change.name, change.inode)
  }
}
