package constraint

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestJudges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind, text    string
		parses, valid bool
	}{
		{JSON, `{"city":"Cork","age":7,"member":true}`, true, true},
		{JSON, "{ \"member\" : false,\n\"age\": 1.2e1, \"city\": \"Bergen\" }\n", true, true},
		{JSON, `{"city":"Cork","age":7.0,"member":true}`, true, true},
		{JSON, `{"city":"Cork","age":7.5,"member":true}`, true, false},
		{JSON, `{"city":"Cork","age":121,"member":true}`, true, false},
		{JSON, `{"city":"Cork","age":-1,"member":true}`, true, false},
		{JSON, `{"city":"Cork","age":"7","member":true}`, true, false},
		{JSON, `{"city":"Cork","age":null,"member":true}`, true, false},
		{JSON, `{"city":"Rome","age":7,"member":true}`, true, false},
		{JSON, `{"city":"Cork","age":7,"member":null}`, true, false},
		{JSON, `{"city":"Cork","age":7}`, true, false},
		{JSON, `{"city":"Cork","age":7,"member":true,"x":1}`, true, false},
		{JSON, `{"city":"Cork","city":"Cork","age":7,"member":true}`, true, false},
		{JSON, `["city"]`, true, false},
		{JSON, `{"city":"Cork","age":7,"member":tr`, false, false},
		{JSON, "{\"city\":\"Co\nrk\"}", false, false}, // a raw control character
		{JSON, `{"city":"Cork","age":7,"member":true} and more`, false, false},
		{JSON, "", false, false},
		{Regex, "abc-1234", true, true},
		{Regex, "abc-12345", true, false},
		{Regex, "xabc-1234", true, false},
		{Regex, "abc-1234\n", true, false},
		{Regex, "", false, false},
		{Choice, "positive", true, true},
		{Choice, "Positive", true, false},
		{Choice, "positive.", true, false},
		{Grammar, "SELECT a FROM t1", true, true},
		{Grammar, "SELECT a FROM t1 WHERE b = 7", true, true},
		{Grammar, "SELECT a FROM t3", true, false},
		{Grammar, "SELECT a FROM t1 WHERE b = 77", true, false},
	} {
		w, err := For(c.kind)
		if err != nil {
			t.Fatal(err)
		}
		if got := w.Judge(c.text); got.Parses != c.parses || got.Valid != c.valid {
			t.Errorf("%s %q: %+v", c.kind, c.text, got)
		}
	}
}

func TestEveryKindHasAWorkloadAndACanary(t *testing.T) {
	t.Parallel()
	for _, kind := range Kinds {
		for name, make := range map[string]func(string) (Workload, error){"workload": For, "canary": Canary} {
			w, err := make(kind)
			if err != nil {
				t.Fatal(err)
			}
			var field map[string]json.RawMessage
			if err := json.Unmarshal(w.Field, &field); err != nil || len(field) != 1 || field[kind] == nil {
				t.Errorf("%s %s: field %s", name, kind, w.Field)
			}
			if w.Prompt(1) == w.Prompt(2) {
				t.Errorf("%s %s: prompts repeat", name, kind)
			}
			for _, free := range []string{"Hello!", "", "{}", `{"a":1}`, "aif-", strings.Repeat(" ", 20)} {
				if w.Judge(free).Valid {
					t.Errorf("%s %s: %q passes", name, kind, free)
				}
			}
		}
	}
	if _, err := For("xml"); err == nil {
		t.Error("unknown kind")
	}
	c, err := Canary(JSON)
	if err != nil {
		t.Fatal(err)
	}
	// An answer that white space filled to its end is followed as far as it goes.
	for text, want := range map[string]bool{"{ \n\n \"aif\" :\n": true, `{"aif":"k7q"}`: true, `{"aif":"k7r"}`: false, `{"aif":"k7q"}}`: false} {
		if got := c.Judge(text).Valid; got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func FuzzJudge(f *testing.F) {
	for _, s := range []string{`{"city":"Cork","age":7,"member":true}`, `{"city":`, "abc-1234", `{"a":{"b":[1,{"c":2}]},"a":1}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, kind := range Kinds {
			w, err := For(kind)
			if err != nil {
				t.Fatal(err)
			}
			if v := w.Judge(text); v.Valid && !v.Parses {
				t.Fatalf("%s %q: valid and does not parse", kind, text)
			}
		}
	})
}
