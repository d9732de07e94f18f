package site

// Names of the built-in sites.
const (
	Slurm    = "slurm"
	Local    = "local"
	MeluXina = "meluxina"
)

// builtins are the sites that need no file, in the order they are listed.
func builtins() []struct {
	name string
	p    Profile
} {
	base := Profile{
		Scheduler:   SchedulerSlurm,
		GPUStyle:    GPUsPerNode,
		TimeLimit:   "2h",
		Export:      "NONE",
		Container:   "apptainer",
		NodeLocal:   "/tmp",
		MPILauncher: "srun",
		PollMin:     "5s",
	}
	local := base
	local.Scheduler, local.GPUStyle, local.Export, local.PollMin = SchedulerLocal, GPUNone, "", "200ms"
	// MeluXina: partitions cpu and gpu, QOS default or dev, an account is
	// mandatory and personal; 4 GPUs and 128 logical CPUs a GPU node; modules
	// exist only inside an allocation; ssh listens on 8822.
	mel := base
	mel.Partition, mel.GPUPartition, mel.QOS = "cpu", "gpu", "default"
	mel.GPUsPerNode, mel.CPUsPerNode, mel.Arch = 4, 128, "amd64"
	mel.Setup = []string{"module load env/release/2024.1", "module load Apptainer", "export PMIX_MCA_psec=native"}
	mel.GPUContainerOpt = []string{"--nvccli"} // a node without GPUs has no such command
	mel.LoginHost, mel.LoginPort = "login.lxp.lu", 8822
	mel.PollMin = "10s"
	return []struct {
		name string
		p    Profile
	}{{Slurm, base}, {Local, local}, {MeluXina, mel}}
}
