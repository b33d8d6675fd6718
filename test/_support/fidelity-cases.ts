// The cases of restore fidelity: each is one property of files that backup programs are known to lose, with a name in words and the lines of
// shell that make it in an empty directory of its own. They are made by coreutils, attr, acl and e2fsprogs, never by the product.
import { soak } from './soak.ts'

/** `ext4`: with attributes of any size (ea_inode) and inodes of 256 bytes. */
export type FileSystemKind = 'ext4' | 'tmpfs' | 'xfs' | 'btrfs'

export type FidelityCase = {
  readonly name: string
  /** Lines of bash, run with `set -e` inside the directory. */
  readonly make: string
  /** File systems that cannot hold it, whoever asks. */
  readonly notOn?: readonly FileSystemKind[]
  /**
   * In a tree of its own. `beyond`: what the single-file reader through GNU tar cannot do (paths beyond what can be named) or takes long over;
   * `deep`: what borg 1.2 ends at, and saves nothing beside; `large`: what fills the disk with zeros where holes are not kept, as other programs do.
   */
  readonly tree?: 'beyond' | 'deep' | 'large'
}

/** Names that end so are excluded by the backup that the cases are for. */
export const EXCLUDED_SUFFIX = '.excluded'

const raw = String.raw
const MIB = 1024 * 1024

const NAMES: readonly [words: string, bash: string][] = [
  ['a space at the start', "' x'"],
  ['a space at the end', "'x '"],
  ['nothing but a space', "' '"],
  ['a dot at the end', "'x.'"],
  ['three dots', "'...'"],
  ['a dot at the start', "'.hidden'"],
  ['a dot and a space', "'. '"],
  ['a newline inside', raw`$'a\nb'`],
  ['a newline at the end', raw`$'a\n'`],
  ['a carriage return', raw`$'a\rb'`],
  ['a tab', raw`$'a\tb'`],
  ['the escape sequence for red', raw`$'\e[31mred\e[0m'`],
  ['the escape sequence that clears a terminal', raw`$'\e[2J\ec'`],
  ['an escape sequence that sets a title', raw`$'\e]0;owned\a'`],
  ['a backspace', raw`$'ab\b'`],
  ['the byte 0x7f', raw`$'a\x7fb'`],
  ['that of an option, -rf', '-rf'],
  ['that of a long option, --help', '--help'],
  ['a single hyphen', '-'],
  ['two hyphens', '--'],
  ['an at sign at the start, as lists of files have it', "'@list'"],
  ['an exclamation mark at the start', "'!x'"],
  ['a star', "'*'"],
  ['a question mark', "'?'"],
  ['a bracket expression', "'[a-z]'"],
  ['braces', "'{a,b}'"],
  ['a double quote', raw`'"'`],
  ['a single quote', raw`"'"`],
  ['a backtick and a command', raw`'\`id\`'`],
  ['a dollar sign and a command', "'$(id)'"],
  ['a backslash', raw`'a\b'`],
  ['a backslash at the end', raw`'a\'`],
  ['a backslash and digits', raw`'\101\x41'`],
  ['a colon', "'a:b'"],
  ['a host and a colon, as tar has it', "'host:x'"],
  ['a pipe and a semicolon', "'a|b;c&d'"],
  ['a device of DOS, CON', 'CON'],
  ['a device of DOS with an ending, nul.txt', 'nul.txt'],
  ['a percent sign', "'%41%n%s'"],
  ['a hash sign at the start', "'#x'"],
  ['a tilde', "'~'"],
  ['an equals sign', "'a=b'"],
  ['a letter with an accent, composed', raw`$'\xc3\xa9'`],
  ['a letter with an accent, decomposed', raw`$'e\xcc\x81'`],
  ['a byte order mark', raw`$'\xef\xbb\xbfbom'`],
  ['a mark that turns the direction of writing', raw`$'\xe2\x80\xaegnp.exe'`],
  ['a joiner of no width', raw`$'a\xe2\x80\x8db'`],
  ['a no-break space', raw`$'\xc2\xa0'`],
  ['Japanese letters', raw`$'\xe6\x97\xa5\xe6\x9c\xac'`],
  ['a sign beyond the basic plane', raw`$'\xf0\x9f\x97\x84'`],
  ['the replacement character', raw`$'\xef\xbf\xbd'`],
  ['a private-use character as borg and SMB map to', raw`$'\xef\x80\xa2'`],
  ['a lone byte of Latin-1', raw`$'caf\xe9'`],
  ['a lone continuation byte', raw`$'\x80'`],
  ['a sequence that is cut short', raw`$'\xc3\x28'`],
  ['a surrogate in UTF-8', raw`$'\xed\xa0\x80'`],
  ['an overlong slash', raw`$'\xc0\xaf'`],
  ['a sequence of five bytes', raw`$'\xf8\xa1\xa1\xa1\xa1'`],
  ['the bytes 0xff and 0xfe', raw`$'\xff\xfe'`],
  ['255 bytes', '"$(printf %0255d 0)"'],
  ['255 bytes that are no UTF-8', raw`"$(printf '\377%.0s' {1..255})"`],
  ['127 letters of two bytes', raw`"$(printf '\303\251%.0s' {1..127})"`],
  ['254 bytes', '"$(printf %0254d 0)"'],
  ['that of a temporary file of a restore', '.holdfast-restore-0123456789abcdef'],
  ['that of a whiteout of overlays', '.wh.x'],
]

