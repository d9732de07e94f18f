// Package probe owns the readers of the machine a run is on: processor,
// memory, network, disks, control group, processes, Lustre client counters and
// GPUs, the sample they add up to, its text exposition and the telemetry file
// it is appended to. It must not know what a service is or who asks. What
// cannot be read is absent with a reason, never zero.
package probe

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"
)

// Type is the kind of a series as Prometheus names it.
type Type string

// The two types this package exports.
const (
	Counter Type = "counter"
	Gauge   Type = "gauge"
)

// Def is one row of the table of series. Names are in base units.
type Def struct {
	Name string
	Type Type
	Help string
}

// Names of the series.
const (
	nodeCPU       = "aifbench_node_cpu_seconds_total"
	nodeLoad1     = "aifbench_node_load1"
	nodeLoad5     = "aifbench_node_load5"
	nodeLoad15    = "aifbench_node_load15"
	nodeMemTotal  = "aifbench_node_memory_total_bytes"
	nodeMemAvail  = "aifbench_node_memory_available_bytes"
	nodeNetRx     = "aifbench_node_network_receive_bytes_total"
	nodeNetTx     = "aifbench_node_network_transmit_bytes_total"
	nodeDiskRead  = "aifbench_node_disk_read_bytes_total"
	nodeDiskWrite = "aifbench_node_disk_written_bytes_total"
	jobCPU        = "aifbench_job_cpu_seconds_total"
	jobMem        = "aifbench_job_memory_used_bytes"
	jobMemLimit   = "aifbench_job_memory_limit_bytes"
	procCPU       = "aifbench_process_cpu_seconds_total"
	procRSS       = "aifbench_process_resident_memory_bytes"
	lustreRead    = "aifbench_lustre_read_bytes_total"
	lustreWrite   = "aifbench_lustre_written_bytes_total"
	lustreOps     = "aifbench_lustre_operations_total"
	gpuUtil       = "aifbench_gpu_util_ratio"
	gpuMemUsed    = "aifbench_gpu_memory_used_bytes"
	gpuMemTotal   = "aifbench_gpu_memory_total_bytes"
	gpuTemp       = "aifbench_gpu_temperature_celsius"
	gpuPower      = "aifbench_gpu_power_watts"
	gpuPresent    = "aifbench_gpu_present"
	probeMissing  = "aifbench_probe_missing"
)

// Defs returns the table of series in the order of the exposition.
func Defs() []Def {
	return []Def{
		{nodeCPU, Counter, "Time the processors of the node spent, by mode, summed over processors."},
		{nodeLoad1, Gauge, "Load average of the node over one minute."},
		{nodeLoad5, Gauge, "Load average of the node over five minutes."},
		{nodeLoad15, Gauge, "Load average of the node over fifteen minutes."},
		{nodeMemTotal, Gauge, "Memory of the node."},
		{nodeMemAvail, Gauge, "Memory of the node that can be given out without swapping."},
		{nodeNetRx, Counter, "Bytes received by a network device of the node."},
		{nodeNetTx, Counter, "Bytes sent by a network device of the node."},
		{nodeDiskRead, Counter, "Bytes read from a whole block device of the node."},
		{nodeDiskWrite, Counter, "Bytes written to a whole block device of the node."},
		{jobCPU, Counter, "Processor time of the control group this run is in."},
		{jobMem, Gauge, "Memory charged to the control group this run is in, page cache included."},
		{jobMemLimit, Gauge, "Memory limit of the control group this run is in; absent when there is none."},
		{procCPU, Counter, "Processor time of a process group of the run, ended members not counted."},
		{procRSS, Gauge, "Resident memory of a process group of the run; shared pages count once a process."},
		{lustreRead, Counter, "Bytes read through a Lustre mount of the node."},
		{lustreWrite, Counter, "Bytes written through a Lustre mount of the node."},
		{lustreOps, Counter, "Operations on a Lustre mount of the node, by kind."},
		{gpuUtil, Gauge, "Share of time a kernel ran on the GPU."},
		{gpuMemUsed, Gauge, "Memory in use on the GPU."},
		{gpuMemTotal, Gauge, "Memory of the GPU."},
		{gpuTemp, Gauge, "Temperature of the GPU."},
		{gpuPower, Gauge, "Power drawn by the GPU."},
		{gpuPresent, Gauge, "1 for each GPU that answered."},
		{probeMissing, Gauge, "1 for each thing that could not be read."},
	}
}

// Label is one label of a series.
type Label struct{ Name, Value string }

// Value is one series at one moment.
type Value struct {
	Name   string
	Labels []Label // in the order they are written
	V      float64
}

// Key is the series as text without the labels that are common to a run:
// name{a="x",b="y"}.
func (v Value) Key() string {
	var b strings.Builder
	b.WriteString(v.Name)
	writeLabels(&b, v.Labels)
	return b.String()
}

// Missing is something that could not be read, and why.
type Missing struct {
	What   string `json:"what"` // cpu, gpu, gpu0 power, lustre ...
	Reason string `json:"reason"`
}

// Sample is everything read at one moment.
type Sample struct {
	T       time.Time
	Values  []Value
	Missing []Missing
}

func (s *Sample) put(name string, v float64, labels ...Label) {
	s.Values = append(s.Values, Value{Name: name, Labels: labels, V: v})
}

func (s *Sample) miss(what string, err error) {
	s.Missing = append(s.Missing, Missing{What: what, Reason: err.Error()})
}

// Get returns the value of a series by its Key.
func (s Sample) Get(key string) (float64, bool) {
	for _, v := range s.Values {
		if v.Key() == key {
			return v.V, true
		}
	}
	return 0, false
}

// normalise sorts the sample into the order of the table and drops what is
// not in it or comes twice, so that equal samples are equal bytes.
func (s *Sample) normalise() {
	order := map[string]int{}
	for i, d := range Defs() {
		order[d.Name] = i
	}
	keys := make(map[string]bool, len(s.Values))
	kept := s.Values[:0]
	for _, v := range s.Values {
		if _, ok := order[v.Name]; !ok {
			panic(fmt.Sprintf("probe: %s is not in the table of series", v.Name))
		}
		if k := v.Key(); !keys[k] {
			keys[k] = true
			kept = append(kept, v)
		}
	}
	s.Values = kept
	sort.SliceStable(s.Values, func(i, j int) bool {
		a, b := s.Values[i], s.Values[j]
		if order[a.Name] != order[b.Name] {
			return order[a.Name] < order[b.Name]
		}
		return slices.CompareFunc(a.Labels, b.Labels, func(x, y Label) int {
			return strings.Compare(x.Value, y.Value)
		}) < 0
	})
}
