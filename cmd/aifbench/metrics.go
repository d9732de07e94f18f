package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"aifbench/pkg/metrics/promq"
	"aifbench/pkg/metrics/table"
	"aifbench/pkg/services"
	runs "aifbench/pkg/services/run"
	"aifbench/pkg/services/site"
)

type metricsOptions struct {
	service  string
	run      string
	query    string
	last     string
	start    string
	end      string
	step     time.Duration
	endpoint string
}

func newMetricsCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "metrics SERVICE",
		Short: "What Prometheus saw of a service over a window",
		Long: `Summaries over a window, by default that of the service's last bench, else the
last five minutes. --query asks your own PromQL over the same window. Where no
Prometheus runs, node and GPU figures come from the run's own telemetry, said so.

Exit status: 0; 2 bad window or query; 3 no such run; 8 Prometheus does not answer.`,
	}
	for _, svc := range services.Catalog() {
		o := &metricsOptions{service: svc.Name}
		sub := &cobra.Command{
			Use:     svc.Name,
			Short:   "Metrics of " + svc.Name,
			Example: "  aifbench metrics " + svc.Name + " --last 10m\n  aifbench metrics " + svc.Name + " --query 'up' --step 15s",
			RunE:    func(cmd *cobra.Command, _ []string) error { return runMetrics(cmd.Context(), a, o) },
		}
		f := sub.Flags()
		f.StringVar(&o.run, "run", "", "this run of the service")
		f.StringVar(&o.query, "query", "", "PromQL of your own; $run and $window are filled in")
		f.StringVar(&o.last, "last", "", "window: the last 10m, 2h, ...")
		f.StringVar(&o.start, "start", "", "window start, RFC 3339")
		f.StringVar(&o.end, "end", "", "window end, RFC 3339")
		f.DurationVar(&o.step, "step", 0, "with --query: a value every step over the window instead of one at its end")
		f.StringVar(&o.endpoint, "prometheus-url", "", "Prometheus to ask (default: that of the live monitors)")
		cmd.AddCommand(sub)
	}
	return cmd
}

func runMetrics(ctx context.Context, a *app, o *metricsOptions) error {
	// Wrong words are wrong whether or not there is a run.
	if _, _, err := o.window(a, runs.Store{}, nil); err != nil {
		return err
	}
	if o.endpoint != "" {
		if _, err := a.prometheus(ctx, runs.Store{}, siteOf{}, o); err != nil {
			return err
		}
	}
	st, err := a.store()
	if err != nil {
		return err
	}
	s, err := a.site(nil)
	if err != nil {
		return err
	}
	dir, err := o.subject(st)
	if err != nil {
		return err
	}
	start, end, err := o.window(a, st, dir)
	if err != nil {
		return err
	}
	client, err := a.prometheus(ctx, st, s, o)
	if f, ok := errors.AsType[*failure](err); ok && f.code == exitNotFound && o.query == "" && dir != nil {
		a.warn("no live monitors: node and GPU figures come from the run's own telemetry, service figures are missing")
		return a.metricsFromTelemetry(*dir, start, end)
	}
	if err != nil {
		return err
	}
	if o.query != "" {
		return a.ownQuery(ctx, client, o, dir, start, end)
	}
	sel := promq.Selector{}
	if dir != nil && o.service != "monitors" {
		sel["run"] = dir.ID()
		if own := lastOwnJob(st, *dir); own != "" && o.run == "" {
			sel["run"] = own // the nodes that did the work, not those that prepared it
		}
	}
	sum, err := promq.Summarise(ctx, client, o.service, sel, start, end)
	if err != nil {
		return promFailure(err)
	}
	return a.emit(sum, func() *table.Table { return summaryTable(sum) })
}

// subject is the run whose series are asked for: the newest of the service.
func (o *metricsOptions) subject(st runs.Store) (*runs.Dir, error) {
	ref := o.service
	if o.run != "" {
		ref = o.run
	}
	d, err := st.Resolve(ref)
	switch {
	case err == nil && d.Intent.Service != o.service:
		return nil, usage(fmt.Sprintf("run %s is of %s", d.ID(), d.Intent.Service), "aifbench metrics "+d.Intent.Service)
	case err == nil:
		return &d, nil
	case errors.Is(err, runs.ErrNotFound) && o.run == "" && o.endpoint != "":
		return nil, nil
	}
	return nil, err
}

