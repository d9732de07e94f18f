package services

import (
	"path/filepath"
	"regexp"
	"strings"
)

var (
	cpuList      = regexp.MustCompile(`^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$`)
	memory       = regexp.MustCompile(`^[0-9]+[KMGT]?$`)
	promDuration = regexp.MustCompile(`^[0-9]+[hdwy]$`)
	envName      = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	// Not every token is a secret: --max-num-batched-tokens, TOKENIZERS_PARALLELISM.
	secretly = regexp.MustCompile(`(?i)(token$|(hf|hub|auth|access|api|bearer)[-_]token|secret|passw|api[-_]?key|access[-_]?key|private[-_]?key|credential)`)
)

// EnvVar is one variable of an engine's environment.
type EnvVar struct{ Name, Value string }

// parseEnv reads NAME=VALUE flags. Names that look like secrets are refused:
// their value would stand in a script, in the job's record and in archives.
func parseEnv(list []string) ([]EnvVar, error) {
	var out []EnvVar
	for _, e := range list {
		name, value, ok := strings.Cut(e, "=")
		if !ok || !envName.MatchString(name) {
			return nil, usagef("--env %q: write NAME=VALUE", e)
		}
		if secretly.MatchString(name) {
			return nil, usagef("--env %s: looks like a secret, and scripts are kept and archived; put it in a 0600 file (--hf-token-file for a Hugging Face token)", name)
		}
		out = append(out, EnvVar{name, value})
	}
	return out, nil
}

// checkArgs refuses extra arguments that we own or that carry secrets.
func checkArgs(flag string, args []string, owned ...string) error {
	for _, a := range args {
		name, _, _ := strings.Cut(a, "=")
		// vLLM takes underscores for dashes, and argparse unambiguous beginnings.
		plain := strings.ReplaceAll(name, "_", "-")
		for _, o := range owned {
			if plain == o || len(plain) > 4 && strings.HasPrefix(plain, "--") && strings.HasPrefix(o, plain) {
				return usagef("%s %s: aifbench sets this itself; leave it out", flag, name)
			}
		}
		if secretly.MatchString(name) && strings.HasPrefix(name, "-") {
			return usagef("%s %s: secrets never go on a command line; each run makes its own key, and a Hugging Face token is read from --hf-token-file", flag, name)
		}
		if strings.ContainsRune(a, 0) {
			return usagef("%s: an argument holds a NUL byte", flag)
		}
	}
	return nil
}

// checkSecretFile refuses a token file that others can read.
func checkSecretFile(c Context, flag, path string) error {
	info, err := c.Stat(path)
	if err != nil {
		return usagef("%s %s: %v; write the token to a file of mode 0600 and give its path", flag, path, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return usagef("%s %s: mode %o lets others read it; run chmod 600 on it", flag, path, info.Mode().Perm())
	}
	return nil
}

func looksLikePath(s string) bool {
	return strings.HasPrefix(s, "/") || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../") || s == "." || s == ".."
}

// envPrefix is how a container command is told of variables under --cleanenv.
func envPrefix(container string) string {
	if filepath.Base(container) == "singularity" {
		return "SINGULARITYENV_"
	}
	return "APPTAINERENV_"
}
