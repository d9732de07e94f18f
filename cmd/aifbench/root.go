package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"aifbench/pkg/services"
)

// verbs is the list of verbs: the only place a new one is named.
func verbs(a *app) []*cobra.Command {
	return []*cobra.Command{
		newStartCmd(a), newStopCmd(a), newCheckCmd(a), newBenchCmd(a), newLogsCmd(a), newSaveCmd(a), newMetricsCmd(a),
		newWaitCmd(a), newListCmd(a), newShowCmd(a), newCleanCmd(a), newConfigCmd(a), newReportCmd(a), newVersionCmd(a), newNodeCmd(a),
	}
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "aifbench",
		Short: "Deploy, load, watch and judge AI-Factory services on a Slurm cluster",
		Long: `aifbench <verb> <service> deploys AI-Factory services as Slurm jobs, loads them,
watches them, and reports numbers that prove themselves.

Services: ` + strings.Join(services.Names(), ", ") + `. One shot, never a prompt: stdout is the result,
stderr the talk, the exit code is to branch on (aifbench help exit-codes).`,
		Example: `  aifbench start vllm --model /models/llama --wait
  aifbench bench vllm --concurrency 1,8,64 --gate 'ttft_p99_ms<=500'
  aifbench check all -o json
  aifbench save vllm run.zip && aifbench stop all`,
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			a.setLog()
			return nil
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = false
	p := root.PersistentFlags()
	a.output = formatTable
	p.VarP(enum{&a.output, formats}, "output", "o", "how the result is written")
	p.BoolVarP(&a.quiet, "quiet", "q", false, "nothing but the result, and errors")
	p.CountVarP(&a.verbose, "verbose", "v", "more talk on stderr")
	p.StringVar(&a.siteName, "site", "", "site profile (default: AIFBENCH_SITE, the configuration file, else found out)")
	p.StringVar(&a.configPath, "config", "", "configuration file (default: AIFBENCH_CONFIG, else ~/.config/aifbench/config.yaml)")
	p.StringVar(&a.home, "home", "", "directory of all runs (default: AIFBENCH_HOME, else ~/.local/share/aifbench)")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) // the flag was just added
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(err.Error(), "`"+cmd.CommandPath()+" --help` lists the flags")
	})
	root.AddCommand(verbs(a)...)
	root.AddCommand(newExitCodesTopic())
	root.SetOut(a.out) // before the completion command, which keeps the stream it finds
	root.SetErr(a.err)
	root.SetHelpCommand(newHelpCmd(root))
	root.InitDefaultCompletionCmd("completion")
	group(root)
	strict(root)
	return root
}

// group makes a command that only holds others refuse missing and unknown
// words, which cobra answers with help and success.
func group(cmd *cobra.Command) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var words []string
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() && c.Name() != "help" {
				words = append(words, c.Name())
			}
		}
		next := "type one of: " + strings.Join(words, ", ")
		if len(args) == 0 {
			return usage(fmt.Sprintf("%s needs a word more", cmd.CommandPath()), next)
		}
		cmd.SuggestionsMinimumDistance = 2
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			next = "did you mean `" + cmd.CommandPath() + " " + near[0] + "`? " + next
		}
		return usage(fmt.Sprintf("unknown word %q for %s", args[0], cmd.CommandPath()), next)
	}
}

// strict walks the tree: every command without a rule of its own for words
// takes none, every group refuses, every argument error is a usage error.
func strict(cmd *cobra.Command) {
	if cmd.HasSubCommands() && !cmd.Runnable() {
		group(cmd)
	}
	if cmd.Args == nil {
		cmd.Args = cobra.NoArgs
	}
	rule := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := rule(cmd, args); err != nil {
			return usage(err.Error(), "`"+cmd.CommandPath()+" --help` shows how it is typed")
		}
		return nil
	}
	for _, c := range cmd.Commands() {
		if c.Long == "" && !c.HasSubCommands() && cmd.HasParent() && cmd.Long != "" {
			c.Long = c.Short + ".\n\n" + cmd.Long // a verb's words hold for each of its services
		}
		strict(c)
	}
}

func newHelpCmd(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [word...]",
		Short: "Help about a verb, or exit-codes",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			target, rest, err := root.Find(args)
			if err != nil || target == nil || len(rest) > 0 {
				return usage(fmt.Sprintf("no help for %q", strings.Join(args, " ")), "`aifbench --help` lists the verbs; `aifbench help exit-codes` the codes")
			}
			return target.Help()
		},
	}
}

// newExitCodesTopic is a help topic: a command that cannot run.
func newExitCodesTopic() *cobra.Command {
	var b strings.Builder
	b.WriteString("Exit codes of every command. When several apply, the first of\n2, 3, 10, 4, 8, 130/143, 9, 7, 6, 0 is returned.\n\n")
	for _, e := range exitTable {
		fmt.Fprintf(&b, "  %3d  %-14s %s\n", e.code, e.name, e.means)
	}
	b.WriteString("\nFrom a verdict: valid 0; client_limited 7 (9 under --strict); truncated, invalid, failed 9; interrupted 130 or 143.\n")
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: b.String()}
}