// window resolves the interval: given, else the last bench's, else five minutes.
func (o *metricsOptions) window(a *app, st runs.Store, dir *runs.Dir) (time.Time, time.Time, error) {
	now := a.now()
	if o.last != "" {
		d, err := site.ParseDuration(o.last)
		if err != nil || d < time.Second || o.start != "" || o.end != "" {
			return now, now, usage("--last "+o.last, "use a time of a second or more, without --start and --end")
		}
		return now.Add(-d), now, nil
	}
	if o.start != "" || o.end != "" {
		start, err1 := time.Parse(time.RFC3339, o.start)
		end, err2 := now, error(nil)
		if o.end != "" {
			end, err2 = time.Parse(time.RFC3339, o.end)
		}
		if err1 != nil || err2 != nil || end.Sub(start) < time.Second {
			return now, now, usage("--start and --end do not make a window", "give RFC 3339 times at least a second apart, e.g. --start 2026-01-31T10:00:00Z")
		}
		return start, end, nil
	}
	if dir != nil {
		if start, end, ok := lastBench(st, *dir); ok {
			return start, end, nil
		}
	}
	return now.Add(-5 * time.Minute), now, nil
}

// lastBench is the window of the newest bench that loaded the run.
func lastBench(st runs.Store, dir runs.Dir) (time.Time, time.Time, bool) {
	all, _, err := st.List()
	if err != nil {
		return time.Time{}, time.Time{}, false
	}
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Intent.Target != dir.ID() {
			continue
		}
		if res, err := readResult(all[i]); err == nil && res.Window.DurationS >= 1 {
			return res.Window.Start, res.Window.End, true
		}
	}
	return time.Time{}, time.Time{}, false
}

// lastOwnJob is the newest bench of the run that had a job of its own and
// whose service keeps none: its nodes are the ones to ask about.
func lastOwnJob(st runs.Store, dir runs.Dir) string {
	if svc, err := services.Lookup(dir.Intent.Service); err != nil || !svc.KeepsReady {
		return ""
	}
	all, _, err := st.List()
	if err != nil {
		return ""
	}
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Intent.Target == dir.ID() && all[i].Intent.JobName != "" {
			return all[i].ID()
		}
	}
	return ""
}

// prometheus makes a client of the live monitors: through their door, or where
// the door is out of reach through a request to their supervisor.
func (a *app) prometheus(ctx context.Context, st runs.Store, s siteOf, o *metricsOptions) (*promq.Client, error) {
	if o.endpoint != "" {
		c, err := promq.New(o.endpoint, promq.Options{Transport: a.transport})
		if err != nil {
			return nil, usage(err.Error(), "e.g. --prometheus-url http://127.0.0.1:9090")
		}
		return c, nil
	}
	mon, err := a.liveRun(ctx, st, s, "monitors", "")
	if err != nil {
		return nil, err
	}
	ep, err := mon.ReadEndpoint()
	if err != nil {
		return nil, err
	}
	key, err := mon.Key()
	if err != nil {
		return nil, err
	}
	return promq.New(ep.DoorURL+"/engine/prometheus", promq.Options{
		Transport: fallback{a: a, mon: mon, door: a.transport},
		Authorise: func(r *http.Request) error {
			r.Header.Set("Authorization", "Bearer "+key)
			return nil
		},
	})
}

// fallback sends a request through the door and, when nothing answers there,
// through the request files of the monitors run.
type fallback struct {
	a    *app
	mon  runs.Dir
	door http.RoundTripper
}

func (f fallback) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
	}
	resp, doorErr := f.door.RoundTrip(r)
	if doorErr == nil {
		return resp, nil
	}
	id := "http-" + runs.NewNonce()
	path := strings.TrimPrefix(r.URL.RequestURI(), "/engine/prometheus")
	if err := f.mon.Ask(runs.Request{ID: id, Kind: runs.RequestHTTP, Created: f.a.now().UTC(), Engine: "prometheus", Method: r.Method, Path: path, Body: string(body)}); err != nil {
		return nil, errors.Join(doorErr, err)
	}
	for range 60 {
		ans, err := f.mon.Answer(id)
		if err == nil && ans.State != runs.AnswerAccepted {
			if ans.State == runs.AnswerFailed {
				return nil, fmt.Errorf("ask the monitors' supervisor: %s", ans.Message)
			}
			return &http.Response{
				StatusCode: ans.Status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
				Header: http.Header{"Content-Type": {ans.ContentType}}, Body: io.NopCloser(strings.NewReader(string(ans.Body))), ContentLength: int64(len(ans.Body)),
			}, nil
		}
		if err := sleep(r.Context(), 500*time.Millisecond); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("the door does not answer (%w) and the monitors' supervisor took no request", doorErr)
}