/** Makes one file for each byte in a range, as a name of its own. */
const bytes = (from: number, to: number): string =>
  raw`for ((i = ${from}; i <= ${to}; i++)); do printf -v hex %x $i; printf -v name "\\x$hex"; [ $i = 47 ] || printf $i >"$name"_; done`

const names: FidelityCase[] = [
  ...NAMES.map(([words, bash]) => ({ name: `a name: ${words}`, make: `printf named >./${bash}` })),
  ...NAMES.filter(([words]) => /newline inside|for red|option, -rf|lone byte|0xff and|255 bytes$/.test(words)).map(([words, bash]) => ({
    name: `the name of a directory: ${words}`,
    make: `mkdir ./${bash}; printf inside >./${bash}/file; touch -d @5.000000006 ./${bash}`,
  })),
  { name: 'names with each control byte', make: bytes(1, 31) },
  { name: 'names with each printable byte', make: bytes(32, 127) },
  { name: 'names with each byte 0x80 to 0xbf', make: bytes(128, 191) },
  { name: 'names with each byte 0xc0 to 0xff', make: bytes(192, 255) },
  { name: 'twins of composed and decomposed letters', make: raw`printf 1 >$'\xc3\xa9'; printf 2 >$'e\xcc\x81'` },
  { name: 'twins of upper and lower case', make: 'printf 1 >Case; printf 2 >case; printf 3 >CASE' },
  { name: 'directories that are twins of case', make: 'mkdir Dir dir; printf 1 >Dir/f; printf 2 >dir/f' },
  { name: 'twins that differ in trailing space and dot', make: "printf 1 >x; printf 2 >'x '; printf 3 >x." },
]

const FILE_MODES = ['0000', '0400', '0200', '0100', '0001', '0044', '0600', '0666', '0777', '1644', '2755', '4755', '6711', '2644', '7777']
const DIRECTORY_MODES = ['0000', '0300', '0500', '0555', '0700', '1777', '2775', '6755', '7777']
const OWNERS = [
  '1:0',
  '0:1',
  '1000:1000',
  '65534:65534',
  '65535:65535',
  '65536:65536',
  '2097151:2097152',
  '2147483647:2147483648',
  '4294967294:4294967294',
]

