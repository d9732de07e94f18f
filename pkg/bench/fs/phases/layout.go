package phases

import (
	"strconv"
	"strings"
)

// The tree below the work directory, as IOR and mdtest lay it out:
//
//	ior-easy/ior_file_easy.RRRRRRRR
//	ior-hard/file
//	mdtest-easy/test-dir.0-0/mdtest_tree.S.0/file.mdtest.R.I  (S = R+1, around the end)
//	mdtest-hard/test-dir.0-0/mdtest_tree.0/file.mdtest.R.I
//	timestampfile
const (
	dirEasy     = "ior-easy"
	dirHard     = "ior-hard"
	dirMDEasy   = "mdtest-easy"
	dirMDHard   = "mdtest-hard"
	dirTest     = "test-dir.0-0"
	dirHardTree = "mdtest_tree.0"
	fileEasy    = "ior_file_easy."
	fileHard    = "file"
	fileMD      = "file.mdtest."
	fileStamp   = "timestampfile"
)

// easyTree is the name of one directory below mdtest-easy/test-dir.0-0.
func easyTree(rank int) string { return "mdtest_tree." + strconv.Itoa(rank) + ".0" }

// easyFile is the file of one rank below ior-easy.
func easyFile(rank int) string {
	digits := strconv.Itoa(rank)
	return fileEasy + strings.Repeat("0", max(0, 8-len(digits))) + digits
}

// mdName returns a name buffer for the files of a rank. setItem completes it.
func mdName(rank int) []byte {
	b := make([]byte, 0, 64)
	b = append(b, fileMD...)
	b = strconv.AppendInt(b, int64(rank), 10)
	return append(b, '.')
}

// setItem appends an item number and the closing zero byte to the prefix
// without allocating; prefix keeps its length.
func setItem(prefix []byte, item int64) []byte {
	return append(strconv.AppendInt(prefix, item, 10), 0)
}

// Ours tells whether a path below the work directory is one that these phases
// (or IOR and mdtest under the real IO500) give to a file or a directory.
func Ours(rel string, dir bool) bool {
	part := strings.Split(rel, "/")
	switch part[0] {
	case dirEasy:
		// The real IO500 also knows one shared file (filePerProc = FALSE) and a
		// directory a rank (uniqueDir = TRUE).
		switch len(part) {
		case 1:
			return dir
		case 2:
			if dir {
				return numbered(part[1], "", 1)
			}
			return numbered(part[1], fileEasy, 1) || part[1]+"." == fileEasy
		case 3:
			return !dir && numbered(part[1], "", 1) && numbered(part[2], fileEasy, 1)
		}
		return false
	case dirHard:
		return len(part) == 1 && dir || len(part) == 2 && !dir && part[1] == fileHard
	case dirMDEasy, dirMDHard:
		switch len(part) {
		case 1:
			return dir
		case 2:
			return dir && (numbered(part[1], "test-dir.", 1) || part[1] == dirTest)
		case 3:
			return dir && (numbered(part[2], "mdtest_tree.", 1) || numbered(part[2], "mdtest_tree.", 2))
		case 4:
			return !dir && numbered(part[3], fileMD, 2)
		}
		return false
	case fileStamp:
		return len(part) == 1 && !dir
	}
	return false
}

// numbered tells whether name is prefix followed by n decimal numbers with
// dots between.
func numbered(name, prefix string, n int) bool {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok {
		return false
	}
	nums := strings.Split(rest, ".")
	if len(nums) != n {
		return false
	}
	for _, d := range nums {
		if d == "" || strings.Trim(d, "0123456789") != "" {
			return false
		}
	}
	return true
}
