package slurm

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parseTime reads a time as Slurm prints it: epoch seconds under
// SLURM_TIME_FORMAT=%s, or its ISO form, taken as UTC since commands run with
// TZ=UTC. Words for "not known" give the zero time.
func parseTime(text string) (time.Time, error) {
	switch text {
	case "", "Unknown", "N/A", "None", "NONE", "(null)", "0":
		return time.Time{}, nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if n < 0 || n > 1<<40 {
			return time.Time{}, fmt.Errorf("parse time %q: out of range", text)
		}
		return time.Unix(n, 0).UTC(), nil
	}
	t, err := time.Parse("2006-01-02T15:04:05", text)
	if err != nil {
		return time.Time{}, fmt.Errorf("parse time %q: neither epoch seconds nor ISO", text)
	}
	return t, nil
}

// Unlimited is the duration ParseLimit returns for a time limit without end.
const Unlimited = time.Duration(1<<63 - 1)

// ParseLimit reads a time limit as sbatch takes it and scontrol prints it:
// minutes, min:sec, h:min:sec, d-h, d-h:min, d-h:min:sec, or a word for no
// limit.
func ParseLimit(text string) (time.Duration, error) {
	switch strings.ToUpper(text) {
	case "UNLIMITED", "INFINITE", "-1":
		return Unlimited, nil
	case "":
		return 0, fmt.Errorf("parse time limit: empty")
	}
	bad := fmt.Errorf("parse time limit %q: want minutes, min:sec, h:min:sec, d-h, d-h:min or d-h:min:sec", text)
	days, rest, hasDays := strings.Cut(text, "-")
	if !hasDays {
		days, rest = "", text
	}
	var parts []int64
	for _, p := range strings.Split(rest, ":") {
		n, err := strconv.ParseUint(p, 10, 31)
		if err != nil {
			return 0, bad
		}
		parts = append(parts, int64(n))
	}
	var d, h, m, s int64
	if hasDays {
		n, err := strconv.ParseUint(days, 10, 20)
		if err != nil {
			return 0, bad
		}
		d = int64(n)
		parts = append(parts, 0, 0)[:max(3, len(parts))]
	}
	switch {
	case len(parts) == 1:
		m = parts[0]
	case len(parts) == 2:
		m, s = parts[0], parts[1]
	case len(parts) == 3:
		h, m, s = parts[0], parts[1], parts[2]
	default:
		return 0, bad
	}
	total := ((d*24+h)*60+m)*60 + s
	if total > int64(Unlimited/time.Second) {
		return 0, bad
	}
	return time.Duration(total) * time.Second, nil
}

// FormatLimit writes d as Slurm takes it, [d-]hh:mm:ss, rounded up to the next
// second.
func FormatLimit(d time.Duration) string {
	if d == Unlimited {
		return "UNLIMITED"
	}
	s := int64((d + time.Second - 1) / time.Second)
	days, s := s/86400, s%86400
	text := fmt.Sprintf("%02d:%02d:%02d", s/3600, s%3600/60, s%60)
	if days > 0 {
		text = fmt.Sprintf("%d-%s", days, text)
	}
	return text
}
