package slurm

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// maxScript is sbatch's limit on a script.
const maxScript = 4 << 20

// LintError is the first thing wrong with a job script.
type LintError struct {
	Line    int    // 1-based; 0 when it concerns the whole script
	Rule    string // syntax, shebang, size, cr, nul, late_directive, unquoted
	Message string
}

// Error implements error.
func (e *LintError) Error() string {
	if e.Line == 0 {
		return "check job script: " + e.Message
	}
	return fmt.Sprintf("check job script: line %d: %s", e.Line, e.Message)
}

// Lint checks what sbatch and bash would only tell on the node, or never: that
// the script is bash, that no #SBATCH line comes too late to count, and that no
// variable is split into words on a command line. The error is a *LintError.
func Lint(script []byte) error {
	switch {
	case len(script) >= maxScript:
		return &LintError{Rule: "size", Message: fmt.Sprintf("%d bytes, and sbatch takes less than %d", len(script), maxScript)}
	case !bytes.HasPrefix(script, []byte("#!")):
		return &LintError{Line: 1, Rule: "shebang", Message: "does not begin with #!"}
	}
	if i := bytes.IndexByte(script, '\r'); i >= 0 {
		return &LintError{Line: lineAt(script, i), Rule: "cr", Message: "has a carriage return"}
	}
	if i := bytes.IndexByte(script, 0); i >= 0 {
		return &LintError{Line: lineAt(script, i), Rule: "nul", Message: "has a NUL byte"}
	}
	file, err := syntax.NewParser(syntax.KeepComments(true), syntax.Variant(syntax.LangBash)).Parse(bytes.NewReader(script), "")
	if err != nil {
		if pe, ok := errors.AsType[syntax.ParseError](err); ok {
			return &LintError{Line: int(pe.Pos.Line()), Rule: "syntax", Message: pe.Text}
		}
		return &LintError{Rule: "syntax", Message: err.Error()}
	}
	first := 0
	if len(file.Stmts) > 0 {
		first = int(file.Stmts[0].Pos().Line())
	}
	if err := lintDirectives(script, first); err != nil {
		return err
	}
	return lintWords(file, first)
}

func lineAt(script []byte, at int) int { return bytes.Count(script[:at], []byte("\n")) + 1 }

// lintDirectives checks the lines before the first command, which are all that
// sbatch reads, for directives it would not see.
func lintDirectives(script []byte, first int) error {
	n := 0
	for line := range strings.Lines(string(script)) {
		n++
		if first > 0 && n >= first {
			return nil
		}
		if !strings.HasPrefix(line, "#SBATCH") && strings.HasPrefix(strings.TrimSpace(line), "#SBATCH") {
			return &LintError{Line: n, Rule: "late_directive", Message: "an indented #SBATCH is ignored by sbatch"}
		}
	}
	return nil
}

// lintWords walks the commands; first is the line of the first one.
func lintWords(file *syntax.File, first int) error {
	var found *LintError
	report := func(pos syntax.Pos, rule, message string) {
		if line := int(pos.Line()); found == nil || line < found.Line {
			found = &LintError{Line: line, Rule: rule, Message: message}
		}
	}
	syntax.Walk(file, func(node syntax.Node) bool {
		switch x := node.(type) {
		case *syntax.Comment:
			if strings.HasPrefix(x.Text, "SBATCH") && first > 0 && int(x.Hash.Line()) >= first {
				report(x.Hash, "late_directive", "#SBATCH after the first command is ignored by sbatch")
			}
		case *syntax.CallExpr:
			for _, w := range x.Args {
				if part := splits(w); part != nil {
					report(part.Pos(), "unquoted", "an expansion outside double quotes is split into words")
				}
			}
		}
		return true
	})
	if found != nil {
		return found
	}
	return nil
}

// splits returns the first part of a word that bash would split or glob.
// Numbers like $# and $? cannot be split in a sane IFS.
func splits(w *syntax.Word) syntax.Node {
	for _, part := range w.Parts {
		switch p := part.(type) {
		case *syntax.ParamExp:
			numeric := p.Length || p.Param != nil && strings.Contains("#?$!", p.Param.Value) && len(p.Param.Value) == 1
			if !numeric {
				return p
			}
		case *syntax.CmdSubst:
			return p
		}
	}
	return nil
}