// promFailure gives a refused or unanswered query its exit code.
func promFailure(err error) error {
	e, ok := errors.AsType[*promq.Error](err)
	if !ok {
		return err
	}
	f := &failure{code: exitInfra, layer: "network", retryable: e.Retryable(), message: e.Error(), advice: "`aifbench check monitors` shows whether they are ready"}
	switch e.Kind {
	case promq.BadData:
		f.code, f.layer, f.advice = exitUsage, "cli", "correct the query or the window"
	case promq.Execution:
		f.code, f.layer, f.advice = exitUsage, "cli", "the server could not evaluate the query; ask for less or correct it"
	}
	return f
}

func (a *app) ownQuery(ctx context.Context, c *promq.Client, o *metricsOptions, dir *runs.Dir, start, end time.Time) error {
	run := ""
	if dir != nil {
		run = dir.ID()
	}
	q := strings.NewReplacer("$run", run, "$window", fmt.Sprintf("%dms", end.Sub(start).Milliseconds())).Replace(o.query)
	var ans *promq.Answer
	var err error
	if o.step > 0 {
		ans, err = c.QueryRange(ctx, q, start, end, o.step)
	} else {
		ans, err = c.Query(ctx, q, end)
	}
	if err != nil {
		return promFailure(err)
	}
	doc := ans.Document()
	if ans.Empty() {
		a.warn("the query matched no series")
	}
	return a.emit(doc, func() *table.Table {
		t := table.New("series", "time", "value")
		t.Columns[2].Right = true
		for _, s := range doc.Series {
			for _, p := range s.Points {
				value := any(nil)
				switch {
				case p.Value != nil:
					value = table.Value(float64(*p.Value))
				case p.Histogram != nil:
					value = fmt.Sprintf("count %s, sum %s", p.Histogram.Count, p.Histogram.Sum)
				}
				t.Row(seriesName(s.Labels), time.UnixMilli(int64(p.TimeS*1000)), value)
			}
		}
		if doc.Text != "" {
			t.Row("", nil, doc.Text)
		}
		for _, w := range append(append([]string{}, doc.Warnings...), doc.Infos...) {
			t.Note("Prometheus: %s", w)
		}
		return t
	})
}

func seriesName(labels map[string]string) string {
	var b strings.Builder
	b.WriteString(labels["__name__"])
	b.WriteByte('{')
	for i, k := range sortedKeys(labels) {
		if k == "__name__" {
			continue
		}
		if i > 0 && b.Len() > 1 && b.String()[b.Len()-1] != '{' {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%s=%q", k, labels[k])
	}
	return b.String() + "}"
}

func summaryTable(sum *promq.Summary) *table.Table {
	t := table.New("figure", "labels", "value", "unit", "bucket", "how")
	t.Columns[2].Right = true
	for _, r := range sum.Rows {
		how := r.How
		if r.Value == nil {
			how = "null: " + r.Reason
		}
		bucket := ""
		if r.Lower != nil {
			bucket = table.Number(*r.Lower) + " .. "
			if r.Upper != nil {
				bucket += table.Number(*r.Upper)
			} else {
				bucket += "+Inf"
			}
		}
		value := any(r.Value)
		if r.Value != nil && r.Unit == "bytes" {
			value = table.ByteCount(*r.Value)
		}
		labels := ""
		if len(r.Labels) > 0 {
			labels = seriesName(r.Labels)
		}
		t.Row(r.Name, dash(labels), value, r.Unit, dash(bucket), how)
		for _, w := range r.Warnings {
			t.Note("%s: %s", r.Name, w)
		}
	}
	t.Note("window %s to %s (%.0f s)", sum.Start.Format(time.RFC3339), sum.End.Format(time.RFC3339), sum.DurationS)
	return t
}