const modesAndOwners: FidelityCase[] = [
  ...FILE_MODES.map((mode) => ({ name: `a file of mode ${mode}`, make: `printf x >f; chmod ${mode} f` })),
  ...DIRECTORY_MODES.map((mode) => ({ name: `a directory of mode ${mode}`, make: `mkdir d; printf x >d/f; chmod ${mode} d` })),
  ...OWNERS.map((owner) => ({ name: `a file of ${owner}`, make: `printf x >f; chown ${owner} f` })),
  { name: 'a directory of a large owner and group', make: 'mkdir d; printf x >d/f; chown 3000000000:3000000001 d' },
  { name: 'a set-uid program of another user', make: 'printf x >f; chown 1234:4321 f; chmod 6755 f' },
  {
    name: 'a directory that gives its group to what is made in it',
    make: 'mkdir d; chgrp 777 d; chmod 2770 d; printf x >d/f; chgrp 0 d/f',
  },
]

const TIMES: readonly [words: string, time: string, notOn?: readonly FileSystemKind[]][] = [
  ['1970, exactly', '@0'],
  ['one nanosecond after 1970', '@0.000000001'],
  ['one nanosecond before 1970', '1969-12-31T23:59:59.999999999Z'],
  ['one second before 1970', '@-1'],
  ['1969 with nanoseconds', '@-86400.123456789'],
  ['1901, the first second of 32 bits', '@-2147483648'],
  ['2038, the last second of 32 bits', '@2147483647.999999999'],
  ['2038, the first second beyond 32 bits', '@2147483648'],
  ['2106, the first second beyond 32 bits without a sign', '@4294967296.000000001'],
  ['2200', '@7258118400.987654321'],
  ['2262, the last nanosecond of 64 bits', '@9223372036.854775807'],
  ['2262, the first nanosecond beyond 64 bits', '@9223372036.854775808'],
  ['2400', '@13569465600.000000007'],
  ['999,999,999 nanoseconds', '@1000000000.999999999'],
  ['100 nanoseconds', '@1000000000.000000100'],
  ['the year 1800', '@-5364662400.000000001', ['ext4', 'xfs']],
  ['the year 2600', '@19880899200.5', ['ext4', 'xfs']],
  ['the year 33658', '@1000000000000.000000001', ['ext4', 'xfs']],
]

const times: FidelityCase[] = [
  ...TIMES.map(([words, time, notOn]) => ({
    name: `a file changed in ${words}`,
    make: `printf x >f; touch -d ${time} f; mkdir d; touch -d ${time} d; [ "$(date -d "$(stat -c %y f)" +%s%N)" = "$(date -d ${time} +%s%N)" ]`,
    ...(notOn === undefined ? {} : { notOn }),
  })),
  {
    name: 'a full directory changed before 1970',
    make: 'mkdir -p d/e; printf x >d/e/f; touch -d @-5.000000001 d/e; touch -d @-6.000000001 d',
  },
  { name: 'a symlink changed before 1970', make: 'ln -s x l; touch -h -d @-7.000000001 l' },
  { name: 'a fifo changed after 2038', make: 'mkfifo p; touch -d @3000000000.000000009 p' },
]

