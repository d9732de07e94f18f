package run

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"time"
)

var lower32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewID makes a run id: word, UTC stamp, four random base32 letters. The word
// is a service for `start` and `<service>-bench` for `bench`.
func NewID(word string, now time.Time) string {
	var b [3]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails
	return fmt.Sprintf("%s-%s-%s", word, now.UTC().Format("20060102-150405"), lower32.EncodeToString(b[:])[:4])
}

// NewNonce makes the eight hexadecimal digits that identify a job by its name.
func NewNonce() string {
	var b [4]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// NewKey makes the secret of a run: 32 random bytes in hexadecimal.
func NewKey() string {
	var b [32]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// JobName is the name a run's job carries: the identity by which it is looked
// up after any doubtful answer, since job ids are reused.
func JobName(id, nonce string) string { return "aifb-" + id + "-" + nonce }

// HashParams is a short digest of everything that makes two starts the same:
// service, engine, site and the values of the parameters, not their origin.
func HashParams(service, engine, site string, params map[string]Param) string {
	keys := make([]string, 0, len(params))
	for k := range params {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var b strings.Builder
	fmt.Fprintf(&b, "%q %q %q", service, engine, site)
	for _, k := range keys {
		v, err := json.Marshal(params[k].Value)
		if err != nil {
			v = []byte(fmt.Sprintf("%#v", params[k].Value))
		}
		fmt.Fprintf(&b, " %q=%s", k, v)
	}
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:8])
}
