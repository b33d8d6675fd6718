// What the code of a file's problem means, in words. Codes are stable and appear in snapshots, records and --json.
const WORDS: Readonly<Record<string, string>> = {
  changed: 'changed while it was read; what is in the snapshot is a mixture',
  vanished: 'vanished before it could be read',
  replaced: 'was replaced by something else while it was read',
  socket: 'is a socket, which holds nothing to back up',
  EACCES: 'may not be read by this user',
  EPERM: 'may not be read by this user',
  EIO: 'cannot be read: the disk reports an error',
  ENAMETOOLONG: 'has a path that is too long',
  ELOOP: 'has too many symlinks in its path',
  ESTALE: 'was lost by the network file system',
  ETIMEDOUT: 'did not answer in time',
  damaged: 'is damaged in the repository and was not restored',
  unread: 'could not be read from the store and was not restored',
  refused: 'could not be written here',
  differs: 'was kept: its content is right, its metadata is not',
  'in-the-way': 'was not restored, nor anything below it: something that is no directory is there, and was kept',
  link: 'was a hard link and is a file of its own now',
  'not-in-snapshot': 'is not in this snapshot',
  content: 'came back with other content than was backed up',
  missing: 'did not come back',
  extra: 'came back with something in it that was not backed up',
  metadata: 'came back with another owner, mode, time or other attributes than were backed up',
  unreadable: 'came back and cannot be read by this user: nobody could compare it',
  'too-large': 'was passed over',
  owner: 'could not be given its owner',
  mode: 'could not be given its mode',
  times: 'could not be given its time',
  flags: 'could not be given an inode flag (chattr: compressed, immutable, append only, no dump)',
  attribute: 'could not be given an extended attribute',
}

export function problemWords(code: string): string {
  return WORDS[code] ?? `failed with ${code}`
}
