// Package promq owns questions to a Prometheus server: the HTTP query API of
// versions 2.42 to 3.x, its errors and doubts, and the named summaries of each
// service over a window. It must not know how a server is found, how the
// caller authenticates, or how the rows are printed.
package promq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
)

// Options are what a client needs from outside.
type Options struct {
	// Transport sends requests; required, the caller owns connections.
	Transport http.RoundTripper
	// Authorise puts credentials on a request; nil sends none.
	Authorise func(*http.Request) error
	// MaxBytes caps an answer; 0 means 32 MiB.
	MaxBytes int64
	// Timeout bounds one query, on both sides; 0 means 30 s.
	Timeout time.Duration
}

// Client asks one Prometheus server.
type Client struct {
	base *url.URL
	opt  Options
	http *http.Client
}

// New returns a client of the server at base, for example
// http://127.0.0.1:9090 or a door's address with a path. Redirects are not
// followed: they would carry the key elsewhere.
func New(base string, opt Options) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("prometheus address: %w", stripURL(err))
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
		return nil, errors.New("prometheus address: need http://HOST:PORT without user and password")
	}
	if opt.Transport == nil {
		return nil, errors.New("prometheus client: no transport")
	}
	if opt.MaxBytes <= 0 {
		opt.MaxBytes = 32 << 20
	}
	if opt.Timeout <= 0 {
		opt.Timeout = 30 * time.Second
	}
	return &Client{base: u, opt: opt, http: &http.Client{
		Transport:     opt.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Query evaluates one expression at an instant.
func (c *Client) Query(ctx context.Context, query string, at time.Time) (*Answer, error) {
	return c.ask(ctx, "/api/v1/query", query, url.Values{"time": {stamp(at)}})
}

// QueryRange evaluates one expression at every step from start to end. At most
// 11,000 steps are asked for; that is the server's own limit.
func (c *Client) QueryRange(ctx context.Context, query string, start, end time.Time, step time.Duration) (*Answer, error) {
	switch {
	case step <= 0:
		return nil, &Error{Kind: BadData, Query: query, Message: "step must be positive"}
	case end.Before(start):
		return nil, &Error{Kind: BadData, Query: query, Message: "end is before start"}
	case end.Sub(start)/step >= 11000:
		return nil, &Error{Kind: BadData, Query: query, Message: fmt.Sprintf("more than 11000 steps; use a step of at least %s", (end.Sub(start)/10999 + time.Second).Truncate(time.Second))}
	}
	return c.ask(ctx, "/api/v1/query_range", query, url.Values{
		"start": {stamp(start)}, "end": {stamp(end)},
		"step": {strconv.FormatFloat(step.Seconds(), 'f', -1, 64)},
	})
}

func (c *Client) ask(ctx context.Context, path, query string, form url.Values) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opt.Timeout)
	defer cancel()
	form.Set("query", query)
	form.Set("timeout", strconv.FormatFloat(c.opt.Timeout.Seconds(), 'f', -1, 64)+"s")
	// POST: a long query does not fit in a URL, and URLs end in access logs.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.JoinPath(path).String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fmt.Errorf("query prometheus: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if c.opt.Authorise != nil {
		if err := c.opt.Authorise(req); err != nil {
			return nil, fmt.Errorf("query prometheus: %w", err)
		}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, &Error{Kind: Unreachable, Query: query, Message: transportMessage(ctx, err), Err: stripURL(err)}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, c.opt.MaxBytes+1))
	if err != nil {
		return nil, &Error{Kind: Unreachable, Query: query, Status: resp.StatusCode, Message: "answer broke off: " + transportMessage(ctx, err), Err: stripURL(err)}
	}
	if int64(len(body)) > c.opt.MaxBytes {
		return nil, &Error{Kind: TooLarge, Query: query, Status: resp.StatusCode, Message: fmt.Sprintf("answer is larger than %d bytes; ask for less", c.opt.MaxBytes)}
	}
	return decode(query, resp.StatusCode, resp.Header.Get("Content-Type"), body)
}

// envelope is the JSON every API answer is wrapped in. Unknown fields are let
// through: newer servers add some.
type envelope struct {
	Status    string          `json:"status"`
	Data      json.RawMessage `json:"data"`
	ErrorType string          `json:"errorType"`
	Error     string          `json:"error"`
	Warnings  []string        `json:"warnings"`
	Infos     []string        `json:"infos"`
}

func decode(query string, status int, contentType string, body []byte) (*Answer, error) {
	fail := func(k Kind, msg string) (*Answer, error) {
		return nil, &Error{Kind: k, Query: query, Status: status, Message: msg}
	}
	media, _, _ := mime.ParseMediaType(contentType) // a broken header only means: not JSON
	var env envelope
	if err := json.Unmarshal(body, &env); err != nil || env.Status == "" {
		switch {
		case status == http.StatusUnauthorized || status == http.StatusForbidden:
			return fail(Denied, "the server refused the key: "+excerpt(body))
		case status == http.StatusServiceUnavailable || status == http.StatusBadGateway || status == http.StatusGatewayTimeout:
			return fail(Unavailable, "the server is not ready: "+excerpt(body))
		case media == "text/html" || looksLikeHTML(body):
			return fail(NotPrometheus, "HTML instead of JSON; is this the address of a Prometheus server? "+excerpt(body))
		case status >= 300 && status < 400:
			return fail(NotPrometheus, "the server redirects; give the address it redirects to")
		case status == http.StatusNotFound || status == http.StatusMethodNotAllowed:
			return fail(NotPrometheus, "no query API at this address: "+excerpt(body))
		case err != nil && status < 300:
			return fail(Malformed, "answer is not JSON: "+err.Error())
		}
		return fail(Malformed, "answer is not a Prometheus answer: "+excerpt(body))
	}
	if env.Status != "success" || status >= 300 {
		return nil, &Error{Kind: kindOf(env.ErrorType, status), Query: query, Status: status, Message: env.Error, Warnings: env.Warnings}
	}
	a := &Answer{Query: query, Warnings: env.Warnings, Infos: env.Infos}
	if err := a.decodeData(env.Data); err != nil {
		return fail(Malformed, "answer cannot be read: "+err.Error())
	}
	return a, nil
}

func (a *Answer) decodeData(raw json.RawMessage) error {
	var data struct {
		ResultType string          `json:"resultType"`
		Result     json.RawMessage `json:"result"`
	}
	if err := json.Unmarshal(raw, &data); err != nil {
		return err
	}
	a.Type = data.ResultType
	switch data.ResultType {
	case "vector":
		var v model.Vector
		if err := json.Unmarshal(data.Result, &v); err != nil {
			return err
		}
		for _, s := range v {
			if s == nil {
				return errors.New("vector holds null")
			}
		}
		a.Value = v
	case "matrix":
		var m model.Matrix
		if err := json.Unmarshal(data.Result, &m); err != nil {
			return err
		}
		for _, s := range m {
			if s == nil {
				return errors.New("matrix holds null")
			}
		}
		a.Value = m
	case "scalar":
		var s model.Scalar
		if err := json.Unmarshal(data.Result, &s); err != nil {
			return err
		}
		a.Value = &s
	case "string":
		var s model.String
		if err := json.Unmarshal(data.Result, &s); err != nil {
			return err
		}
		a.Value = &s
	default:
		return fmt.Errorf("unknown result type %q", data.ResultType)
	}
	return nil
}

func stamp(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }
