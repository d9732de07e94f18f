package record

import (
	"errors"
	"time"
)

// flushEvery bounds how much a kill can lose.
const flushEvery = time.Second

// Queue lets many workers hand rows to one writer. Rows are written by a
// goroutine of its own, at most a second after they were put.
type Queue struct {
	rows chan Row
	done chan error
}

// NewQueue starts the goroutine that owns w. depth is how many rows may wait
// for the disk before Put blocks; it never drops.
func NewQueue(w *Writer, depth int) *Queue {
	q := &Queue{rows: make(chan Row, max(depth, 1)), done: make(chan error, 1)}
	go func() { q.done <- q.drain(w) }()
	return q
}

// Put hands over a row; the caller must not touch it afterwards. It must not
// be called after Close.
func (q *Queue) Put(row Row) { q.rows <- row }

// Close waits until every row is written, closes the writer and returns the
// first error met.
func (q *Queue) Close() error {
	close(q.rows)
	return <-q.done
}

func (q *Queue) drain(w *Writer) error {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	var first error
	keep := func(err error) {
		// A full disk must not stop the load: rows are taken and the error kept.
		if err != nil && first == nil {
			first = err
		}
	}
	for {
		select {
		case row, ok := <-q.rows:
			if !ok {
				err := w.Close()
				if first != nil {
					return errors.Join(first, err)
				}
				return err
			}
			keep(w.Append(row))
		case <-tick.C:
			keep(w.Flush())
		}
	}
}
