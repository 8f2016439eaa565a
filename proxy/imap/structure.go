package imap

import (
	"strings"

	"github.com/emersion/go-imap/v2"

	"mailraft/proxy/imap/mimetree"
)

// text makes a string of a message one that IMAP can carry: with UTF8=ACCEPT or IMAP4rev2, what is not UTF-8 would stand in quoted
// strings as it is (RFC 6855, 3).
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func texts(params map[string]string) map[string]string {
	valid := make(map[string]string, len(params))
	for name, value := range params {
		valid[text(name)] = text(value)
	}
	return valid
}

// bodyStructure puts a MIME structure in IMAP's terms (RFC 9051, 7.5.2).
func bodyStructure(p *mimetree.Part) imap.BodyStructure {
	disposition, language, location := extensions(p)
	if p.IsMultipart() {
		multi := &imap.BodyStructureMultiPart{
			Subtype: text(p.Subtype),
			Extended: &imap.BodyStructureMultiPartExt{
				Params: texts(p.Params), Disposition: disposition, Language: language, Location: location,
			},
		}
		for _, child := range p.Parts {
			multi.Children = append(multi.Children, bodyStructure(child))
		}
		return multi
	}
	single := &imap.BodyStructureSinglePart{
		Type: text(p.Type), Subtype: text(p.Subtype), Params: texts(p.Params),
		ID:          text(p.Field("Content-Id")),
		Description: text(p.Field("Content-Description")),
		Encoding:    text(p.Encoding()),
		Size:        uint32(p.Size()),
		Extended: &imap.BodyStructureSinglePartExt{
			Disposition: disposition, Language: language, Location: location,
		},
	}
	switch {
	case p.Message != nil:
		single.MessageRFC822 = &imap.BodyStructureMessageRFC822{
			Envelope:      envelope(p.Message),
			BodyStructure: bodyStructure(p.Message),
			NumLines:      p.Lines,
		}
	case p.Type == "message" && (p.Subtype == "rfc822" || p.Subtype == "global"):
		// Not looked into: too deep, or encoded against the rules. The grammar has no messages without a structure.
		single.Type, single.Subtype = "application", "octet-stream"
	case p.Type == "text":
		single.Text = &imap.BodyStructureText{NumLines: p.Lines}
	case p.Type == "multipart":
		single.Type, single.Subtype = "application", "octet-stream"
	}
	return single
}

func extensions(p *mimetree.Part) (disposition *imap.BodyStructureDisposition, language []string, location string) {
	if v := p.Field("Content-Disposition"); v != "" {
		if value, params := mimetree.ParseValue(v); value != "" {
			disposition = &imap.BodyStructureDisposition{Value: text(value), Params: texts(params)}
		}
	}
	for _, l := range strings.Split(p.Field("Content-Language"), ",") {
		if l = strings.TrimSpace(l); l != "" && len(language) < 100 {
			language = append(language, text(l))
		}
	}
	return disposition, language, text(p.Field("Content-Location"))
}
