package test

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// What several nodes promise of the names in a folder (architecture.md, "Consistency"): there is an order of all operations, which puts none
// before one that had ended when it began, and in which a plain set of names answers each write, each listing and each miss as it was
// answered. A hit may be stale. So it says nothing, and where the kernel finds a name by such a hit, EEXIST says but that the name was
// there once.

// nameCount is how many names a folder has, numbered from 0.
const nameCount = 6

// folderOp is one operation in a folder, and what it answered.
type folderOp struct {
	Kind       opKind
	From, To   int // names; To alone if there is but one
	Errno      syscall.Errno
	Unknown    bool   // whether it was done: it ended with another error than those of a file system
	Listed     uint16 // names that a listing had, a bit each
	Client     int
	Start, End time.Duration // since the test began
}

type opKind int

const (
	opCreate opKind = iota // with O_EXCL
	opLink                 // of a file that has no other name there
	opRename               // with RENAME_NOREPLACE
	opUnlink
	opMiss // a stat that answered ENOENT
	opList
)

func (k opKind) String() string {
	return [...]string{"create", "link", "rename", "unlink", "miss", "list"}[k]
}

func (o *folderOp) String() string {
	what := fmt.Sprintf("%c", 'a'+o.To)
	switch o.Kind {
	case opRename:
		what = fmt.Sprintf("%c %c", 'a'+o.From, 'a'+o.To)
	case opList:
		what = "{" + lettersOf(o.Listed) + "}"
	}
	answer := "done"
	if o.Unknown {
		answer = "unknown, " + o.Errno.Error()
	} else if o.Errno != 0 {
		answer = o.Errno.Error()
	}
	return fmt.Sprintf("%d-%d µs client %d: %v %s: %s", o.Start.Microseconds(), o.End.Microseconds(), o.Client, o.Kind, what, answer)
}

func lettersOf(set uint16) string {
	var text strings.Builder
	for ; set != 0; set &= set - 1 {
		text.WriteByte(byte('a' + bits.TrailingZeros16(set)))
	}
	return text.String()
}

// folderNames are the names that are there, and those that ever were.
type folderNames struct{ there, ever uint16 }

func (n folderNames) has(name int) bool { return n.there>>name&1 != 0 }

func (n folderNames) with(name int) folderNames {
	return folderNames{n.there | 1<<name, n.ever | 1<<name}
}

func (n folderNames) without(name int) folderNames {
	return folderNames{n.there &^ (1 << name), n.ever}
}

// after tells whether an operation may answer what it did, and what the names are after it. One of unknown outcome may be done late or, which
// is as if it were done after all others, never.
func (n folderNames) after(o *folderOp) (folderNames, bool) {
	can, want, next := n.outcome(o)
	switch {
	case o.Unknown && can:
		return next, true
	case o.Unknown:
		return n, true
	case o.Errno == syscall.EEXIST:
		return n, o.Kind <= opRename && n.ever>>o.To&1 != 0
	case o.Errno == 0 && can:
		return next, true
	}
	return n, o.Errno == want && !can
}

// outcome tells whether an operation can be done, else with which error it ends, and what the names are when it is done.
func (n folderNames) outcome(o *folderOp) (can bool, errno syscall.Errno, next folderNames) {
	switch o.Kind {
	case opCreate, opLink:
		return !n.has(o.To), syscall.EEXIST, n.with(o.To)
	case opRename:
		if !n.has(o.From) {
			return false, syscall.ENOENT, n
		}
		return !n.has(o.To), syscall.EEXIST, n.without(o.From).with(o.To)
	case opUnlink:
		return n.has(o.To), syscall.ENOENT, n.without(o.To)
	case opMiss:
		return n.has(o.To), syscall.ENOENT, n // it is found
	}
	return n.there == o.Listed, syscall.EINVAL, n
}

var folderModel = porcupine.Model{
	Init: func() any { return folderNames{} },
	Step: func(state, input, _ any) (bool, any) {
		next, ok := state.(folderNames).after(input.(*folderOp))
		return ok, next
	},
	Hash: func(state any) uint64 { n := state.(folderNames); return uint64(n.there)<<16 | uint64(n.ever) },
}

func operationsOf(history []folderOp) (ops []porcupine.Operation) {
	const never = int64(1) << 62
	for i := range history {
		o := &history[i]
		end := int64(o.End)
		if o.Unknown {
			end = never
		}
		ops = append(ops, porcupine.Operation{ClientId: o.Client, Input: o, Call: int64(o.Start), Return: end})
	}
	return ops
}

// checkTime is how long the checker may take for one history.
const checkTime = time.Minute

// orderOf looks for an order of a folder's history: nil if there is one, else an error that shows how far one gets.
func orderOf(history []folderOp) error {
	result, info := porcupine.CheckOperationsVerbose(folderModel, operationsOf(history), checkTime)
	if result == porcupine.Ok {
		return nil
	}
	var longest []int
	for _, partial := range info.PartialLinearizations()[0] {
		if len(partial) > len(longest) {
			longest = partial
		}
	}
	var text strings.Builder
	var names folderNames
	left := make([]*folderOp, len(history))
	for i := range history {
		left[i] = &history[i]
	}
	for at, i := range longest {
		names, _ = names.after(&history[i])
		left[i] = nil
		if at > len(longest)-20 {
			fmt.Fprintf(&text, "%v\n\t{%s}\n", &history[i], lettersOf(names.there))
		}
	}
	text.WriteString("and then one of\n")
	left = slices.DeleteFunc(left, func(o *folderOp) bool { return o == nil })
	slices.SortFunc(left, func(a, b *folderOp) int { return cmp.Compare(a.Start, b.Start) })
	for _, o := range left[:min(len(left), 12)] {
		fmt.Fprintln(&text, o)
	}
	return fmt.Errorf("%s: %d of %d operations have an order, which ends with\n%s", result, len(longest), len(history), &text)
}

