// Package site owns what differs between clusters: the profile of a site, the
// built-in profiles, the configuration file that adds to them, and the origin
// of every value. It must not know what a service is or how a job is submitted.
package site

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Scheduler kinds.
const (
	SchedulerSlurm = "slurm"
	SchedulerLocal = "local"
)

// GPU request styles.
const (
	GPUsPerNode = "gpus-per-node"
	GPUGres     = "gres"
	GPUNone     = "none"
)

// Profile is everything that differs between clusters. Every field can be set
// by the configuration file, by AIFBENCH_<FIELD IN CAPITALS>, and where a flag
// of that name exists by the flag.
type Profile struct {
	Scheduler       string   `yaml:"scheduler" doc:"slurm or local"`
	Account         string   `yaml:"account" doc:"--account of every job"`
	Partition       string   `yaml:"partition" doc:"partition of jobs without GPUs"`
	GPUPartition    string   `yaml:"gpu_partition" doc:"partition of jobs with GPUs"`
	QOS             string   `yaml:"qos" doc:"--qos of every job"`
	Constraint      string   `yaml:"constraint" doc:"--constraint of every job"`
	Reservation     string   `yaml:"reservation" doc:"--reservation of every job"`
	GPUStyle        string   `yaml:"gpu_style" doc:"how GPUs are asked for: gpus-per-node, gres or none"`
	GPUType         string   `yaml:"gpu_type" doc:"type of GPU to ask for, empty for any"`
	GPUsPerNode     int      `yaml:"gpus_per_node" doc:"GPUs of a GPU node, 0 where unknown"`
	CPUsPerNode     int      `yaml:"cpus_per_node" doc:"logical CPUs of a node, 0 where unknown"`
	Arch            string   `yaml:"arch" doc:"architecture of the nodes: amd64 or arm64, empty for the login node's"`
	TimeLimit       string   `yaml:"time_limit" doc:"time limit of a job, e.g. 2h"`
	Export          string   `yaml:"export" doc:"--export of every job: NONE, NIL or ALL"`
	Setup           []string `yaml:"setup" doc:"shell lines at the head of every job, e.g. module load"`
	ExtraSbatch     []string `yaml:"extra_sbatch" doc:"further #SBATCH options, one each"`
	Container       string   `yaml:"container" doc:"container command: apptainer or singularity"`
	Binds           []string `yaml:"binds" doc:"bind mounts of every container"`
	ContainerOpt    []string `yaml:"container_options" doc:"further options of container exec"`
	GPUContainerOpt []string `yaml:"gpu_container_options" doc:"further options of container exec beside --nv, where GPUs are asked for, e.g. --nvccli"`
	Scratch         string   `yaml:"scratch" doc:"shared parallel file system for data directories"`
	NodeLocal       string   `yaml:"node_local" doc:"node-local directory for sockets, databases, snapshots"`
	HFHome          string   `yaml:"hf_home" doc:"shared cache of model files"`
	Offline         bool     `yaml:"offline" doc:"nodes reach no network outside"`
	MPILauncher     string   `yaml:"mpi_launcher" doc:"srun or mpirun"`
	LoginHost       string   `yaml:"login_host" doc:"host of the printed ssh -L line, empty for this host"`
	LoginPort       int      `yaml:"login_port" doc:"ssh port of login_host"`
	LoginUser       string   `yaml:"login_user" doc:"user at login_host"`
	SlurmBin        string   `yaml:"slurm_bin" doc:"directory of sbatch and its kin, for short PATHs"`
	SlurmConf       string   `yaml:"slurm_conf" doc:"SLURM_CONF for every Slurm command"`
	PollMin         string   `yaml:"poll_min" doc:"shortest interval between two queue calls"`
}

// Value is one key of a profile with its value and where it came from.
type Value struct {
	Key    string `json:"key"`
	Value  any    `json:"value"`
	Origin string `json:"origin"`
	Doc    string `json:"doc"`
}

// Site is a resolved profile.
type Site struct {
	Name    string
	Profile Profile
	origins map[string]string
}

// ErrUnknown: the named site exists neither in the file nor built in.
var ErrUnknown = errors.New("unknown site")

// Values lists all keys in the order of the profile.
func (s Site) Values() []Value {
	out := make([]Value, 0, reflect.TypeFor[Profile]().NumField())
	v := reflect.ValueOf(s.Profile)
	for i, f := range fields() {
		out = append(out, Value{Key: f.key, Value: v.Field(i).Interface(), Origin: s.Origin(f.key), Doc: f.doc})
	}
	return out
}

// Origin tells where the value of key came from.
func (s Site) Origin(key string) string {
	if o := s.origins[key]; o != "" {
		return o
	}
	return "default"
}

// Set gives key a value from text, as an environment variable or a flag does.
func (s *Site) Set(key, text, origin string) error {
	for i, f := range fields() {
		if f.key != key {
			continue
		}
		if err := setText(reflect.ValueOf(&s.Profile).Elem().Field(i), text); err != nil {
			return fmt.Errorf("set %s from %s: %w", key, origin, err)
		}
		s.setOrigin(key, origin)
		return s.Profile.check(key, origin)
	}
	return fmt.Errorf("set %s from %s: no such key of a site profile", key, origin)
}

func (s *Site) setOrigin(key, origin string) {
	if s.origins == nil {
		s.origins = map[string]string{}
	}
	s.origins[key] = origin
}

// Keys returns the names of all keys of a profile.
func Keys() []string {
	var out []string
	for _, f := range fields() {
		out = append(out, f.key)
	}
	return out
}

type field struct{ key, doc string }

func fields() []field {
	t := reflect.TypeFor[Profile]()
	out := make([]field, t.NumField())
	for i := range t.NumField() {
		out[i] = field{key: t.Field(i).Tag.Get("yaml"), doc: t.Field(i).Tag.Get("doc")}
	}
	return out
}

// check refuses values that only some words are allowed for.
func (p Profile) check(key, origin string) error {
	enum := map[string][]string{
		"scheduler":    {SchedulerSlurm, SchedulerLocal},
		"gpu_style":    {GPUsPerNode, GPUGres, GPUNone},
		"arch":         {"", "amd64", "arm64"},
		"export":       {"", "NONE", "NIL", "ALL"},
		"mpi_launcher": {"srun", "mpirun"},
	}
	v := reflect.ValueOf(p)
	for i, f := range fields() {
		allowed, ok := enum[f.key]
		if !ok || (key != "" && key != f.key) {
			continue
		}
		if got := v.Field(i).String(); !slices.Contains(allowed, got) {
			return fmt.Errorf("%s: %s is %q; use one of %s", origin, f.key, got, strings.TrimPrefix(strings.Join(allowed, ", "), ", "))
		}
	}
	for _, f := range []struct{ key, val string }{{"time_limit", p.TimeLimit}, {"poll_min", p.PollMin}} {
		if (key == "" || key == f.key) && f.val != "" {
			if _, err := ParseDuration(f.val); err != nil {
				return fmt.Errorf("%s: %s: %w", origin, f.key, err)
			}
		}
	}
	return nil
}
