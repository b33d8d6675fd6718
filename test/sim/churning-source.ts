// A source that changes as real ones do: each day a share of the bytes is written anew, most of it in few of the files. What every kept snapshot should
// hold is remembered beside it. All from one seed.
import type { Random } from '@holdfast/shared/random.ts'
import { randomBelow } from '@holdfast/shared/random.ts'
import { CWD } from '../../agent/file-system/file-system.ts'
import { change, type Engine, fixtureRandom, treeOf, writeFile } from '../_support/engine-fixture.ts'
import type { Tree } from '../_support/plain-reader.ts'

export type ChurningSource = {
  /** Bytes of all files; the same every day. */
  readonly bytes: number
  /** Writes files anew until so many bytes have changed. Gives how many bytes that were. */
  readonly change: () => number
  /** What stands there now, as a snapshot should have it; an own copy. */
  readonly tree: () => Tree
}

/** Puts `files` files of 2 to 40 KiB under /src. `share` of the bytes changes a day, `hotShare` of that in the files of every tenth directory. */
export function churningSource(engine: Engine, options: { seed: string; files: number; share: number; hotShare: number }): ChurningSource {
  const random: Random = fixtureRandom(`churn ${options.seed}`)
  const files = Array.from({ length: options.files }, (_, i) => ({
    path: `/src/${String(Math.floor(i / 10)).padStart(3, '0')}/file-${i}`,
    bytes: 2048 + randomBelow(random, 38 * 1024),
    version: 0,
    isHot: i % 100 < 10,
  }))
  type File = (typeof files)[number]
  const [hot, cold] = [files.filter(({ isHot }) => isHot), files.filter(({ isHot }) => !isHot)]
  const contentOf = (file: File): Buffer => fixtureRandom(`${options.seed} ${file.path} ${file.version}`).bytes(file.bytes)
  for (const file of files) writeFile(engine, file.path, contentOf(file))
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0)
  const tree = engine.source()
  let owed = { hot: 0, cold: 0 }

  /** Files by chance, none twice a day, until what is owed is changed; what was too much is taken off the next day. */
  const changeSome = (among: readonly File[], due: number): number => {
    const chosen = new Set<File>()
    let changed = 0
    while (changed < due && chosen.size < among.length) {
      const file = among[randomBelow(random, among.length)]!
      if (chosen.has(file)) continue
      chosen.add(file)
      changed += file.bytes
    }
    change(engine, (fs) => {
      for (const file of chosen) {
        file.version += 1
        const fd = fs.open(CWD, Buffer.from(file.path), 'update')
        fs.write(fd, contentOf(file), 0)
        fs.close(fd)
        tree.set(file.path, treeOf(fs, [file.path]).get(file.path)!)
      }
    })
    return changed
  }
  return {
    bytes,
    tree: () => new Map(tree),
    change: () => {
      const due = {
        hot: owed.hot + bytes * options.share * options.hotShare,
        cold: owed.cold + bytes * options.share * (1 - options.hotShare),
      }
      const changed = { hot: changeSome(hot, due.hot), cold: changeSome(cold, due.cold) }
      owed = { hot: due.hot - changed.hot, cold: due.cold - changed.cold }
      return changed.hot + changed.cold
    },
  }
}
