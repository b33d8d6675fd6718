// chunking-stream: keyed content-defined chunking as a synchronous chunker, an async generator and a web TransformStream.
export { createChunker } from './chunker.ts'
export type { Chunker, ChunkerOptions } from './chunker.ts'
export { isAnchor, selectCuts } from './cuts.ts'
export type { CutSizes } from './cuts.ts'
export {
  DEFAULT_FIXED_SIZE,
  DEFAULT_MAX,
  DEFAULT_MEAN,
  DEFAULT_MIN,
  LARGEST_BUFFER,
  LARGEST_FIXED_SIZE,
  LARGEST_MAX,
  LEAST_FIXED_SIZE,
  LEAST_SPREAD,
  thresholdOf,
  WINDOW,
} from './options.ts'
export type { ChunkingOptions, ContentOptions, FixedOptions } from './options.ts'
export { chunkingStream, chunks } from './streams.ts'
export { deriveTable } from './table.ts'
