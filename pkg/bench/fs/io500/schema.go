package io500

// option is one key of the ini file with the value io500 gives it when unset.
type option struct{ key, value string }

// schema lists every section and key that io500 knows, in the order and the
// spelling of io500 --list (io500-isc26). An unknown one ends io500 at once.
var schema = []struct {
	section string
	options []option
}{
	{"global", []option{
		{"datadir", "./datafiles"},
		{"timestamp-datadir", "TRUE"},
		{"resultdir", "./results"},
		{"timestamp-resultdir", "TRUE"},
		{"api", "POSIX"},
		{"drop-caches", "FALSE"},
		{"drop-caches-cmd", `sudo -n bash -c "echo 3 > /proc/sys/vm/drop_caches"`},
		{"io-buffers-on-gpu", "FALSE"},
		{"verbosity", "1"},
		{"scc", "FALSE"},
		{"dataPacketType", "timestamp"},
	}},
	{"debug", []option{
		{"stonewall-time", "300"},
		{"pause-dir", ""},
	}},
	{"ior-easy", []option{
		{"API", ""},
		{"transferSize", "2m"},
		{"blockSize", "9920000m"},
		{"filePerProc", "TRUE"},
		{"uniqueDir", "FALSE"},
		{"run", "TRUE"},
		{"verbosity", ""},
	}},
	{"ior-easy-write", []option{
		{"API", ""},
		{"run", "TRUE"},
	}},
	{"mdtest-easy", []option{
		{"API", ""},
		{"n", "1000000"},
		{"run", "TRUE"},
	}},
	{"mdtest-easy-write", []option{
		{"API", ""},
		{"run", "TRUE"},
	}},
	{"mdworkbench", []option{
		{"API", ""},
		{"waitingTime", "0.0"},
		{"precreatePerSet", ""},
		{"filesPerProc", ""},
		{"run", "TRUE"},
		{"verbosity", ""},
	}},
	{"mdworkbench-create", []option{
		{"run", "TRUE"},
	}},
	{"timestamp", []option{}},
	{"find-easy", []option{
		{"external-script", ""},
		{"external-mpi-args", ""},
		{"external-extra-args", ""},
		{"nproc", ""},
		{"run", "TRUE"},
		{"pfind-queue-length", "10000"},
		{"pfind-steal-next", "FALSE"},
		{"pfind-parallelize-single-dir-access-using-hashing", "FALSE"},
	}},
	{"ior-hard", []option{
		{"API", ""},
		{"segmentCount", "10000000"},
		{"collective", ""},
		{"run", "TRUE"},
		{"verbosity", ""},
	}},
	{"ior-hard-write", []option{
		{"API", ""},
		{"collective", ""},
		{"run", "TRUE"},
	}},
	{"mdtest-hard", []option{
		{"API", ""},
		{"n", "1000000"},
		{"files-per-dir", ""},
		{"run", "TRUE"},
	}},
	{"mdtest-hard-write", []option{
		{"API", ""},
		{"run", "TRUE"},
	}},
	{"find", []option{
		{"external-script", ""},
		{"external-mpi-args", ""},
		{"external-extra-args", ""},
		{"nproc", ""},
		{"run", "TRUE"},
		{"pfind-queue-length", "10000"},
		{"pfind-steal-next", "FALSE"},
		{"pfind-parallelize-single-dir-access-using-hashing", "FALSE"},
	}},
	{"find-hard", []option{
		{"external-script", ""},
		{"external-mpi-args", ""},
		{"external-extra-args", ""},
		{"nproc", ""},
		{"run", "TRUE"},
		{"pfind-queue-length", "10000"},
		{"pfind-steal-next", "FALSE"},
		{"pfind-parallelize-single-dir-access-using-hashing", "FALSE"},
	}},
	{"mdworkbench-bench", []option{
		{"run", "TRUE"},
	}},
	{"ior-easy-read", []option{
		{"API", ""},
		{"run", "TRUE"},
	}},
	{"mdtest-easy-stat", []option{
		{"API", ""},
		{"run", "TRUE"},
	}},
	{"ior-hard-read", []option{
		{"API", ""},
		{"collective", ""},
		{"run", "TRUE"},
	}},
	{"mdtest-hard-stat", []option{
		{"API", ""},
		{"run", "TRUE"},
	}},
	{"mdworkbench-delete", []option{
		{"run", "TRUE"},
	}},
	{"mdtest-easy-delete", []option{
		{"API", ""},
		{"run", "TRUE"},
	}},
	{"mdtest-hard-read", []option{
		{"API", ""},
		{"run", "TRUE"},
	}},
	{"mdtest-hard-delete", []option{
		{"API", ""},
		{"run", "TRUE"},
	}},
	{"ior-rnd4K-easy-read", []option{
		{"API", ""},
		{"run", "TRUE"},
	}},
}
