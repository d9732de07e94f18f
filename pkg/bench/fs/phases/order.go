package phases

// Names of the phases, as IO500 prints them.
const (
	EasyWrite   = "ior-easy-write"
	MDEasyWrite = "mdtest-easy-write"
	HardWrite   = "ior-hard-write"
	MDHardWrite = "mdtest-hard-write"
	Find        = "find"
	EasyRead    = "ior-easy-read"
	MDEasyStat  = "mdtest-easy-stat"
	HardRead    = "ior-hard-read"
	MDHardStat  = "mdtest-hard-stat"
	MDEasyDel   = "mdtest-easy-delete"
	MDHardRead  = "mdtest-hard-read"
	MDHardDel   = "mdtest-hard-delete"
	RndRead     = "ior-rnd4K-easy-read"
)

// Spec is one phase: its place in the order, and whether its rate counts bytes.
type Spec struct {
	Name string
	// Data phases count bytes, the others items.
	Data bool
	// Read phases can be served from the page cache.
	Read bool

	work func(*rank) error
}

// Order returns the phases in the order they run, which is IO500's.
func Order() []Spec {
	return []Spec{
		{Name: EasyWrite, Data: true, work: (*rank).easyWrite},
		{Name: MDEasyWrite, work: (*rank).mdEasyWrite},
		{Name: HardWrite, Data: true, work: (*rank).hardWrite},
		{Name: MDHardWrite, work: (*rank).mdHardWrite},
		{Name: Find, Read: true, work: (*rank).find},
		{Name: EasyRead, Data: true, Read: true, work: (*rank).easyRead},
		{Name: MDEasyStat, Read: true, work: (*rank).mdEasyStat},
		{Name: HardRead, Data: true, Read: true, work: (*rank).hardRead},
		{Name: MDHardStat, Read: true, work: (*rank).mdHardStat},
		{Name: MDEasyDel, work: (*rank).mdEasyDelete},
		{Name: MDHardRead, Read: true, work: (*rank).mdHardRead},
		{Name: MDHardDel, work: (*rank).mdHardDelete},
		{Name: RndRead, Data: true, Read: true, work: (*rank).rndRead},
	}
}
