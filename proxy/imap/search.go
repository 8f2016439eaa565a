package imap

import (
	"errors"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

// Search answers SEARCH and UID SEARCH (RFC 9051, 6.4.4).
func (s *session) Search(kind imapserver.NumKind, criteria *imap.SearchCriteria, options *imap.SearchOptions) (*imap.SearchData, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.view
	if searchKeys(criteria) > maxSearchKeys {
		return nil, no(imap.ResponseCodeLimit, "Too many search keys")
	}
	q, known := v.compile(criteria)
	if !known { // perhaps another session made that keyword
		k, err := readKeywords(v.dir)
		if err != nil {
			return nil, s.failed("read keywords", err)
		}
		v.setKeywords(k)
		q, _ = v.compile(criteria)
	}
	var seqs imap.SeqSet
	var uids, all imap.UIDSet
	data := &imap.SearchData{}
	var first, last imap.UID
	for i := range v.told {
		if err := s.over(); err != nil {
			return nil, err
		}
		if v.messages[i].gone {
			continue
		}
		found, err := s.matches(q, i)
		if errors.Is(err, errGone) {
			continue
		} else if err != nil {
			return nil, s.failed("search", err)
		} else if !found {
			continue
		}
		uid := imap.UID(v.messages[i].UID)
		all.AddNum(uid)
		if first == 0 {
			first = uid
		}
		last = uid
		number := uint32(i + 1)
		if kind == imapserver.NumKindUID {
			number = uint32(uid)
			uids.AddNum(uid)
		} else {
			seqs.AddNum(number)
		}
		if data.Count == 0 {
			data.Min = number
		}
		data.Max = number
		data.Count++
	}
	if kind == imapserver.NumKindUID {
		data.All = uids
	} else {
		data.All = seqs
	}
	if options.ReturnSave {
		v.found = saved(all, first, last, s.conn.currentArguments())
	}
	return data, nil
}

// saved returns what "$" stands for from now on: all that was found, but with MIN or MAX and neither ALL nor COUNT only these (RFC
// 5182, 2.4). The library says ALL when the client said none, so the command's own words decide.
func saved(all imap.UIDSet, first, last imap.UID, command string) imap.UIDSet {
	_, returns, _ := strings.Cut(command, "(")
	returns, _, _ = strings.Cut(strings.ToUpper(returns), ")")
	words := strings.Fields(returns)
	has := func(word string) bool { return slices.Contains(words, word) }
	if has("ALL") || has("COUNT") || !has("MIN") && !has("MAX") || first == 0 {
		return all
	}
	var out imap.UIDSet
	if has("MIN") {
		out.AddNum(first)
	}
	if has("MAX") {
		out.AddNum(last)
	}
	return out
}

// maxSearchKeys bounds what is asked of each message of a folder in one SEARCH.
const maxSearchKeys = 1000

// searchKeys counts the keys of a search.
func searchKeys(c *imap.SearchCriteria) int {
	n := 1 + len(c.SeqNum) + len(c.UID) + len(c.Flag) + len(c.NotFlag) + len(c.Header) + len(c.Body) + len(c.Text)
	for i := range c.Not {
		n += searchKeys(&c.Not[i])
	}
	for i := range c.Or {
		n += searchKeys(&c.Or[i][0]) + searchKeys(&c.Or[i][1])
	}
	return n
}

// query is a search with all that can be prepared prepared.
type query struct {
	among           [][]span // sets of places, all of which must have the message
	has, lacks      flagSet
	recent, old     bool
	since, before   time.Time
	sentSince       time.Time
	sentBefore      time.Time
	larger, smaller int64
	header          []imap.SearchCriteriaHeaderField // values in lower case
	body, text      []string                         // in lower case
	not             []*query
	or              [][2]*query
	impossible      bool
}

// compile prepares a search. known says whether all its keywords are.
func (v *view) compile(c *imap.SearchCriteria) (q *query, known bool) {
	q = &query{
		since: c.Since, before: c.Before, sentSince: c.SentSince, sentBefore: c.SentBefore,
		larger: c.Larger, smaller: c.Smaller,
	}
	known = true
	compile := func(c *imap.SearchCriteria) *query {
		below, ok := v.compile(c)
		known = known && ok
		return below
	}
	for _, set := range c.SeqNum {
		q.among = append(q.among, v.spans(set))
	}
	for _, set := range c.UID {
		q.among = append(q.among, v.spans(set))
	}
	for _, flag := range c.Flag {
		if strings.EqualFold(string(flag), string(flagRecent)) {
			q.recent = true
		} else if bit, ok := v.flagBit(flag); ok {
			q.has |= bit
		} else {
			q.impossible, known = true, false
		}
	}
	for _, flag := range c.NotFlag {
		if strings.EqualFold(string(flag), string(flagRecent)) {
			q.old = true
		} else if bit, ok := v.flagBit(flag); ok {
			q.lacks |= bit
		} else {
			known = false
		}
	}
	for _, f := range c.Header {
		q.header = append(q.header, imap.SearchCriteriaHeaderField{Key: f.Key, Value: strings.ToLower(f.Value)})
	}
	for _, b := range c.Body {
		q.body = append(q.body, strings.ToLower(b))
	}
	for _, t := range c.Text {
		q.text = append(q.text, strings.ToLower(t))
	}
	for i := range c.Not {
		q.not = append(q.not, compile(&c.Not[i]))
	}
	for i := range c.Or {
		q.or = append(q.or, [2]*query{compile(&c.Or[i][0]), compile(&c.Or[i][1])})
	}
	return q, known
}

// holds says whether a place is in one of the spans.
func holds(spans []span, place int) bool {
	i := sort.Search(len(spans), func(i int) bool { return spans[i].to > place })
	return i < len(spans) && spans[i].from <= place
}

func (v *view) flagBit(flag imap.Flag) (flagSet, bool) {
	if bit, ok := systemFlag(flag); ok {
		return bit, true
	}
	return v.keywords.bit(flag)
}

// matches says whether message i is what the query asks for. The file is read for nothing but header fields and text.
func (s *session) matches(q *query, i int) (bool, error) {
	t := &searched{session: s, place: i}
	defer t.close()
	return q.matches(t)
}

func (q *query) matches(t *searched) (bool, error) {
	m := t.message()
	if q.impossible || m.flags&q.has != q.has || m.flags&q.lacks != 0 || q.recent && !m.recent || q.old && m.recent {
		return false, nil
	}
	for _, spans := range q.among {
		if !holds(spans, t.place) {
			return false, nil
		}
	}
	if !within(m.Date.UTC(), q.since, q.before) {
		return false, nil
	}
	if q.larger > 0 || q.smaller > 0 {
		size, err := t.size()
		if err != nil {
			return false, err
		}
		if q.larger > 0 && size <= q.larger || q.smaller > 0 && size >= q.smaller {
			return false, nil
		}
	}
	for _, n := range q.not {
		if found, err := n.matches(t); found || err != nil {
			return false, err
		}
	}
	for _, pair := range q.or {
		found, err := pair[0].matches(t)
		if err == nil && !found {
			found, err = pair[1].matches(t)
		}
		if !found || err != nil {
			return false, err
		}
	}
	return q.matchesText(t)
}

func (q *query) matchesText(t *searched) (bool, error) {
	if !q.sentSince.IsZero() || !q.sentBefore.IsZero() {
		sent, err := t.sent()
		if err != nil || sent.IsZero() || !within(sent, q.sentSince, q.sentBefore) {
			return false, err
		}
	}
	for _, f := range q.header {
		if found, err := t.inHeader(f.Key, f.Value); !found || err != nil {
			return false, err
		}
	}
	for _, words := range q.body {
		if found, err := t.inBody(words); !found || err != nil {
			return false, err
		}
	}
	for _, words := range q.text {
		found, err := t.inHeader("", words)
		if err == nil && !found {
			found, err = t.inBody(words)
		}
		if !found || err != nil {
			return false, err
		}
	}
	return true, nil
}

// within compares days; times of day and zones do not count (RFC 9051, 6.4.4).
func within(t, since, before time.Time) bool {
	day := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
	return (since.IsZero() || !day.Before(since)) && (before.IsZero() || day.Before(before))
}
