package services_test

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"aifbench/pkg/services"
	"aifbench/pkg/services/site"
	"aifbench/pkg/slurm"
)

var update = flag.Bool("update", false, "rewrite the golden scripts")

// someFile is what every path of a test names: there, and of mode 0600.
type someFile struct {
	fs.FileInfo
	dir bool
}

func (f someFile) Mode() fs.FileMode { return 0o600 }
func (f someFile) IsDir() bool       { return f.dir }

func siteOf(t *testing.T, name string, set map[string]string) site.Site {
	t.Helper()
	s, err := site.Config{}.Resolve(name)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range set {
		if err := s.Set(k, v, "test"); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func contextOf(s site.Site) services.Context {
	const id = "x-20260101-000000-abcd"
	return services.Context{
		RunID: id, RunDir: "/home/u/runs/" + id, Nonce: "0123abcd", Home: "/home/u", Bin: "/home/u/bin/sum/amd64/aifbench", Site: s,
		LookPath: func(name string) (string, error) { return "/usr/bin/" + name, nil },
		Stat: func(path string) (fs.FileInfo, error) {
			return someFile{dir: !strings.Contains(filepath.Base(path), ".")}, nil
		},
		Abs: func(p string) string {
			if filepath.IsAbs(p) {
				return p
			}
			return filepath.Join("/home/u", p)
		},
	}
}

// draft parses args as `start` does and drafts.
func draft(svc services.Service, c services.Context, args ...string) (services.Draft, error) {
	p := svc.New()
	set := pflag.NewFlagSet(svc.Name, pflag.ContinueOnError)
	p.AddFlags(set)
	if err := set.Parse(args); err != nil {
		return services.Draft{}, err
	}
	if err := p.Validate(c); err != nil {
		return services.Draft{}, err
	}
	return svc.Draft(p, c)
}

// must are the arguments without which an engine cannot start.
var engines = map[string]map[string][]string{
	"vllm":     {"sim": {"--engine", "sim"}, "native": {"--model", "org/model"}, "apptainer": {"--model", "org/model", "--image", "v.sif"}},
	"chroma":   {"sim": {"--engine", "sim"}, "native": {}, "apptainer": {"--image", "c.sif"}},
	"lustre":   {"prepare": {}},
	"monitors": {"native": {"--grafana", "/opt/grafana/bin/grafana"}},
}

func job(t *testing.T, c services.Context, d services.Draft) []byte {
	t.Helper()
	h, err := services.SiteHeader(d.Job, c.Site)
	if err != nil {
		t.Fatal(err)
	}
	h.JobName, h.Output, h.Chdir = "aifb-"+c.RunID+"-"+c.Nonce, c.RunDir+"/logs/slurm.out", c.RunDir
	script, err := services.JobScript(h, c.Site, c.Bin, []string{"node", "run", "--run", c.RunDir})
	if err != nil {
		t.Fatal(err)
	}
	return script
}

func TestCatalogue(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, svc := range services.Catalog() {
		if !regexp.MustCompile(`^[a-z][a-z0-9]*$`).MatchString(svc.Name) || seen[svc.Name] || svc.Name == "all" {
			t.Errorf("name %q is not new, or no word", svc.Name)
		}
		seen[svc.Name] = true
		if svc.Summary == "" || engines[svc.Name] == nil {
			t.Errorf("%s: no summary, or its engines are not in this test", svc.Name)
		}
		_, err := draft(svc, contextOf(siteOf(t, "local", nil)))
		if u, ok := errors.AsType[*services.UsageError](err); err != nil && (!ok || !strings.Contains(u.Text, "--")) {
			t.Errorf("%s with defaults: %v; say which flag to type", svc.Name, err)
		}
	}
}

// Every engine on every built-in site: the scripts render, parse, have no late
// directive, and the plan names what was rendered.
func TestEveryEngineOnEverySite(t *testing.T) {
	t.Parallel()
	for _, svc := range services.Catalog() {
		for engine, args := range engines[svc.Name] {
			for _, name := range []string{"slurm", "local", "meluxina"} {
				c := contextOf(siteOf(t, name, nil))
				d, err := draft(svc, c, args...)
				if err != nil {
					t.Errorf("%s %s on %s: %v", svc.Name, engine, name, err)
					continue
				}
				if d.Engine != engine {
					t.Errorf("%s: engine %s, want %s", svc.Name, d.Engine, engine)
				}
				scripts := map[string]bool{}
				for _, s := range d.Scripts {
					scripts[s.Name] = true
					if _, err := services.Render(s); err != nil {
						t.Errorf("%s %s on %s: %v", svc.Name, engine, name, err)
					}
				}
				for _, p := range d.Plan.Procs {
					if !scripts[p.Script] {
						t.Errorf("%s %s: process %s has no script %s", svc.Name, engine, p.Name, p.Script)
					}
				}
				job(t, c, d)
			}
		}
	}
}

// words runs a script under bash with the final command replaced, and returns
// the words that command would have got.
func words(t *testing.T, script []byte, env ...string) ([]string, string) {
	t.Helper()
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	show := filepath.Join(dir, "show")
	for path, text := range map[string]string{key: "k", show: "#!/bin/bash\nprintf '%s\\0' \"$@\" >> \"$OUT\"\nenv -0 > \"$OUT.env\"\n"} {
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "out")
	body := strings.ReplaceAll(string(script), "exec ", show+" ")
	cmd := exec.Command("bash", "-c", body)
	cmd.Env = append([]string{
		"PATH=/usr/bin:/bin", "OUT=" + out, "AIFBENCH_BIN=" + show, "AIFBENCH_KEY_FILE=" + key, "AIFBENCH_SCRATCH=" + dir, "AIFBENCH_PORT=1", "AIFBENCH_RUN_ID=r",
		"AIFBENCH_NODE_RANK=0", "AIFBENCH_NNODES=1", "AIFBENCH_HEAD_ADDR=h", "AIFBENCH_NODE_ADDR=n", "AIFBENCH_PORT_MASTER=2", "AIFBENCH_MONITORS_DIR=" + dir, "AIFBENCH_RUN_DIR=" + dir,
	}, env...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s\n%s", err, errs.String(), body)
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	vars, err := os.ReadFile(out + ".env")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00"), string(vars)
}

// A hostile value in any string parameter is one word of the engine's command,
// or a part of one, or is refused; nothing of it is ever run.
func TestHostileValues(t *testing.T) {
	t.Parallel()
	base := map[string]map[string][]string{
		"vllm":     {"--model": nil, "--served-name": {"--model", "m"}, "--vllm-arg": {"--model", "m"}, "--vllm-command": {"--model", "m"}, "--hf-home": {"--model", "m"}, "--env": {"--model", "m"}, "--bind": {"--model", "m", "--image", "v.sif"}, "--image": {"--model", "m"}, "--nodelist": {"--model", "m"}, "--mem": {"--model", "m"}, "--load-cpus": {"--model", "m"}, "--dtype": {"--model", "m"}},
		"chroma":   {"--persist-dir": nil, "--chroma-command": nil, "--bind": {"--image", "c.sif"}, "--image": nil},
		"lustre":   {"--path": nil, "--pool": nil, "--stripe-size": nil},
		"monitors": {"--prometheus": nil, "--collector": nil, "--grafana": nil, "--grafana-home": {"--grafana", "/g/bin/g"}, "--grafana-image": nil, "--retention": nil},
	}
	hostile := []string{`a'b"c`, "$(touch PWNED)", "`touch PWNED`", "a\nb", "größe 東京", "-rf", "--api", "%j%x", `back\slash`, "a b*?[x]", "; touch PWNED #", "\x1b[31m"}
	c := contextOf(siteOf(t, "slurm", nil))
	survived := 0
	for _, svc := range services.Catalog() {
		if len(base[svc.Name]) == 0 {
			t.Errorf("%s: its flags that take text are not in this test", svc.Name)
		}
		for fl, more := range base[svc.Name] {
			for _, h := range hostile {
				value, want := h, h
				if fl == "--env" {
					value = "X=" + h
				}
				d, err := draft(svc, c, append([]string{fl + "=" + value}, more...)...)
				if err != nil {
					continue // refused
				}
				hdr, err := services.SiteHeader(d.Job, c.Site)
				if err != nil {
					continue
				}
				hdr.Output = "/o"
				if lines, err := hdr.Lines(); err != nil {
					continue // refused as a directive
				} else if fl == "--nodelist" {
					got, err := slurm.Directives([]byte("#!/bin/bash\n" + strings.Join(lines, "\n") + "\n"))
					if err != nil || !strings.Contains(strings.Join(got, "\x00")+"\x00", "--nodelist="+h+"\x00") {
						t.Errorf("%s %q is not one word for sbatch: %q, %v", fl, h, got, err)
					}
					survived++
				}
				for _, s := range d.Scripts {
					script, err := services.Render(s)
					if err != nil {
						continue
					}
					cmdWord := fl == "--vllm-command" || fl == "--chroma-command" || fl == "--prometheus" || fl == "--collector" || fl == "--grafana" || fl == "--grafana-home" || fl == "--nodelist"
					if cmdWord {
						continue // run below would call it; Lint and the quoting of words cover it
					}
					got, env := words(t, script)
					all := strings.Join(got, "\x00") + "\x00" + env
					if (fl == "--model" || fl == "--served-name" || fl == "--vllm-arg" || fl == "--hf-home" || fl == "--env") && !strings.Contains(all, want) {
						t.Errorf("%s %s %q is lost: %q", svc.Name, fl, h, got)
					}
					if _, err := os.Stat("PWNED"); err == nil {
						t.Fatalf("%s %s %q was run", svc.Name, fl, h)
					}
					survived++
				}
			}
		}
	}
	if survived < 60 {
		t.Errorf("only %d values came as far as a script", survived)
	}
}

// Each refusal says what to type instead.
func TestRefusals(t *testing.T) {
	t.Parallel()
	open := func(mode fs.FileMode, err error) func(string) (fs.FileInfo, error) {
		return func(string) (fs.FileInfo, error) { return modeFile{mode: mode}, err }
	}
	for _, tt := range []struct {
		name, service string
		args          []string
		stat          func(string) (fs.FileInfo, error)
		want          string
	}{
		{"no model", "vllm", nil, nil, "--model"},
		{"engine", "vllm", []string{"--engine", "docker"}, nil, "native, apptainer or sim"},
		{"no image", "vllm", []string{"--model", "m", "--engine", "apptainer"}, nil, "--image"},
		{"missing image", "vllm", []string{"--model", "m", "--image", "x.sif"}, open(0, fs.ErrNotExist), "apptainer pull"},
		{"missing model", "vllm", []string{"--model", "/no"}, open(0, fs.ErrNotExist), "give a directory"},
		{"key in argument", "vllm", []string{"--model", "m", "--vllm-arg=--api-key=x"}, nil, "leave it out"},
		{"key with underscore", "vllm", []string{"--model", "m", "--vllm-arg=--api_key"}, nil, "leave it out"},
		{"key abbreviated", "vllm", []string{"--model", "m", "--vllm-arg=--api-k"}, nil, "leave it out"},
		{"port", "vllm", []string{"--model", "m", "--vllm-arg=--port"}, nil, "leave it out"},
		{"token in argument", "vllm", []string{"--model", "m", "--vllm-arg=--hf-token=hf_x"}, nil, "leave it out"},
		{"ssl password", "vllm", []string{"--model", "m", "--vllm-arg=--some-password=x"}, nil, "--hf-token-file"},
		{"token in env", "vllm", []string{"--model", "m", "--env", "HF_TOKEN=x"}, nil, "0600"},
		{"key in env", "vllm", []string{"--model", "m", "--env", "OPENAI_API_KEY=x"}, nil, "0600"},
		{"env form", "vllm", []string{"--model", "m", "--env", "X"}, nil, "NAME=VALUE"},
		{"token file open", "vllm", []string{"--model", "m", "--hf-token-file", "t"}, open(0o644, nil), "chmod 600"},
		{"token file missing", "vllm", []string{"--model", "m", "--hf-token-file", "t"}, open(0, fs.ErrNotExist), "mode 0600"},
		{"nodes of sim", "vllm", []string{"--engine", "sim", "--nodes", "2"}, nil, "leave --nodes out"},
		{"products", "vllm", []string{"--model", "m", "--nodes", "2", "--gpus", "4", "--tensor-parallel", "3"}, nil, "make the products equal"},
		{"multi-node", "vllm", []string{"--model", "m", "--multi-node", "mpi"}, nil, "own or ray"},
		{"bind", "vllm", []string{"--model", "/m,n", "--image", "v.sif"}, nil, "comma"},
		{"mem", "chroma", []string{"--mem", "lots"}, nil, "16G"},
		{"load cpus", "chroma", []string{"--load-cpus", "x"}, nil, "such as"},
		{"stripe", "lustre", []string{"--stripe-size", "4MB"}, nil, "4M"},
		{"path", "lustre", []string{"--path", "x"}, open(0, fs.ErrNotExist), "give a directory"},
		{"retention", "monitors", []string{"--retention", "forever"}, nil, "15d"},
		{"both", "monitors", []string{"--grafana", "/g", "--grafana-image", "g.sif"}, nil, "give one"},
	} {
		c := contextOf(siteOf(t, "slurm", nil))
		if tt.stat != nil {
			c.Stat = tt.stat
		}
		svc, err := services.Lookup(tt.service)
		if err != nil {
			t.Fatal(err)
		}
		_, err = draft(svc, c, tt.args...)
		u, ok := errors.AsType[*services.UsageError](err)
		if !ok || !strings.Contains(u.Text, tt.want) || !strings.ContainsAny(u.Text, ";:") {
			t.Errorf("%s: %v; want a usage error with %q", tt.name, err, tt.want)
		}
	}
	// Words that only look like secrets pass.
	vllm, _ := services.Lookup("vllm")
	if _, err := draft(vllm, contextOf(siteOf(t, "slurm", nil)), "--model", "m", "--vllm-arg=--max-num-batched-tokens=8192", "--vllm-arg=--tokenizer=x", "--env", "TOKENIZERS_PARALLELISM=false"); err != nil {
		t.Error(err)
	}
}

type modeFile struct {
	fs.FileInfo
	mode fs.FileMode
}

func (f modeFile) Mode() fs.FileMode  { return f.mode }
func (f modeFile) IsDir() bool        { return false }
func (f modeFile) ModTime() time.Time { return time.Time{} }

// Golden scripts: what a person reads before trusting a site with it.
func TestGolden(t *testing.T) {
	t.Parallel()
	gpus := []string{"--model", "meta/llama", "--gpus", "4"}
	image := append([]string{"--image", "/p/vllm.sif", "--bind", "/p/data", "--hf-home", "/p/hf", "--hf-token-file", "/home/u/token", "--env", "NCCL_DEBUG=INFO"}, gpus...)
	for _, g := range []struct {
		name, service, site string
		set                 map[string]string
		args                []string
	}{
		{"vllm-sim", "vllm", "slurm", nil, engines["vllm"]["sim"]},
		{"vllm-native", "vllm", "slurm", map[string]string{"gpu_style": "gres", "gpu_type": "a100"}, append([]string{"--vllm-command", "/opt/vllm/bin/vllm"}, gpus...)},
		{"vllm-native-two-nodes", "vllm", "meluxina", map[string]string{"account": "p200001"}, append([]string{"--nodes", "2"}, gpus...)},
		{"vllm-native-two-nodes-ray", "vllm", "meluxina", map[string]string{"account": "p200001"}, append([]string{"--nodes", "2", "--multi-node", "ray"}, gpus...)},
		{"vllm-apptainer", "vllm", "meluxina", map[string]string{"account": "p200001"}, image},
		{"vllm-apptainer-two-nodes", "vllm", "meluxina", map[string]string{"account": "p200001"}, append([]string{"--nodes", "2"}, image...)},
		{"vllm-apptainer-two-nodes-ray", "vllm", "meluxina", map[string]string{"account": "p200001"}, append([]string{"--nodes", "2", "--multi-node", "ray"}, image...)},
		{"chroma-sim", "chroma", "local", nil, engines["chroma"]["sim"]},
		{"chroma-native", "chroma", "slurm", nil, []string{"--persist-dir", "/p/db"}},
		{"chroma-apptainer", "chroma", "meluxina", map[string]string{"account": "p200001"}, engines["chroma"]["apptainer"]},
		{"lustre-prepare", "lustre", "meluxina", map[string]string{"scratch": "/p/scratch"}, []string{"--stripe-count", "-1", "--stripe-size", "4M"}},
		{"monitors-native", "monitors", "slurm", nil, engines["monitors"]["native"]},
	} {
		svc, err := services.Lookup(g.service)
		if err != nil {
			t.Fatal(err)
		}
		c := contextOf(siteOf(t, g.site, g.set))
		d, err := draft(svc, c, g.args...)
		if err != nil {
			t.Errorf("%s: %v", g.name, err)
			continue
		}
		if runtime.GOARCH == "amd64" { // the script names the architecture it was made for
			golden(t, "job-"+g.name+"-"+g.site+".sbatch", job(t, c, d))
		}
		for _, s := range d.Scripts {
			text, err := services.Render(s)
			if err != nil {
				t.Fatal(err)
			}
			name := g.name
			if s.Name != "engine.sh" {
				name = g.service + "-" + strings.TrimSuffix(strings.TrimPrefix(s.Name, "engine-"), ".sh")
			}
			golden(t, name+".sh", text)
		}
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("..", "..", "testdata", "golden", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; go test ./pkg/services -update writes it", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// A GPU list that the node does not set must not come out as "no GPU".
func TestUnsetCUDAStaysUnset(t *testing.T) {
	t.Parallel()
	svc, err := services.Lookup("vllm")
	if err != nil {
		t.Fatal(err)
	}
	d, err := draft(svc, contextOf(siteOf(t, "slurm", nil)), append([]string{"--gpus", "1"}, engines["vllm"]["apptainer"]...)...)
	if err != nil {
		t.Fatal(err)
	}
	script, err := services.Render(d.Scripts[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, env := words(t, script); strings.Contains(env, "CUDA_VISIBLE_DEVICES") {
		t.Errorf("set though the node did not: %q", env)
	}
	got, env := words(t, script, "CUDA_VISIBLE_DEVICES=2,3")
	if !strings.Contains(env, "APPTAINERENV_CUDA_VISIBLE_DEVICES=2,3") {
		t.Errorf("not handed over: %q", env)
	}
	if strings.Contains(strings.Join(got, " "), "VLLM_API_KEY") || !strings.Contains(env, "APPTAINERENV_VLLM_HOST_IP=127.0.0.1") {
		t.Errorf("argv %q", got)
	}
}

func TestGoldenPassShellcheck(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("shellcheck")
	if err != nil {
		t.Skip("SKIP-LAB: shellcheck is not installed")
	}
	files, err := filepath.Glob(filepath.Join("..", "..", "testdata", "golden", "*.s*"))
	if err != nil || len(files) < 20 {
		t.Fatalf("%d scripts, %v", len(files), err)
	}
	if out, err := exec.Command(tool, append([]string{"-s", "bash", "-S", "info"}, files...)...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
