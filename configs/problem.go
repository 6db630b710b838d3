package configs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity says whether a problem keeps the configuration from being used.
type Severity uint8

// The severities of problems.
const (
	Warning Severity = iota + 1 // the bridge starts, but look at this
	Error                       // the configuration is refused
)

// String returns the severity's name.
func (s Severity) String() string {
	switch s {
	case Warning:
		return "warning"
	case Error:
		return "error"
	}
	return "unknown"
}

// A Problem is one thing that is wrong with a configuration.
type Problem struct {
	Line     int    // from 1; 0 when the problem has no place in the file
	Path     string // such as agents[0].dial.timeout; empty for the document
	Message  string // what is wrong and what to write instead
	Severity Severity
}

// String returns the problem in one line.
func (p Problem) String() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "line %d: ", p.Line)
	}
	if p.Severity == Warning {
		b.WriteString("warning: ")
	}
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problems are all that is wrong with a configuration, in the order of its
// lines.
type Problems []Problem

// An InvalidError is a configuration that cannot be used.
type InvalidError struct {
	Problems Problems // only those of severity Error
	filled   bool
}

// Filled reports whether nothing but unknown keys was wrong, so that what was
// decoded can be checked as well.
func (e *InvalidError) Filled() bool { return e.filled }

// Error implements error: one problem per line.
func (e *InvalidError) Error() string { return e.Problems.String() }

// Errors returns the problems that keep the configuration from being used.
func (p Problems) Errors() Problems { return p.with(Error) }

// Warnings returns the others.
func (p Problems) Warnings() Problems { return p.with(Warning) }

// String returns one problem per line.
func (p Problems) String() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// err returns the errors among the problems as an error, or nil.
func (p Problems) err() error {
	if e := p.Errors(); len(e) > 0 {
		return &InvalidError{Problems: e}
	}
	return nil
}

func (p Problems) with(s Severity) Problems {
	var out Problems
	for _, problem := range p {
		if problem.Severity == s {
			out = append(out, problem)
		}
	}
	return out
}

// sorted returns the problems by line, without repetitions.
func (p Problems) sorted() Problems {
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Path, b.Path))
	})
	var out Problems
	for _, problem := range p {
		if !slices.Contains(out, problem) {
			out = append(out, problem)
		}
	}
	return out
}

// nearest returns the candidate with the least edit distance to s, or nothing
// when none is near.
func nearest(s string, candidates []string) string {
	best, bestDistance := "", len(s)/3+2
	for _, c := range candidates {
		if d := distance(strings.ToLower(s), c); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the number of insertions, deletions, substitutions and swaps of
// neighbours that make b of a.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	var before, last []int
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(x); i++ {
		before, last, row = last, row, make([]int, len(y)+1)
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(y)]
}
