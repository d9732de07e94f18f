package load

import "time"

// watch tells Env.Progress four times a second how far the load is, and once
// at the end. The function it returns ends the watching and waits for it.
func (d *driver) watch() func() {
	if d.env.Progress == nil {
		return func() {}
	}
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		t := time.NewTicker(250 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				d.env.Progress(d.progress())
			case <-quit:
				d.env.Progress(d.progress())
				return
			}
		}
	}()
	return func() { close(quit); <-gone }
}

func (d *driver) progress() Progress {
	p := Progress{Phase: "warm-up", Done: d.done.Load(), Failed: d.failed.Load()}
	w := d.plan.Window
	if w.Count > 0 {
		p.Total = d.plan.Warmup.Count + w.Count
		p.Share = min(float64(p.Done)/float64(p.Total), 1)
	}
	if d.begun.Load() {
		p.Phase = "window"
		if w.Duration > 0 {
			p.Share = max(p.Share, min(float64(d.clock.Since()-time.Duration(d.start.Load()))/float64(w.Duration), 1))
		}
	}
	return p
}
