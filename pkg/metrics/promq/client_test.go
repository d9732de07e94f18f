package promq_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"

	"aifbench/pkg/metrics/promq"
)

var at = time.Unix(1795502002, 0)

// serve answers every request with one recorded answer.
func serve(t *testing.T, status int, contentType, body string) *promq.Client {
	t.Helper()
	return client(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}), promq.Options{})
}

func client(t *testing.T, h http.Handler, opt promq.Options) *promq.Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	tr := &http.Transport{DisableKeepAlives: true}
	t.Cleanup(tr.CloseIdleConnections)
	opt.Transport = tr
	c, err := promq.New(srv.URL, opt)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type recorded struct {
	version, file, status, contentType, body string
}

func recordings(t *testing.T) []recorded {
	t.Helper()
	var out []recorded
	for _, version := range []string{"2.42", "3.16"} {
		index, err := os.ReadFile(filepath.Join("testdata", version, "index.tsv"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(index)) {
			f := strings.Split(strings.TrimRight(line, "\n"), "\t")
			if f[0] == "file" {
				continue
			}
			body, err := os.ReadFile(filepath.Join("testdata", version, f[0]))
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, recorded{version, f[0], f[3], f[4], string(body)})
		}
	}
	if len(out) < 130 {
		t.Fatalf("only %d recordings", len(out))
	}
	return out
}

// kinds are the errors that the recordings of each name must become.
var kinds = map[string]promq.Kind{
	"err_bad_promql.json": promq.BadData, "err_unknown_function.json": promq.BadData, "err_bad_duration.json": promq.BadData,
	"err_type.json": promq.BadData, "err_empty_query.json": promq.BadData, "err_missing_query.json": promq.BadData,
	"err_bad_time.json": promq.BadData, "err_step_zero.json": promq.BadData, "err_end_before_start.json": promq.BadData,
	"err_too_many_points.json": promq.BadData, "err_empty_matcher.json": promq.BadData,
	"err_many_to_many.json": promq.Execution, "err_dup_labelset.json": promq.Execution, "err_too_many_samples.json": promq.Execution,
	"err_timeout.json": promq.Timeout, "err_admin_disabled.json": promq.Unavailable,
	"err_unknown_path.txt": promq.NotPrometheus, "err_method.txt": promq.NotPrometheus, "err_lifecycle_disabled.txt": promq.Denied,
	// Answers of other endpoints are no answers to a query.
	"snapshot.json": promq.Malformed, "exemplars_empty.json": promq.Malformed, "reload.txt": promq.Malformed,
}

// Every recorded answer of both versions is read as what it is: a value of its
// type whose JSON form holds, or an error of its kind.
func TestRecordings(t *testing.T) {
	t.Parallel()
	types := map[string]int{}
	for _, r := range recordings(t) {
		status := map[string]int{"200": 200, "400": 400, "403": 403, "404": 404, "405": 405, "422": 422, "500": 500, "503": 503}[r.status]
		if status == 0 {
			t.Fatalf("%s/%s: status %q", r.version, r.file, r.status)
		}
		got, err := serve(t, status, r.contentType, r.body).Query(t.Context(), "q", at)
		if want, ok := kinds[r.file]; ok {
			var qe *promq.Error
			if !errors.As(err, &qe) || qe.Kind != want || qe.Status != status || qe.Message == "" {
				t.Errorf("%s/%s: got %v, want kind %s", r.version, r.file, err, want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s/%s: %v", r.version, r.file, err)
			continue
		}
		types[got.Type]++
		// An independent reading of the same bytes: counts of series and doubts.
		var plain struct {
			Data struct {
				ResultType string
				Result     json.RawMessage
			}
			Warnings, Infos []string
		}
		if err := json.Unmarshal([]byte(r.body), &plain); err != nil {
			t.Fatal(err)
		}
		if got.Type != plain.Data.ResultType || len(got.Warnings) != len(plain.Warnings) || len(got.Infos) != len(plain.Infos) {
			t.Errorf("%s/%s: type %s, %d warnings, %d infos", r.version, r.file, got.Type, len(got.Warnings), len(got.Infos))
		}
		doubtful := strings.HasPrefix(r.file, "warn_") || strings.HasPrefix(r.file, "info_")
		if r.version == "3.16" && doubtful && len(got.Warnings)+len(got.Infos) == 0 {
			t.Errorf("%s/%s: the server's doubts are lost", r.version, r.file)
		}
		doc := got.Document()
		data, err := json.Marshal(doc)
		if err != nil || !json.Valid(data) {
			t.Errorf("%s/%s: %v", r.version, r.file, err)
		}
		if got.Type == "vector" || got.Type == "matrix" {
			var list []json.RawMessage
			if err := json.Unmarshal(plain.Data.Result, &list); err != nil {
				t.Fatal(err)
			}
			if len(doc.Series) != len(list) || got.Empty() != (len(list) == 0) {
				t.Errorf("%s/%s: %d series of %d, empty %v", r.version, r.file, len(doc.Series), len(list), got.Empty())
			}
		}
	}
	for _, want := range []string{"vector", "matrix", "scalar", "string"} {
		if types[want] == 0 {
			t.Errorf("no recording was read as a %s", want)
		}
	}
}

func document(t *testing.T, version, file string) promq.Document {
	t.Helper()
	body, err := os.ReadFile(filepath.Join("testdata", version, file))
	if err != nil {
		t.Fatal(err)
	}
	a, err := serve(t, 200, "application/json", string(body)).Query(t.Context(), "q", at)
	if err != nil {
		t.Fatal(err)
	}
	return a.Document()
}

func TestSpecialFloats(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"2.42", "3.16"} {
		got := map[string]string{}
		for _, s := range document(t, version, "query_special_floats.json").Series {
			if s.Labels["node"] == "mel0001" {
				data, err := json.Marshal(s.Points[0].Value)
				if err != nil {
					t.Fatal(err)
				}
				got[s.Labels["kind"]] = string(data)
			}
		}
		want := map[string]string{
			"nan": `"NaN"`, "posinf": `"+Inf"`, "neginf": `"-Inf"`, "tiny": "5e-324", "huge": "1.7976931348623157e+308",
			"label \"quoted\"\\ \n newline é": "1",
		}
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%s: %q is %s, want %s", version, k, got[k], v)
			}
		}
	}
}

