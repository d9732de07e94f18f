package services

import (
	"regexp"
	"strings"
)

var (
	cpuList      = regexp.MustCompile(`^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$`)
	memory       = regexp.MustCompile(`^[0-9]+[KMGT]?$`)
	promDuration = regexp.MustCompile(`^[0-9]+[hdwy]$`)
	envName      = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	secretly     = regexp.MustCompile(`(?i)(token|secret|passw|api[-_]?key|credential)`)
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
		for _, o := range owned {
			if name == o {
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