const links: FidelityCase[] = [
  { name: 'a symlink to a file', make: 'printf x >f; ln -s f l' },
  { name: 'a symlink to a directory', make: 'mkdir d; printf x >d/f; ln -s d l' },
  { name: 'a symlink to nothing', make: 'ln -s nothing/here l' },
  { name: 'a symlink to itself', make: 'ln -s l l' },
  { name: 'two symlinks that lead to each other', make: 'ln -s a b; ln -s b a' },
  { name: 'an absolute symlink', make: 'ln -s /etc/hostname l' },
  { name: 'a symlink that climbs', make: 'ln -s ../../../../../../etc/shadow l' },
  { name: 'a symlink to the root', make: 'ln -s / l' },
  { name: 'a symlink to where it stands', make: 'ln -s . l; ln -s .. m' },
  { name: 'a symlink whose target ends with a slash', make: 'mkdir d; ln -s d/ l; ln -s d//. m' },
  { name: 'a symlink whose target has a newline', make: raw`ln -s $'a\nb' l` },
  { name: 'a symlink whose target is no UTF-8', make: raw`ln -s $'\xff\x80\xeb' l` },
  { name: 'a symlink whose target has an escape sequence', make: raw`ln -s $'\e[31m' l` },
  { name: 'a symlink whose target is a space', make: "ln -s ' ' l" },
  { name: 'a symlink of 59 and one of 60 bytes', make: 'ln -s $(printf %059d 0) a; ln -s $(printf %060d 0) b' },
  { name: 'a symlink of 1,000 bytes', make: 'ln -s "$(printf "a/%.0s" {1..500})" l' },
  { name: 'the longest symlink, of 4,095 bytes', make: 'ln -s "$(printf "a/%.0s" {1..2047})b" l', notOn: ['xfs'] },
  { name: 'the longest symlink of xfs, of 1,023 bytes', make: 'ln -s "$(printf "a/%.0s" {1..511})b" l' },
  { name: 'a symlink of another owner', make: 'ln -s x l; chown -h 1234:4321 l' },
  { name: 'a symlink with attributes', make: 'ln -s x l; setfattr -h -n trusted.t -v value l; setfattr -h -n security.s -v value l' },
  { name: 'a symlink with nanoseconds', make: 'ln -s x l; touch -h -d @1234567890.123456789 l' },
  { name: 'two names of one file', make: 'printf x >a; ln a b' },
  { name: 'three names of a file of several chunks', make: 'head -c 5000000 /dev/urandom >a; ln a b; ln a c' },
  { name: 'two names of an empty file', make: ': >a; ln a b' },
  { name: 'names of one file in several directories', make: 'mkdir -p d/e; printf x >d/e/a; ln d/e/a b; mkdir z; ln b z/c' },
  { name: 'two names of a symlink', make: 'ln -s x a; ln a b; chown -h 5:6 a' },
  { name: 'two names of a fifo', make: 'mkfifo a; ln a b' },
  { name: 'two names of a device', make: 'mknod a c 1 3; ln a b' },
  { name: 'two names of a file with attributes and an owner', make: 'printf x >a; setfattr -n user.u -v v a; chown 7:8 a; ln a b' },
  { name: 'two names of a file that has holes', make: 'truncate -s 3M a; printf x >>a; ln a b' },
  { name: 'two names of a set-uid program', make: 'printf x >a; chown 9:9 a; chmod 4755 a; mkdir d; ln a d/b' },
  { name: 'two files of the same content that are no links', make: 'printf same >a; cp -p a b' },
  { name: 'a file one of whose two names is excluded', make: `printf x >a; ln a b${EXCLUDED_SUFFIX}` },
  { name: 'a file the first of whose names is excluded', make: `printf x >a${EXCLUDED_SUFFIX}; ln a${EXCLUDED_SUFFIX} b; ln b c` },
  {
    name: 'a file another name of which is outside of the source',
    make: 'printf x >"$OUTSIDE/$(basename "$PWD")"; ln "$OUTSIDE/$(basename "$PWD")" a',
  },
  {
    name: '200 names of one file',
    make: "printf x >0; seq 199 | xargs -n 100 sh -c 'for n; do ln 0 $n; done' sh",
  },
]