func TestNativeHistograms(t *testing.T) {
	t.Parallel()
	d := document(t, "3.16", "hist_native_raw.json")
	p := d.Series[0].Points[0]
	if p.Value != nil || p.Histogram == nil || p.Histogram.Count != 19635 || math.Abs(float64(p.Histogram.Sum)-3174.8995097332745) > 1e-9 {
		t.Fatalf("%+v", p)
	}
	if b := p.Histogram.Buckets[0]; b.Lower != 0.010131559020711013 || b.Upper != 0.011048543456039804 || b.Count != 1 {
		t.Errorf("first bucket %+v", b)
	}
	mixed := document(t, "2.42", "hist_mixed_or.json")
	var numbers, histograms int
	for _, s := range mixed.Series {
		if s.Points[0].Histogram != nil {
			histograms++
		} else {
			numbers++
		}
	}
	if numbers == 0 || histograms == 0 {
		t.Errorf("%d numbers and %d histograms in a mixed vector", numbers, histograms)
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	var seen *http.Request
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		seen = r
		_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"matrix","result":[]}}`)
	})
	c := client(t, h, promq.Options{Timeout: 5 * time.Second, Authorise: func(r *http.Request) error {
		r.Header.Set("Authorization", "Bearer k")
		return nil
	}})
	query := strings.Repeat("up or ", 10000) + "up"
	a, err := c.QueryRange(t.Context(), query, time.Unix(100, 5e8), time.Unix(200, 0), 2500*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if !a.Empty() {
		t.Error("an empty matrix is not empty")
	}
	if seen.URL.Path != "/api/v1/query_range" || seen.Method != "POST" || seen.Header.Get("Authorization") != "Bearer k" {
		t.Errorf("%s %s", seen.Method, seen.URL)
	}
	for k, want := range map[string]string{"start": "100.500", "end": "200.000", "step": "2.5", "timeout": "5s", "query": query} {
		if got := seen.PostForm.Get(k); got != want {
			t.Errorf("%s is %.40q, want %.40q", k, got, want)
		}
	}
	if seen.URL.RawQuery != "" {
		t.Error("the query is in the URL, where logs see it")
	}
}

func TestRefusedBeforeAsking(t *testing.T) {
	t.Parallel()
	c := client(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the server was asked") }), promq.Options{})
	for _, ask := range []func() error{
		func() error {
			_, err := c.QueryRange(t.Context(), "up", at, at.Add(-time.Second), time.Second)
			return err
		},
		func() error { _, err := c.QueryRange(t.Context(), "up", at, at, 0); return err },
		func() error {
			_, err := c.QueryRange(t.Context(), "up", at, at.Add(11000*time.Second), time.Second)
			return err
		},
	} {
		var qe *promq.Error
		if err := ask(); !errors.As(err, &qe) || qe.Kind != promq.BadData {
			t.Errorf("got %v", err)
		}
	}
}

func TestBadAddress(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"", "127.0.0.1:9090", "ftp://x", "http://", "http://user:secret@h:1", "http://h:1\n", "::"} {
		_, err := promq.New(base, promq.Options{Transport: http.DefaultTransport})
		if err == nil {
			t.Errorf("%q was taken", base)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
	if _, err := promq.New("http://h:1", promq.Options{}); err == nil {
		t.Error("a client without a transport")
	}
}

// What may answer in the place of Prometheus.
func TestOtherServers(t *testing.T) {
	t.Parallel()
	const ok = `{"status":"success","data":{"resultType":"vector","result":[]}}`
	for name, c := range map[string]struct {
		status      int
		contentType string
		body        string
		kind        promq.Kind
		retry       bool
	}{
		"html":              {200, "text/html", "<!doctype html><title>Login</title>", promq.NotPrometheus, false},
		"html without type": {200, "", "\n <HTML>", promq.NotPrometheus, false},
		"html error":        {500, "text/html", "<html>oops", promq.NotPrometheus, false},
		"starting":          {503, "text/plain", "Service Unavailable", promq.Unavailable, true},
		"proxy":             {502, "text/html", "<html>Bad Gateway</html>", promq.Unavailable, true},
		"no key":            {401, "text/plain", "Unauthorized", promq.Denied, false},
		"wrong key":         {403, "application/json", `{"error":"no"}`, promq.Denied, false},
		"redirect":          {302, "text/plain", "", promq.NotPrometheus, false},
		"empty":             {200, "application/json", "", promq.Malformed, false},
		"half":              {200, "application/json", ok[:20], promq.Malformed, false},
		"other json":        {200, "application/json", `{"object":"list"}`, promq.Malformed, false},
		"no data":           {200, "application/json", `{"status":"success"}`, promq.Malformed, false},
		"new type":          {200, "application/json", `{"status":"success","data":{"resultType":"tensor","result":[]}}`, promq.Malformed, false},
		"null series":       {200, "application/json", `{"status":"success","data":{"resultType":"vector","result":[null]}}`, promq.Malformed, false},
		"bad number":        {200, "application/json", `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"x"]}]}}`, promq.Malformed, false},
		"error with 200":    {200, "application/json", `{"status":"error","errorType":"timeout","error":"slow"}`, promq.Timeout, true},
		"new error type":    {422, "application/json", `{"status":"error","errorType":"novel","error":"x"}`, promq.Execution, false},
		"internal":          {500, "application/json", `{"status":"error","errorType":"internal","error":"x"}`, promq.Internal, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := serve(t, c.status, c.contentType, c.body).Query(t.Context(), "up", at)
			var qe *promq.Error
			if !errors.As(err, &qe) || qe.Kind != c.kind || qe.Retryable() != c.retry {
				t.Errorf("got %v, want kind %s, retry %v", err, c.kind, c.retry)
			}
		})
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(bytes.Repeat([]byte(" "), 5000))
	})
	_, err := client(t, h, promq.Options{MaxBytes: 1000}).Query(t.Context(), "up", at)
	var qe *promq.Error
	if !errors.As(err, &qe) || qe.Kind != promq.TooLarge {
		t.Errorf("got %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.NotFoundHandler())
	addr := srv.URL
	srv.Close()
	c, err := promq.New(addr, promq.Options{Transport: &http.Transport{}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Query(t.Context(), "up", at)
	var qe *promq.Error
	if !errors.As(err, &qe) || qe.Kind != promq.Unreachable || !qe.Retryable() {
		t.Errorf("got %v", err)
	}
	hang := client(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}), promq.Options{Timeout: 20 * time.Millisecond})
	if _, err = hang.Query(t.Context(), "up", at); !errors.As(err, &qe) || qe.Kind != promq.Unreachable || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a silent server gave %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = hang.Query(ctx, "up", at); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled query gave %v", err)
	}
	broken := client(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, `{"status":`)
	}), promq.Options{})
	if _, err = broken.Query(t.Context(), "up", at); !errors.As(err, &qe) || qe.Kind != promq.Unreachable {
		t.Errorf("a broken answer gave %v", err)
	}
}

func TestRedirectKeepsTheKey(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer other.Close()
	c := client(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	}), promq.Options{})
	if _, err := c.Query(t.Context(), "up", at); err == nil {
		t.Error("a redirect was an answer")
	}
}

func TestEmptyKinds(t *testing.T) {
	t.Parallel()
	for _, v := range []model.Value{model.Vector{}, model.Matrix{}, nil} {
		if !(&promq.Answer{Value: v}).Empty() {
			t.Errorf("%T is not empty", v)
		}
	}
	if (&promq.Answer{Value: &model.Scalar{}}).Empty() {
		t.Error("a scalar is empty")
	}
}

func FuzzAnswer(f *testing.F) {
	for _, v := range []string{"2.42", "3.16"} {
		for _, name := range []string{"query_scalar.json", "query_string.json", "hist_native_avg.json", "range_nan.json", "err_timeout.json", "query_special_floats.json"} {
			body, err := os.ReadFile(filepath.Join("testdata", v, name))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(200, body)
		}
	}
	var current struct {
		status int
		body   []byte
	}
	rt := roundTripper(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: current.status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(current.body)), Request: r}, nil
	})
	c, err := promq.New("http://h", promq.Options{Transport: rt})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		current.status, current.body = 200+int(uint(status)%400), body
		a, err := c.Query(t.Context(), "q", at)
		if err != nil {
			var qe *promq.Error
			if !errors.As(err, &qe) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if _, err := json.Marshal(a.Document()); err != nil {
			t.Fatal(err)
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
