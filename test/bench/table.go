package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// row is one line of the answer.
type row struct {
	what   string
	target string
	figure string
	beside string // what was measured beside it, and the ratio
	met    verdict
	note   string
}

type verdict string

const (
	open   verdict = ""
	met    verdict = "yes"
	missed verdict = "NO"
	other  verdict = "not comparable" // the target is for another size than was measured
)

func reached(ok bool) verdict {
	if ok {
		return met
	}
	return missed
}

// reachedWith is for targets that name a size: what was measured with less of it says nothing of them.
func reachedWith(size, named int, ok bool) verdict {
	if size < named {
		return other
	}
	return reached(ok)
}

type table struct{ rows []row }

func (t *table) add(r row) { t.rows = append(t.rows, r) }

// print writes the table in Markdown, and how many targets were reached.
func (t *table) print(w io.Writer) error {
	var b strings.Builder
	b.WriteString("\n| what | target | measured | beside it | met |\n| --- | --- | --- | --- | --- |\n")
	verdicts := map[verdict]int{}
	for _, r := range t.rows {
		verdicts[r.met]++
		if r.note != "" {
			r.figure = strings.TrimSpace(r.figure + " (" + strings.Join(strings.Fields(r.note), " ") + ")") // errors may have lines
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", r.what, r.target, r.figure, r.beside, r.met)
	}
	fmt.Fprintf(&b, "\ntargets reached: %d, missed: %d, not comparable: %d\n", verdicts[met], verdicts[missed], verdicts[other])
	_, err := io.WriteString(w, b.String())
	return err
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// quantile is the value that a share of all is not above; 0 of none.
func quantile(share float64, lists ...[]float64) float64 {
	v := slices.Sorted(slices.Values(slices.Concat(lists...)))
	if len(v) == 0 {
		return 0
	}
	return v[max(0, int(math.Ceil(share*float64(len(v))))-1)]
}

// ratios is the median of a[i]/b[i].
func ratios(a, b []float64) float64 {
	var r []float64
	for i := range min(len(a), len(b)) {
		if b[i] > 0 {
			r = append(r, a[i]/b[i])
		}
	}
	return median(r)
}

func rate(perSecond []float64) string {
	return fmt.Sprintf("%.0f/s (%.0f-%.0f)", median(perSecond), slices.Min(perSecond), slices.Max(perSecond))
}

func seconds(v []float64) string {
	m := median(v)
	if m < 1 {
		return fmt.Sprintf("%.1f ms (%.1f-%.1f)", m*1e3, slices.Min(v)*1e3, slices.Max(v)*1e3)
	}
	return fmt.Sprintf("%.2f s (%.2f-%.2f)", m, slices.Min(v), slices.Max(v))
}
