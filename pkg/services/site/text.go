package site

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// setText parses text into a field: lists are separated by newlines or, where
// there is none, by commas.
func setText(v reflect.Value, text string) error {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return fmt.Errorf("%q is not a whole number", text)
		}
		v.SetInt(int64(n))
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		v.SetBool(b)
	case reflect.Slice:
		sep := ","
		if strings.Contains(text, "\n") {
			sep = "\n"
		}
		var list []string
		for _, part := range strings.Split(text, sep) {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
		v.Set(reflect.ValueOf(list))
	default:
		return fmt.Errorf("cannot be set from text")
	}
	return nil
}

// ParseDuration reads 90m, 2h, 30d, or Slurm's D-HH:MM:SS, HH:MM:SS and plain minutes.
func ParseDuration(s string) (time.Duration, error) {
	bad := fmt.Errorf("%q is not a duration; write 90m, 2h, 30d or HH:MM:SS", s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 36500 {
			return 0, bad
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		if d < 0 {
			return 0, bad
		}
		return d, nil
	}
	var days int
	rest := s
	if d, r, ok := strings.Cut(s, "-"); ok {
		n, err := strconv.Atoi(d)
		if err != nil || n < 0 || n > 36500 {
			return 0, bad
		}
		days, rest = n, r
	}
	parts := strings.Split(rest, ":")
	if len(parts) > 3 {
		return 0, bad
	}
	nums := make([]int, len(parts))
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 || n > 1e6 {
			return 0, bad
		}
		nums[i] = n
	}
	total := time.Duration(days) * 24 * time.Hour
	switch {
	case len(nums) == 3:
		total += time.Duration(nums[0])*time.Hour + time.Duration(nums[1])*time.Minute + time.Duration(nums[2])*time.Second
	case len(nums) == 2 && strings.Contains(s, "-"):
		total += time.Duration(nums[0])*time.Hour + time.Duration(nums[1])*time.Minute
	case len(nums) == 2:
		total += time.Duration(nums[0])*time.Minute + time.Duration(nums[1])*time.Second
	case strings.Contains(s, "-"):
		total += time.Duration(nums[0]) * time.Hour
	default:
		total += time.Duration(nums[0]) * time.Minute
	}
	return total, nil
}
