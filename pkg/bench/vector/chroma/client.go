// Package chroma owns the HTTP client for Chroma's v2 API: the dozen calls a
// benchmark needs, their request bytes, the parsers of their answers and the
// classes of their failures. It must not know what is measured, which data is
// stored, or whether an answer is right; it only tells what a server said.
package chroma

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Defaults of Chroma's own clients.
const (
	DefaultTenant   = "default_tenant"
	DefaultDatabase = "default_database"
)

// maxAnswerBytes bounds what is read of one answer; a query answer of 1,000
// results is below 100 kB, so more than this is no Chroma.
const maxAnswerBytes = 64 << 20

// SimServer is the Server header of the built-in store; Chroma sends none.
const SimServer = "aifbench-sim"

// Options are the parts of a client that have defaults.
type Options struct {
	Tenant   string // DefaultTenant when empty
	Database string // DefaultDatabase when empty
	// Token is sent as a bearer token when it is not empty. Chroma itself
	// ignores it; a door in front of it may not.
	Token string
	// Connections is how many idle connections are kept; at least the number
	// of calls in flight, else each call pays for a new connection.
	Connections int
	// Transport replaces the client's own transport when it is not nil.
	Transport http.RoundTripper
}

// Client talks to one server, one tenant and one database. It is safe for
// concurrent use.
type Client struct {
	api         string
	collections string
	token       string
	http        *http.Client
	own         *http.Transport
}