const attributes: FidelityCase[] = [
  { name: 'an attribute of the user', make: 'printf x >f; setfattr -n user.text -v value f' },
  { name: 'an attribute without a value', make: 'printf x >f; setfattr -n user.empty f' },
  { name: 'an attribute of every byte', make: 'printf x >f; setfattr -n user.bytes -v 0x$(printf %02x {0..255}) f' },
  { name: 'an attribute of 3,000 bytes', make: 'printf x >f; setfattr -n user.large -v 0x$(printf "ab%.0s" {1..3000}) f' },
  {
    name: 'an attribute of 40,000 bytes',
    make: 'printf x >f; setfattr -n user.large -v 0x$(printf "cd%.0s" {1..40000}) f',
    notOn: ['btrfs'],
  },
  { name: 'twenty attributes of one file', make: 'printf x >f; for i in {1..20}; do setfattr -n user.a$i -v $i f; done' },
  { name: 'an attribute whose name has a space, an equals sign and a hash', make: "printf x >f; setfattr -n 'user.a =#b' -v v f" },
  { name: 'an attribute whose name is no UTF-8', make: raw`printf x >f; setfattr -n $'user.\xff\xfe' -v v f` },
  { name: 'an attribute whose name has a newline', make: raw`printf x >f; setfattr -n $'user.a\nb' -v v f` },
  { name: 'an attribute with the longest name, of 255 bytes', make: 'printf x >f; setfattr -n user.$(printf %0250d 0) -v v f' },
  { name: 'a trusted attribute', make: 'printf x >f; setfattr -n trusted.t -v v f' },
  { name: 'a trusted attribute as overlays set them', make: 'mkdir d; setfattr -n trusted.overlay.opaque -v y d; printf x >d/f' },
  { name: 'a security attribute', make: 'printf x >f; setfattr -n security.s -v v f' },
  { name: 'a label of a security module', make: 'printf x >f; setfattr -n security.selinux -v system_u:object_r:etc_t:s0 f' },
  {
    name: 'attributes of a directory',
    make: 'mkdir d; printf x >d/f; setfattr -n user.d -v v d; setfattr -n trusted.d -v v d; touch -d @77 d',
  },
  { name: 'attributes of a fifo', make: 'mkfifo p; setfattr -n trusted.p -v v p; setfattr -n security.p -v v p' },
  { name: 'attributes of a device', make: 'mknod n c 1 3; setfattr -n trusted.n -v v n' },
  { name: 'an attribute of a file that nobody may read', make: 'printf x >f; setfattr -n user.u -v v f; chmod 000 f' },
  { name: 'an attribute of an empty file', make: ': >f; setfattr -n user.u -v v f' },
  { name: 'a capability', make: 'printf x >f; chmod 755 f; setcap cap_net_raw+ep f' },
  {
    name: 'a capability of a program of another user',
    make: 'printf x >f; chown 99:99 f; chmod 755 f; setcap cap_net_bind_service,cap_chown+eip f',
  },
  {
    name: 'a capability of a user namespace',
    make: 'printf x >f; setfattr -n security.capability -v 0x0100000300200000000000000000000000000000e8030000 f',
  },
  { name: 'an access list for a user', make: 'printf x >f; setfacl -m u:1001:rw f' },
  { name: 'an access list for a group', make: 'printf x >f; setfacl -m g:2002:r f' },
  { name: 'an access list whose mask takes rights away', make: 'printf x >f; setfacl -m u:1001:rwx,m::r f' },
  { name: 'an access list of large ids', make: 'printf x >f; setfacl -m u:4294967294:r,g:3000000000:rw f' },
  { name: 'an access list of fifty users', make: 'printf x >f; setfacl -m $(printf "u:%s:r," {1001..1050})m::r f' },
  { name: 'an access list of nobody, of a file of mode 000', make: 'printf x >f; setfacl -m u:1001:- f; chmod 000 f' },
  { name: 'a default access list', make: 'mkdir d; setfacl -d -m u:1001:rx d' },
  { name: 'both access lists of a directory', make: 'mkdir d; setfacl -m u:1003:rwx d; setfacl -d -m u:1001:rx,g:5:r d' },
  { name: 'a file without a list under a default list', make: 'mkdir d; printf x >d/f; mkdir d/e; setfacl -d -m u:1001:rwx d' },
  { name: 'an inherited access list', make: 'mkdir d; setfacl -d -m u:1001:rwx d; printf x >d/f; mkdir d/e' },
  { name: 'an access list of a fifo', make: 'mkfifo p; setfacl -m u:1001:rw p' },
  {
    name: 'a list, a capability and an attribute together',
    make: 'printf x >f; setfacl -m u:1001:rx f; setcap cap_chown+ep f; setfattr -n user.u -v v f',
  },
]

