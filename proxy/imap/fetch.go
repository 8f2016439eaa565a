package imap

import (
	"errors"
	"io"
	"slices"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
)

// Fetch answers FETCH and UID FETCH (RFC 9051, 6.4.5).
func (s *session) Fetch(w *imapserver.FetchWriter, set imap.NumSet, options *imap.FetchOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.view
	if len(options.BodySection)+len(options.BinarySection)+len(options.BinarySectionSize) > maxSections {
		return no(imap.ResponseCodeLimit, "Too many sections in one FETCH")
	}
	needsFile := options.Envelope || options.BodyStructure != nil || len(options.BodySection) > 0 ||
		len(options.BinarySection) > 0 || len(options.BinarySectionSize) > 0
	marksSeen := !v.readOnly && (slices.ContainsFunc(options.BodySection, func(i *imap.FetchItemBodySection) bool { return !i.Peek }) ||
		slices.ContainsFunc(options.BinarySection, func(i *imap.FetchItemBinarySection) bool { return !i.Peek }))
	incomplete := false
	for _, i := range v.resolve(set) {
		if err := s.over(); err != nil {
			return err
		}
		if v.messages[i].gone {
			incomplete = true
			continue
		}
		var c *content
		if needsFile || options.RFC822Size && v.messages[i].size < 0 {
			var err error
			if c, err = s.content(i); errors.Is(err, errGone) {
				incomplete = true
				continue
			} else if err != nil {
				return s.failed("read message", err)
			}
		}
		tellFlags := options.Flags
		if marksSeen && v.messages[i].flags&seen == 0 {
			if err := s.markSeen(i); err == nil {
				tellFlags = true // RFC 9051, 6.4.5: tell of the change
			} else if !errors.Is(err, errGone) {
				s.failed("mark as seen", err) // reading goes on: over quota, or read-only storage
			}
		}
		err := s.fetchOne(w, i, c, options, tellFlags)
		if c != nil {
			c.Close()
		}
		if err != nil {
			return err
		}
	}
	if incomplete {
		return missing(set)
	}
	return nil
}

// fetchOne writes the FETCH response of one message. All that can fail is found out before its first byte is written.
func (s *session) fetchOne(w *imapserver.FetchWriter, i int, c *content, options *imap.FetchOptions, tellFlags bool) error {
	m := &s.view.messages[i]
	var answer fetched
	if c != nil {
		if err := answer.prepare(c, options, s.over); err != nil {
			return s.failed("read message", err)
		}
	}
	r := w.CreateMessage(uint32(i + 1))
	if options.UID {
		r.WriteUID(imap.UID(m.UID))
	}
	if tellFlags {
		r.WriteFlags(s.view.flagList(m))
		m.changed = false
	}
	if options.InternalDate {
		r.WriteInternalDate(m.Date.UTC())
	}
	if options.RFC822Size {
		r.WriteRFC822Size(m.size)
	}
	if c != nil {
		if err := answer.write(r, c, options); err != nil {
			// The client waits for the rest of a literal that will not come: nothing can follow on this connection.
			s.log.Warn("message could not be sent whole", "uid", m.UID, "err", errno(err))
			s.conn.raw.Close()
			r.Close()
			return err
		}
	}
	return r.Close()
}

// fetched is what is read of a message's text for one FETCH response.
type fetched struct {
	envelope  *imap.Envelope
	structure imap.BodyStructure
	sections  []*section
	binaries  []int64 // decoded sizes
	sizes     []int64
}

const (
	maxSections = 100     // of a message in one FETCH
	maxChosen   = 4 << 20 // bytes of chosen header fields among these: they are in memory all together
)

// prepare finds out what there is to write; it stops when over says so.
func (f *fetched) prepare(c *content, options *imap.FetchOptions, over func() error) error {
	if options.BodyStructure != nil {
		tree, err := c.parts()
		if err != nil {
			return err
		}
		f.structure = bodyStructure(tree)
	}
	if options.Envelope {
		head, err := c.head()
		if err != nil {
			return err
		}
		f.envelope = envelope(head)
	}
	chosen := 0
	for _, item := range options.BodySection {
		section, err := c.bodySection(item)
		if err != nil {
			return err
		}
		if chosen += len(section.fields); chosen > maxChosen {
			return no(imap.ResponseCodeLimit, "Too many header fields in one FETCH")
		}
		f.sections = append(f.sections, section)
	}
	for _, item := range options.BinarySection {
		if err := over(); err != nil { // each reads the message
			return err
		}
		r, err := c.binary(item.Part)
		if err != nil {
			return err
		}
		size := count(r)
		if p := item.Partial; p != nil {
			size = min(max(size-max(p.Offset, 0), 0), max(p.Size, 0))
		}
		f.binaries = append(f.binaries, size)
	}
	for _, item := range options.BinarySectionSize {
		if err := over(); err != nil {
			return err
		}
		r, err := c.binary(item.Part)
		if err != nil {
			return err
		}
		f.sizes = append(f.sizes, count(r))
	}
	return nil
}

func (f *fetched) write(r *imapserver.FetchResponseWriter, c *content, options *imap.FetchOptions) error {
	if f.envelope != nil {
		r.WriteEnvelope(f.envelope)
	}
	if f.structure != nil {
		r.WriteBodyStructure(f.structure)
	}
	for i, item := range options.BodySection {
		if err := c.write(r.WriteBodySection(item, f.sections[i].size()), f.sections[i]); err != nil {
			return err
		}
	}
	for i, item := range options.BinarySection {
		body, err := c.binary(item.Part)
		if err != nil {
			return err
		}
		if p := item.Partial; p != nil {
			body = &skippingReader{r: body, skip: max(p.Offset, 0)}
		}
		w := r.WriteBinarySection(item, f.binaries[i])
		if _, err := io.Copy(onlyWriter{w}, io.LimitReader(body, f.binaries[i])); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
	}
	for i, item := range options.BinarySectionSize {
		r.WriteBinarySectionSize(item, uint32(f.sizes[i]))
	}
	return nil
}
