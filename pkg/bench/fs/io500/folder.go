package io500

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Names of the files of a run.
const (
	SummaryName = "result_summary.txt"
	ResultName  = "result.txt"
	ConfigName  = "config.ini"
)

// maxFile bounds how much of a small file is read into memory.
const maxFile = 4 << 20

// Folder is everything a run left. Parts that are absent are nil.
type Folder struct {
	Summary *Summary
	Result  *ResultFile
	Config  Values
	Sides   []Side
	// Warnings are the oddities of all files.
	Warnings []Warning
}

// Load reads the files of one run. Absent files are no error; a file that is
// there and cannot be read is.
func Load(dir fs.FS) (Folder, error) {
	var f Folder
	text, err := read(dir, SummaryName)
	if err != nil {
		return f, err
	}
	if text != nil {
		s := ParseSummary(SummaryName, text)
		f.Summary, f.Warnings = &s, append(f.Warnings, s.Warnings...)
	}
	if text, err = read(dir, ResultName); err != nil {
		return f, err
	}
	if text != nil {
		r := ParseResult(ResultName, text)
		f.Result, f.Warnings = &r, append(f.Warnings, r.Warnings...)
	}
	if text, err = read(dir, ConfigName); err != nil {
		return f, err
	}
	if text != nil {
		v, w := ParseINI(ConfigName, text)
		f.Config, f.Warnings = v, append(f.Warnings, w...)
	}
	for _, name := range append(Scored(), "ior-rnd4K-easy-read") {
		file, err := open(dir, name+".txt")
		if err != nil {
			return f, err
		}
		if file == nil {
			continue
		}
		s, err := ReadSide(name+".txt", file)
		if err = errors.Join(err, file.Close()); err != nil {
			return f, fmt.Errorf("read results: %w", err)
		}
		f.Sides = append(f.Sides, s)
	}
	return f, nil
}

// open opens a plain file, nil when it is absent. Anything else, such as a fifo
// that would never answer, is an error before it is opened.
func open(dir fs.FS, name string) (fs.File, error) {
	info, err := fs.Stat(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read results: %s is not a plain file", name)
	}
	file, err := dir.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	return file, nil
}

func read(dir fs.FS, name string) ([]byte, error) {
	file, err := open(dir, name)
	if err != nil || file == nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("read results: %s has more than %d bytes", name, maxFile)
	}
	if text == nil {
		text = []byte{}
	}
	return text, nil
}