const flags: FidelityCase[] = [
  { name: 'an immutable file', make: 'printf x >f; touch -d @9.000000001 f; chattr +i f' },
  { name: 'an append-only file', make: 'printf x >f; touch -d @9.000000002 f; chattr +a f' },
  { name: 'a file that is not to be dumped', make: 'printf x >f; chattr +d f' },
  { name: 'an immutable file with attributes and another owner', make: 'printf x >f; chown 5:6 f; setfattr -n user.u -v v f; chattr +i f' },
  {
    name: 'an immutable directory with files in it',
    make: 'mkdir d; printf x >d/f; mkdir d/e; printf y >d/e/g; touch -d @9 d; chattr +i d',
  },
  { name: 'an append-only directory with files in it', make: 'mkdir d; printf x >d/f; touch -d @9.1 d; chattr +a d' },
  { name: 'a directory that is not to be dumped', make: 'mkdir d; printf x >d/f; chattr -d d/f; chattr +d d' },
  { name: 'an immutable file of two names', make: 'mkdir d; printf x >d/a; ln d/a b; chattr +i b' },
  { name: 'an immutable file in an immutable directory', make: 'mkdir d; head -c 700000 /dev/urandom >d/f; chattr +i d/f d' },
  { name: 'an immutable empty file', make: ': >f; chattr +i f' },
  { name: 'an append-only file that is not to be dumped', make: 'head -c 300000 /dev/urandom >f; chattr +ad f' },
  { name: 'a file to be compressed', make: 'printf x >f; chattr +c f', notOn: ['tmpfs', 'xfs'] },
]

const SIZES = [
  0,
  1,
  255,
  256,
  257,
  4095,
  4096,
  4097,
  65_536,
  MIB / 2 - 1,
  MIB / 2,
  MIB / 2 + 1,
  MIB - 1,
  MIB,
  MIB + 1,
  4 * MIB - 1,
  4 * MIB,
  4 * MIB + 1,
]

const contents: FidelityCase[] = [
  ...SIZES.map((size) => ({ name: `a file of ${size} bytes`, make: `head -c ${size} /dev/urandom >f` })),
  ...[255, 256, 257, 4096, MIB + 1].map((size) => ({ name: `a file of ${size} zeros`, make: `head -c ${size} /dev/zero >f` })),
  { name: 'zeros between data', make: '{ head -c 99999 /dev/urandom; head -c 1500000 /dev/zero; head -c 3 /dev/urandom; } >f' },
  { name: 'the same megabyte sixteen times', make: 'head -c 1M /dev/urandom >m; for i in {1..16}; do cat m; done >f' },
  { name: 'a file of one byte over and over', make: String.raw`head -c 3M /dev/zero | tr '\0' a >f` },
  { name: 'newlines alone, with and without the last', make: String.raw`printf '\n\n\n' >f; printf 'a\r\nb' >g` },
  { name: 'a file that has holes at its start', make: 'truncate -s 2M f; printf data >>f' },
  { name: 'a file that has a hole at its end', make: 'head -c 70000 /dev/urandom >f; truncate -s 3M f' },
  { name: 'a file that is one hole', make: 'truncate -s 5M f' },
  { name: 'a file that is one hole of a byte', make: 'truncate -s 1 f' },
  { name: 'a hole that ends off a block', make: 'truncate -s 1234567 f' },
  { name: 'data, a hole, data', make: 'head -c 64K /dev/urandom >f; truncate -s 4M f; head -c 64K /dev/urandom >>f' },
  {
    name: 'sixty-four holes',
    make: 'for i in {0..63}; do head -c 4096 /dev/urandom | dd of=f bs=4096 seek=$((i * 16)) conv=notrunc status=none; done',
  },
  { name: 'zeros beside a hole', make: 'head -c 1M /dev/zero >f; truncate -s 3M f; head -c 1M /dev/zero >>f' },
  { name: 'room that was reserved and not written', make: 'printf x >f; fallocate -n -l 2M f' },
  { name: 'a hole punched into data', make: 'head -c 2M /dev/urandom >f; fallocate -p -o 524288 -l 1048576 f' },
  { name: 'a sparse file that is immutable', make: 'truncate -s 2M f; printf x >>f; chattr +i f' },
]