// plantStale has one listing of a history answer what an earlier one did, which can't be right any more: a name is missing that was made
// before the listing began, and that nobody has tried to take away meanwhile. false: the history has no place for that.
func plantStale(history []folderOp) ([]folderOp, bool) {
	for _, made := range history {
		if made.Unknown || made.Errno != 0 || made.Kind > opRename {
			continue
		}
		older := -1
		for i, l := range history {
			if l.Kind == opList && l.End < made.Start && l.Listed>>made.To&1 == 0 {
				older = i
			}
		}
		if older < 0 {
			continue
		}
		for i, l := range history {
			if l.Kind != opList || l.Start < made.End || slices.ContainsFunc(history, func(o folderOp) bool {
				return o.removes(made.To) && o.Start < l.End && (o.Unknown || o.End > made.Start)
			}) {
				continue
			}
			planted := slices.Clone(history)
			planted[i].Listed = history[older].Listed
			return planted, true
		}
	}
	return nil, false
}

// removes tells whether the operation takes a name away, or may have.
func (o *folderOp) removes(name int) bool {
	return (o.Unknown || o.Errno == 0) && (o.Kind == opUnlink && o.To == name || o.Kind == opRename && o.From == name)
}

// TestChecker shows the checker short histories, of which it has to know what is right.
func TestChecker(t *testing.T) {
	op := func(kind opKind, name int, start, end int, change ...func(*folderOp)) folderOp {
		o := folderOp{Kind: kind, To: name, Start: time.Duration(start), End: time.Duration(end)}
		for _, c := range change {
			c(&o)
		}
		return o
	}
	list := func(start, end int, names uint16) folderOp {
		return op(opList, 0, start, end, func(o *folderOp) { o.Listed = names })
	}
	answered := func(e syscall.Errno) func(*folderOp) { return func(o *folderOp) { o.Errno = e } }
	unknown := func(o *folderOp) { o.Errno, o.Unknown = syscall.EIO, true }
	from := func(name int) func(*folderOp) { return func(o *folderOp) { o.From = name } }
	miss := func(name, start, end int) folderOp { return op(opMiss, name, start, end, answered(syscall.ENOENT)) }
	for _, c := range []struct {
		what    string
		right   bool
		history []folderOp
	}{
		{"a name is listed", true, []folderOp{op(opCreate, 0, 1, 2), list(3, 4, 1)}},
		{"a stale listing", false, []folderOp{op(opCreate, 0, 1, 2), list(3, 4, 0)}},
		{"a listing meanwhile", true, []folderOp{op(opCreate, 0, 1, 3), list(2, 4, 0)}},
		{"a listing that goes back", false, []folderOp{op(opCreate, 0, 1, 9), list(2, 3, 1), list(4, 5, 0)}},
		{"a stale miss", false, []folderOp{op(opLink, 0, 1, 2), miss(0, 3, 4)}},
		{"a miss after all", true, []folderOp{op(opLink, 0, 1, 2), op(opUnlink, 0, 3, 4), miss(0, 5, 6)}},
		{"a listing with what was removed", false, []folderOp{op(opLink, 0, 1, 2), op(opUnlink, 0, 3, 4), list(5, 6, 1)}},
		{"two that make one name", false, []folderOp{op(opCreate, 0, 1, 4), op(opCreate, 0, 2, 3)}},
		{"EEXIST by a stale hit", true, []folderOp{op(opCreate, 0, 1, 2), op(opUnlink, 0, 3, 4), op(opCreate, 0, 5, 6, answered(syscall.EEXIST))}},
		{"EEXIST of what never was", false, []folderOp{op(opCreate, 0, 5, 6, answered(syscall.EEXIST))}},
		{"a rename", true, []folderOp{op(opCreate, 0, 1, 2), op(opRename, 1, 3, 4, from(0)), miss(0, 5, 6), list(7, 8, 2)}},
		{"a rename of nothing", false, []folderOp{op(opRename, 1, 3, 4, from(0))}},
		{"half a rename", false, []folderOp{op(opCreate, 0, 1, 2), op(opRename, 1, 3, 6, from(0)), list(4, 5, 3)}},
		{"an unknown one that was done", true, []folderOp{op(opCreate, 0, 1, 2, unknown), list(3, 4, 0), list(5, 6, 1)}},
		{"an unknown one that was not", true, []folderOp{op(opCreate, 0, 1, 2, unknown), list(3, 4, 0), list(5, 6, 0)}},
		{"an unknown one that was undone", false, []folderOp{op(opCreate, 0, 1, 2, unknown), list(3, 4, 1), list(5, 6, 0)}},
		{"an unknown one, done twice", false, []folderOp{
			op(opCreate, 0, 1, 2, unknown), list(3, 4, 1), op(opUnlink, 0, 5, 6), list(7, 8, 1),
		}},
	} {
		if err := orderOf(c.history); (err == nil) != c.right {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	history := []folderOp{list(0, 1, 0), op(opCreate, 0, 2, 3), miss(1, 3, 4), list(5, 6, 1)}
	if planted, ok := plantStale(history); !ok || orderOf(planted) == nil || orderOf(history) != nil {
		t.Error("a planted stale listing:", planted, ok)
	}
}
