package phases

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// task is one phase for one rank.
type task struct {
	work  func(*rank) error
	ready *sync.WaitGroup
	gate  <-chan struct{}
	done  func()
}

// rank is one worker on a thread of its own. All it touches in a hot loop is
// its own; shown alone is read by others.
type rank struct {
	id    int
	e     *Engine
	tasks chan task
	ended chan struct{}
	row   Row
	shown atomic.Int64

	want  []byte // pattern of this rank, easyTransfer bytes
	got   []byte
	other []byte // pattern of the rank whose files are read, hardFileSize bytes
	tail  []byte // pattern of one small file, written
	last  []byte // pattern of one ior-hard transfer
	arena []byte
	stat  unix.Stat_t
}

// startRanks makes the workers and their buffers.
func (e *Engine) startRanks() error {
	for id := range e.plan.Ranks {
		mem, err := arena(2*easyTransfer + 65536)
		if err != nil {
			return errors.Join(fmt.Errorf("allocate buffers of rank %d: %w", id, err), e.endRanks())
		}
		r := &rank{id: id, e: e, tasks: make(chan task), ended: make(chan struct{}), arena: mem}
		r.want, r.got = mem[:easyTransfer], mem[easyTransfer:2*easyTransfer]
		small := mem[2*easyTransfer:]
		r.tail, r.other = small[:hardFileSize], small[4096:4096+hardFileSize]
		r.last = small[8192 : 8192+hardTransfer]
		fill(r.want, e.plan.Seed, id)
		fill(r.tail, e.plan.Seed, id)
		fill(r.last, e.plan.Seed, id)
		fill(r.other, e.plan.Seed, r.neighbour(2))
		e.ranks = append(e.ranks, r)
		go r.live()
	}
	return nil
}

// endRanks ends the workers, waits for them and frees their buffers.
func (e *Engine) endRanks() error {
	var errs []error
	for _, r := range e.ranks {
		close(r.tasks)
		<-r.ended
		errs = append(errs, unix.Munmap(r.arena))
	}
	e.ranks = nil
	return errors.Join(errs...)
}

func (r *rank) live() {
	defer close(r.ended)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for t := range r.tasks {
		t.ready.Done()
		<-t.gate
		r.row.StartNS = r.now()
		err := t.work(r)
		r.row.EndNS = r.now()
		switch {
		case err == nil:
			r.row.Status = Done
		case errors.Is(err, errStopped):
			r.row.Status = Interrupted
		default:
			r.row.Status, r.row.Error = Failed, err.Error()
			// The others cannot finish a phase that has lost a rank.
			r.e.stop.Store(true)
		}
		t.done()
	}
}

// begin clears the row for the next phase.
func (r *rank) begin(phase string) {
	r.row = Row{Phase: phase, Rank: r.id, Latency: &Latency{}}
	r.shown.Store(0)
}

func (r *rank) now() int64 { return int64(time.Since(r.e.epoch)) }

// neighbour is the rank that is n places further, around the end.
func (r *rank) neighbour(n int) int { return r.e.shift(r.id, n) }

// untilWall runs op for items 0, 1, ... until the stonewall or limit, waits for
// the other ranks, and then goes on to the largest count any of them reached:
// the wear-out. op returns the time at which it ended, or an error that ends
// the phase. Every rank meets the others exactly once, also after an error.
func (r *rank) untilWall(limit int64, op func(item int64) (int64, error)) error {
	begin := r.now()
	wall := begin + r.e.walls[r.id]
	var (
		done int64
		end  int64
		err  error
	)
	for done < limit {
		if r.e.stop.Load() {
			err = errStopped
			break
		}
		if end, err = op(done); err != nil {
			r.e.stop.Store(true)
			break
		}
		done++
		r.shown.Store(done)
		if end > wall {
			break
		}
	}
	r.row.WallOps, r.row.WallNS = done, r.now()-begin
	r.row.Capped = done == limit && end <= wall
	most := r.e.meeting.wait(done, r.e.abandon)
	if err != nil {
		return err
	}
	return r.each(done, most, op)
}

// absent reports a rank that could not begin to the others, which would wait
// for it at the stonewall.
func (r *rank) absent(err error) error {
	r.e.stop.Store(true)
	r.e.meeting.wait(0, r.e.abandon)
	return err
}

// each runs op for the items from..to-1.
func (r *rank) each(from, to int64, op func(item int64) (int64, error)) error {
	for i := from; i < to; i++ {
		if r.e.stop.Load() {
			return errStopped
		}
		if _, err := op(i); err != nil {
			return err
		}
		r.shown.Store(i + 1)
	}
	return nil
}

// ok counts one operation that began at start and moved n bytes.
func (r *rank) ok(start, n int64) int64 {
	end := r.now()
	r.row.Latency.Add(end - start)
	r.row.Ops++
	r.row.Bytes += n
	return end
}

// miss counts an operation that failed without ending the phase.
func (r *rank) miss(what string, err error) int64 {
	r.row.Failed++
	if r.row.Error == "" {
		r.row.Error = what + ": " + err.Error()
	}
	return r.now()
}

// check compares what was read with its pattern.
func (r *rank) check(got, want []byte, file string, off int64) {
	r.row.Verified += int64(len(got))
	at := differs(got, want)
	if at < 0 {
		return
	}
	r.row.Corrupt++
	if r.row.Error == "" {
		r.row.Error = fmt.Sprintf("corrupt data in %s at offset %d: read 0x%02x, wrote 0x%02x", file, off+int64(at), got[at], want[at])
	}
}
