// Every target, in the order in which a run takes them.
import type { Target } from '../_support/target.ts'
import { apiBodies } from './api-bodies.ts'
import { collectionList, needsStatement } from './collection.ts'
import { agentConfig, command, enrolmentCode, location, policies, recoveryCode } from './configuration.ts'
import { forgetRecord, sessionEnd } from './forgetting.ts'
import { bundle, grant, sealedGrant } from './grants.ts'
import { indexFile } from './index-file.ts'
import { keyObject, repositoryDescription, roster, sessionObject } from './objects.ts'
import { packFooter, packTrailer, sealedBox } from './pack.ts'
import { fileRecords, journal, recordFrames, recordHeader } from './records.ts'
import { restore } from './restore.ts'
import { s3Replies } from './s3-replies.ts'
import { segment } from './segment.ts'
import { snapshotPrivate, snapshotStructure } from './snapshot.ts'
import { treeNode } from './tree-node.ts'

export const targets: readonly Target[] = [
  packFooter,
  packTrailer,
  sealedBox,
  segment,
  indexFile,
  collectionList,
  needsStatement,
  forgetRecord,
  sessionEnd,
  treeNode,
  restore,
  snapshotStructure,
  snapshotPrivate,
  sessionObject,
  repositoryDescription,
  roster,
  keyObject,
  grant,
  sealedGrant,
  bundle,
  agentConfig,
  policies,
  command,
  apiBodies,
  recordFrames,
  fileRecords,
  recordHeader,
  journal,
  s3Replies,
  location,
  recoveryCode,
  enrolmentCode,
]
