package archive

import "golang.org/x/sys/unix"

// noFollow refuses a path that became a symbolic link after it was looked at.
const noFollow = unix.O_NOFOLLOW
