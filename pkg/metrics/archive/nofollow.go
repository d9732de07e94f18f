package archive

import "golang.org/x/sys/unix"

// noFollow refuses a path that became a symbolic link after it was looked at;
// nonBlock returns at once from a pipe that nobody writes to.
const (
	noFollow = unix.O_NOFOLLOW
	nonBlock = unix.O_NONBLOCK
)