const nodes: FidelityCase[] = [
  { name: 'a fifo', make: 'mkfifo -m 640 p' },
  { name: 'a fifo of another owner', make: 'mkfifo p; chown 12:34 p; touch -d @99.000000001 p' },
  { name: 'the null device', make: 'mknod -m 666 n c 1 3; touch -d @99.000000002 n' },
  { name: 'a character device of large numbers', make: 'mknod n c 4095 1048575', notOn: ['xfs'] },
  { name: 'a character device of the largest numbers of xfs', make: 'mknod n c 511 262143' },
  { name: 'a character device of minor number 256', make: 'mknod n c 10 256' },
  { name: 'a block device', make: 'mknod -m 660 n b 8 1; chown 0:6 n' },
  { name: 'a block device of large numbers', make: 'mknod n b 259 65536' },
  { name: 'the device 0:0, as overlays mark what is gone', make: 'mknod n c 0 0' },
  { name: 'an empty directory', make: 'mkdir d' },
  { name: 'an empty directory of another owner and time', make: 'mkdir d; chown 1:2 d; chmod 2711 d; touch -d @3.000000004 d' },
  { name: 'empty directories in empty directories', make: 'mkdir -p a/b/c/d a/e' },
]

const trees: FidelityCase[] = [
  {
    name: 'a tree of 1,000 levels',
    make: 'mkdir -p "$(printf "d/%.0s" {1..1000})"; printf x >"$(printf "d/%.0s" {1..1000})f"',
    tree: 'deep',
  },
  { name: 'a path of 3,700 bytes', make: 'p="$(printf "$(printf %0200d 0)/%.0s" {1..17})"; mkdir -p "$p"; printf x >"$p/f"' },
  {
    name: 'a path of more than 5,000 bytes',
    make: 'for i in {1..20}; do mkdir "$(printf %0255d $i)"; cd -P "./$(printf %0255d $i)"; done; printf x >f; setfattr -n user.u -v v f; touch -d @-8.5 f',
    tree: 'beyond',
  },
  {
    name: 'a file on both sides of 4 GiB',
    make: 'truncate -s 4294965248 f; printf %04096d 7 >>f; truncate -s 4295100000 f',
    tree: 'large',
  },
  { name: 'a hole of 6 GiB', make: 'truncate -s 6G f', tree: 'large' },
  {
    name: `a directory of ${soak ? '100,000' : '2,000'} entries`,
    make: `seq ${soak ? 100_000 : 2000} | xargs -n 1000 touch -d @1000000001`,
  },
  { name: '300 files of one word each', make: 'for i in {1..300}; do printf $i >f$i; done' },
  {
    name: '1,000 holes in one file',
    make: 'truncate -s 8192000 f; for ((i = 0; i < 1000; i++)); do a+=(-c "pwrite -q $((i * 8192)) 4096"); done; xfs_io "${a[@]}" f',
    tree: 'beyond',
  },
  {
    name: '5,000 holes in one file',
    make: 'truncate -s 40960000 f; for ((i = 0; i < 5000; i++)); do a+=(-c "pwrite -q $((i * 8192)) 4096"); done; xfs_io "${a[@]}" f',
    tree: 'beyond',
  },
]

export const FIDELITY_CASES: readonly FidelityCase[] = [
  ...names,
  ...modesAndOwners,
  ...times,
  ...links,
  ...attributes,
  ...flags,
  ...contents,
  ...nodes,
  ...trees,
]