// New returns a client for base, such as http://127.0.0.1:8000. It opens no
// connection. Close releases the idle ones.
func New(base string, o Options) (*Client, error) {
	u, err := ParseURL(base)
	if err != nil {
		return nil, err
	}
	c := &Client{api: u + "/api/v2", token: o.Token}
	tenant, database := o.Tenant, o.Database
	if tenant == "" {
		tenant = DefaultTenant
	}
	if database == "" {
		database = DefaultDatabase
	}
	c.collections = c.api + "/tenants/" + url.PathEscape(tenant) + "/databases/" + url.PathEscape(database) + "/collections"
	rt := o.Transport
	if rt == nil {
		// No proxy: load that a proxy of the environment carried elsewhere
		// would measure the proxy.
		c.own = &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			MaxIdleConns:        max(2, o.Connections),
			MaxIdleConnsPerHost: max(2, o.Connections),
			IdleConnTimeout:     90 * time.Second,
			DisableCompression:  true,
			ReadBufferSize:      16 << 10,
			WriteBufferSize:     64 << 10,
		}
		rt = c.own
	}
	c.http = &http.Client{
		Transport:     rt,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// ParseURL checks the address of a server and returns it without a trailing
// slash. An address that carries a user or password is refused without being
// repeated, since it would end in logs and results.
func ParseURL(base string) (string, error) {
	u, err := url.Parse(base)
	if err != nil {
		return "", errors.New("parse url of the server: not a URL; give one like http://127.0.0.1:8000")
	}
	if u.User != nil {
		return "", errors.New("parse url of the server: it carries a user name or password; put the key into a file and give key_file")
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return "", errors.New("parse url of the server: not an http address; give one like http://127.0.0.1:8000")
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("parse url of the server: it carries a query or fragment; give one like http://127.0.0.1:8000")
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// Close drops idle connections; calls in flight are not touched.
func (c *Client) Close() {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}

// Stamp is when one call's answer came, by the monotonic clock.
type Stamp struct {
	Start  time.Time // just before the request was handed to the transport
	Header time.Time // status and headers read; zero when none came
	End    time.Time // last byte read, before any parsing
	Sent   int       // bytes of the request body
	Got    int       // bytes of the answer's body
}

// Buffer holds one worker's request and answer bytes between calls, so that a
// call in a hot loop allocates little. The zero value is ready. It is not safe
// for concurrent use.
type Buffer struct {
	body   []byte
	reader bytes.Reader
}

// call sends one request and reads its whole answer into buf. The returned
// bytes are valid until the next call with the same buffer. Any status but
// want is a *Error.
func (c *Client) call(ctx context.Context, op, method, target string, body []byte, want int, buf *Buffer) ([]byte, http.Header, Stamp, error) {
	st := Stamp{Sent: len(body)}
	var rd io.Reader
	if body != nil {
		buf.reader.Reset(body)
		rd = &buf.reader
	}
	req, err := http.NewRequestWithContext(ctx, method, target, rd)
	if err != nil {
		return nil, nil, st, fmt.Errorf("build request for %s: %w", op, err)
	}
	if body != nil {
		req.ContentLength = int64(len(body))
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	st.Start = time.Now()
	resp, err := c.http.Do(req)
	if err != nil {
		st.End = time.Now()
		return nil, nil, st, transportError(ctx, op, err)
	}
	st.Header = time.Now()
	got, err := readAll(resp.Body, buf.body[:0])
	st.End = time.Now()
	buf.body = got
	st.Got = len(got)
	cerr := resp.Body.Close()
	if err != nil {
		return nil, nil, st, transportError(ctx, op, err)
	}
	if cerr != nil {
		return nil, nil, st, transportError(ctx, op, cerr)
	}
	if resp.StatusCode != want {
		return nil, resp.Header, st, statusError(op, resp.StatusCode, resp.Header.Get("Content-Type"), got)
	}
	return got, resp.Header, st, nil
}

// readAll appends r to dst up to the bound on answers.
func readAll(r io.Reader, dst []byte) ([]byte, error) {
	if cap(dst) == 0 {
		dst = make([]byte, 0, 4096)
	}
	for {
		if len(dst) == cap(dst) {
			dst = append(dst, 0)[:len(dst)]
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
		if len(dst) > maxAnswerBytes {
			return dst, errAnswerTooLong
		}
	}
}

// Identity is what a server says about itself.
type Identity struct {
	Version      string // constant "1.0.0" on every Chroma 1.x
	Sim          bool   // the built-in store of aifbench
	MaxBatchSize int    // advisory
	Base64       bool   // embeddings of add may be base64
}

// Identify asks the server for heartbeat, version and limits. An answer that
// is not Chroma's is an error of class ClassMalformed or of its status.
func (c *Client) Identify(ctx context.Context) (Identity, error) {
	var id Identity
	var buf Buffer
	body, h, _, err := c.call(ctx, "heartbeat", http.MethodGet, c.api+"/heartbeat", nil, http.StatusOK, &buf)
	if err != nil {
		return id, err
	}
	var beat map[string]json.RawMessage
	if err := json.Unmarshal(body, &beat); err != nil {
		return id, malformed("heartbeat", body, err)
	}
	if _, ok := beat["nanosecond heartbeat"]; !ok {
		return id, malformed("heartbeat", body, errors.New("no nanosecond heartbeat"))
	}
	_, marked := beat["aifbench_sim"]
	id.Sim = marked || strings.HasPrefix(h.Get("Server"), SimServer)
	body, _, _, err = c.call(ctx, "version", http.MethodGet, c.api+"/version", nil, http.StatusOK, &buf)
	if err != nil {
		return id, err
	}
	if err := json.Unmarshal(body, &id.Version); err != nil {
		return id, malformed("version", body, err)
	}
	body, _, _, err = c.call(ctx, "pre-flight-checks", http.MethodGet, c.api+"/pre-flight-checks", nil, http.StatusOK, &buf)
	if err != nil {
		return id, err
	}
	var pre struct {
		MaxBatchSize int  `json:"max_batch_size"`
		Base64       bool `json:"supports_base64_encoding"`
	}
	if err := json.Unmarshal(body, &pre); err != nil {
		return id, malformed("pre-flight-checks", body, err)
	}
	id.MaxBatchSize, id.Base64 = pre.MaxBatchSize, pre.Base64
	return id, nil
}

// Ready asks healthcheck; nil means that the server takes records and queries.
func (c *Client) Ready(ctx context.Context) error {
	var buf Buffer
	body, _, _, err := c.call(ctx, "healthcheck", http.MethodGet, c.api+"/healthcheck", nil, http.StatusOK, &buf)
	if err != nil {
		return err
	}
	var h struct {
		Executor *bool `json:"is_executor_ready"`
		Log      *bool `json:"is_log_client_ready"`
	}
	if err := json.Unmarshal(body, &h); err != nil {
		return malformed("healthcheck", body, err)
	}
	if h.Executor == nil || h.Log == nil {
		return malformed("healthcheck", body, errors.New("no readiness fields"))
	}
	if !*h.Executor || !*h.Log {
		return &Error{
			Op: "healthcheck", Class: ClassServer, Status: http.StatusOK,
			Message: "not ready: executor " + strconv.FormatBool(*h.Executor) + ", log " + strconv.FormatBool(*h.Log),
		}
	}
	return nil
}
