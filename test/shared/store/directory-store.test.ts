// What only a directory can do wrong: links, unmounted bases, leftovers of crashes, wrong kinds of files.
import { chmod, lstat, mkdir, mkdtemp, readdir, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { systemClock } from '@holdfast/shared/clock.ts'
import { directoryError } from '@holdfast/shared/store/directory-errors.ts'
import { openDirectoryStore } from '@holdfast/shared/store/directory-store.ts'
import { bytesBody, expectCode, fileBody, listAll } from '../../contract/store-contract.ts'

function codeOf(errno: string): string {
  return directoryError(Object.assign(new Error('x'), { code: errno, syscall: 'write' }), 'put', '/x').code
}

describe('a directory store', () => {
  let folder: string
  let base: string
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'holdfast-directory-'))
    base = join(folder, 'base')
    return () => rm(folder, { recursive: true, force: true })
  })

  test('is not created by opening it for use: a missing base is an unmounted disk', async () => {
    await expectCode(openDirectoryStore(base), 'store-unreachable')
    await expect(lstat(base)).rejects.toThrow('ENOENT')
    await writeFile(base, 'a file')
    await expectCode(openDirectoryStore(base), 'store-refused')
  })

  test('makes directories 0700 and files 0600, also from a spool file of another mode', async () => {
    const store = await openDirectoryStore(join(base, 'deep'), { create: true })
    await store.put('packs/one', bytesBody('x'))
    const spool = await fileBody(join(folder, 'spool'), Buffer.from('y'))
    await chmod(join(folder, 'spool'), 0o666)
    await store.put('packs/two', { ...spool, frozen: true })
    for (const directory of ['', 'packs', 'tmp']) expect((await lstat(join(base, 'deep', directory))).mode & 0o777).toBe(0o700)
    for (const file of ['one', 'two']) expect((await lstat(join(base, 'deep/packs', file))).mode & 0o777).toBe(0o600)
    await store.close()
  })

  test('links a frozen spool file of the same file system and copies any other', async () => {
    const store = await openDirectoryStore(base, { create: true })
    const spool = await fileBody(join(folder, 'spool'), Buffer.from('content'))
    await store.put('linked', { ...spool, frozen: true })
    await store.put('copied', spool)
    const inode = (await lstat(join(folder, 'spool'))).ino
    expect((await lstat(join(base, 'linked'))).ino).toBe(inode)
    expect((await lstat(join(base, 'copied'))).ino).not.toBe(inode)
    expect(await store.put('linked', { ...spool, frozen: true })).toEqual({ created: false })
    await store.close()
  })

  test('never follows a link out of the store', async () => {
    const outside = join(folder, 'outside')
    await mkdir(outside)
    await writeFile(join(outside, 'secret'), 'secret')
    const store = await openDirectoryStore(base, { create: true })
    await symlink(outside, join(base, 'packs'))
    await symlink(join(outside, 'secret'), join(base, 'link'))
    await expectCode(store.put('packs/new', bytesBody('x')), 'store-refused')
    await expectCode(store.get('packs/secret', { limitBytes: 10 }), 'store-refused')
    await expectCode(store.get('link', { limitBytes: 10 }), 'store-refused')
    await expectCode(store.remove('packs/secret'), 'store-refused')
    expect(await store.head('link')).toBeUndefined()
    expect(await listAll(store)).toEqual([])
    expect(await readdir(outside)).toEqual(['secret'])
    await store.close()
  })

  test('never calls an object absent or writes beside it when the base was replaced or removed', async () => {
    const store = await openDirectoryStore(base, { create: true })
    await store.put('packs/one', bytesBody('x'))
    await rename(base, join(folder, 'moved'))
    await expectCode(store.get('packs/two', { limitBytes: 10 }), 'store-unreachable')
    await mkdir(base)
    await expectCode(store.get('packs/two', { limitBytes: 10 }), 'store-unreachable')
    await expectCode(store.head('packs/two'), 'store-unreachable')
    await expectCode(listAll(store, 'index/'), 'store-unreachable')
    await rm(join(folder, 'moved'), { recursive: true })
    await expectCode(store.put('packs/three', bytesBody('x')), 'store-unreachable')
    expect(await readdir(base)).toEqual([])
    await store.close()
  })

  test('makes a directory again that somebody removed', async () => {
    const store = await openDirectoryStore(base, { create: true })
    await store.put('packs/ab/one', bytesBody('x'))
    await rm(join(base, 'packs'), { recursive: true })
    expect(await store.put('packs/ab/two', bytesBody('y'))).toEqual({ created: true })
    expect((await listAll(store)).map((o) => o.name)).toEqual(['packs/ab/two'])
    await store.close()
  })

  test('leaves no temporary file behind, and removes those that a crash left more than a day ago', async () => {
    const store = await openDirectoryStore(base, { create: true })
    await store.put('one', bytesBody('x'))
    await store.put('one', bytesBody('y'))
    await expectCode(store.put('two', { kind: 'file', path: Buffer.from('/nonexistent'), bytes: 1, sha256: '' }), 'local-disk')
    expect(await readdir(join(base, 'tmp'))).toEqual([])
    const [old, young, foreign] = [`put_${'0'.repeat(32)}`, `put_${'1'.repeat(32)}`, 'notes']
    for (const name of [old, young, foreign]) await writeFile(join(base, 'tmp', name), 'torn')
    const yesterday = systemClock.now() / 1000 - 90_000
    await utimes(join(base, 'tmp', old), yesterday, yesterday)
    await utimes(join(base, 'tmp', foreign), yesterday, yesterday)
    await store.close()
    const again = await openDirectoryStore(base)
    expect((await readdir(join(base, 'tmp'))).sort()).toEqual([foreign, young])
    expect((await listAll(again)).map((o) => o.name)).toEqual(['one', 'tmp/notes'])
    await again.close()
  })

  test('is opened and read where what stands in the place of its temporary files cannot be tidied: nothing that is stored lies there', async () => {
    const store = await openDirectoryStore(base, { create: true })
    await store.put('one', bytesBody('x'))
    await store.close()
    await rm(join(base, 'tmp'), { recursive: true })
    await writeFile(join(base, 'tmp'), 'a file')
    const again = await openDirectoryStore(base)
    expect(String(await again.get('one', { limitBytes: 10 }))).toBe('x')
    await expect(again.put('two', bytesBody('y'))).rejects.toThrow(`refuses to write into ${base}/tmp (ENOTDIR)`)
    await again.close()
  })

  test('names the directory that it cannot list, and not only the one above', async () => {
    const store = await openDirectoryStore(base, { create: true })
    await mkdir(join(base, 'packs/aa'), { recursive: true })
    await mkdir(join(base, 'packs/bb'))
    for (let i = 0; i < 1001; i++) await writeFile(join(base, 'packs/aa', String(i)), '')
    const pages = store.list('packs/')[Symbol.asyncIterator]()
    await pages.next()
    await rm(join(base, 'packs/bb'), { recursive: true })
    await writeFile(join(base, 'packs/bb'), '')
    await expect(pages.next()).rejects.toThrow(`refuses to list ${base}/packs/bb/ (ENOTDIR)`)
    await store.close()
  })

  test('refuses a name where a directory stands, and one below an object', async () => {
    const store = await openDirectoryStore(base, { create: true })
    await store.put('a/b', bytesBody('x'))
    await expectCode(store.put('a', bytesBody('x')), 'store-refused')
    await expectCode(store.put('a/b/c', bytesBody('x')), 'store-refused')
    await store.close()
  })

  test('makes many puts into one directory durable together', async () => {
    const store = await openDirectoryStore(base, { create: true })
    const names = Array.from({ length: 100 }, (_, i) => `packs/${i}`)
    const outcomes = await Promise.all(names.map((name) => store.put(name, bytesBody(name))))
    expect(outcomes.every((o) => o.created)).toBe(true)
    expect((await listAll(store)).length).toBe(100)
    await store.close()
  })

  test('tells a full disk, a refusing one and an unreachable one apart by errno', () => {
    expect(['ENOSPC', 'EDQUOT'].map(codeOf)).toEqual(['store-full', 'store-full'])
    expect(['EROFS', 'EACCES', 'EPERM'].map(codeOf)).toEqual(['store-refused', 'store-refused', 'store-refused'])
    expect(['EIO', 'ESTALE', 'ENODEV', 'ETIMEDOUT'].map(codeOf)).toEqual(Array(4).fill('store-unreachable'))
  })
})
