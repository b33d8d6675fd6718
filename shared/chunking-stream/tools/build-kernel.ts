// Compiles assembly/gear.ts to WebAssembly with the devDependency `assemblyscript`. Run as a program it writes gear.wasm;
// the test calls `compileKernel` and compares the bytes with the committed file.
import { readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'

/** The bytes of gear.wasm as compiled from assembly/gear.ts now. Throws what the compiler printed when it does not compile. */
export async function compileKernel(): Promise<Uint8Array> {
  const asc = await import('assemblyscript/asc')
  const source = await readFile(new URL('../assembly/gear.ts', import.meta.url), 'utf8')
  const outputs = new Map<string, Uint8Array | string>()
  const { error, stderr } = await asc.main(
    [
      'gear.ts',
      '--outFile',
      'gear.wasm',
      '-O3',
      '--noAssert',
      '--runtime',
      'stub',
      '--importMemory',
      '--initialMemory',
      '1',
      '--enable',
      'simd',
    ],
    {
      readFile: (name) => (name === 'gear.ts' ? source : null),
      writeFile: (name, contents) => void outputs.set(name, contents),
      listFiles: () => [],
    },
  )
  if (error !== null) throw new Error(`assembly/gear.ts does not compile: ${stderr.toString()}`, { cause: error })
  const wasm = outputs.get('gear.wasm')
  if (!(wasm instanceof Uint8Array)) throw new Error('the compiler of assembly/gear.ts wrote no gear.wasm')
  return wasm
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const wasm = await compileKernel()
  await writeFile(new URL('../gear.wasm', import.meta.url), wasm)
  console.log(`gear.wasm: ${wasm.length} bytes`)
}
