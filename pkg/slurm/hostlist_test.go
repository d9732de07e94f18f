package slurm_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"aifbench/pkg/slurm"
)

// hostLists were worked out by hand; the lab test asks scontrol about each.
var hostLists = map[string]string{
	"mel0001":                    "mel0001",
	"mel[0001-0003]":             "mel0001 mel0002 mel0003",
	"mel[0001-0002,0007],login1": "mel0001 mel0002 mel0007 login1",
	"n[9-11]":                    "n9 n10 n11",
	"n[09-11]":                   "n09 n10 n11",
	"n[098-101]":                 "n098 n099 n100 n101",
	"r[1-2]n[01-02]":             "r1n01 r1n02 r2n01 r2n02",
	"a.b-c_d1":                   "a.b-c_d1",
	"b,a,b":                      "b a b",
}

func TestExpandHosts(t *testing.T) {
	t.Parallel()
	for list, want := range hostLists {
		got, err := slurm.ExpandHosts(list)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %q, %v", list, got, err)
		}
	}
	// scontrol of 22.05 refuses a tail behind a bracket; taking it hurts nobody.
	if got, err := slurm.ExpandHosts("a[1-2]-ib"); err != nil || strings.Join(got, " ") != "a1-ib a2-ib" {
		t.Errorf("%q, %v", got, err)
	}
	for _, list := range []string{
		"", " ", ",", "a,", "a[", "a[1", "a]", "a[1-2]]", "a[[1]]", "a[]", "a[-]", "a[1-]", "a[-1]", "a[2-1]", "a[x]", "a[1,]",
		"a b", "a;b", "a,\nb", "a[1-99999999]", "a[1-60000],b[1-60000]", "a[0-999][0-999]", "a[9999999999999999999]", "$(id)",
		"a[0-18446744073709551615]",
	} {
		if got, err := slurm.ExpandHosts(list); err == nil {
			t.Errorf("%q gave %d hosts", list, len(got))
		}
	}
}

func TestCompressHosts(t *testing.T) {
	t.Parallel()
	for hosts, want := range map[string]string{
		"mel0001 mel0002 mel0003 mel0007": "mel[0001-0003,0007]",
		"mel0001":                         "mel0001",
		"n9 n10 n11":                      "n[9-11]",
		"n09 n10":                         "n[09-10]",
		"n09 n9":                          "n[09,9]",
		"b a1 a2 c":                       "b,a[1-2],c",
		"a2 a1":                           "a[2,1]",
		"login":                           "login",
		"7 8":                             "[7-8]",
	} {
		got, err := slurm.CompressHosts(strings.Fields(hosts))
		if err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", hosts, got, err, want)
		}
	}
	for _, hosts := range [][]string{nil, {""}, {"a b"}, {"a", "b[1]"}, {"a,b"}} {
		if got, err := slurm.CompressHosts(hosts); err == nil {
			t.Errorf("%q became %q", hosts, got)
		}
	}
}

func TestHostsProperty(t *testing.T) {
	t.Parallel()
	host := rapid.OneOf(rapid.StringMatching(`[a-c]{1,2}[0-9]{0,3}`), rapid.StringMatching(`[A-Za-z0-9._-]{1,12}[0-9]{0,20}`))
	rapid.Check(t, func(r *rapid.T) {
		want := rapid.SliceOfN(host, 1, 40).Draw(r, "hosts")
		list, err := slurm.CompressHosts(want)
		if err != nil {
			r.Fatal(err)
		}
		got, err := slurm.ExpandHosts(list)
		if err != nil {
			r.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			r.Fatalf("%q (-want +got):\n%s", list, diff)
		}
	})
}
