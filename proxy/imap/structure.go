package imap

import (
	"strings"

	"github.com/emersion/go-imap/v2"

	"mailraft/proxy/imap/mimetree"
)

// bodyStructure puts a MIME structure in IMAP's terms (RFC 9051, 7.5.2).
func bodyStructure(p *mimetree.Part) imap.BodyStructure {
	disposition, language, location := extensions(p)
	if p.IsMultipart() {
		multi := &imap.BodyStructureMultiPart{
			Subtype: p.Subtype,
			Extended: &imap.BodyStructureMultiPartExt{
				Params: p.Params, Disposition: disposition, Language: language, Location: location,
			},
		}
		for _, child := range p.Parts {
			multi.Children = append(multi.Children, bodyStructure(child))
		}
		return multi
	}
	single := &imap.BodyStructureSinglePart{
		Type: p.Type, Subtype: p.Subtype, Params: p.Params,
		ID:          p.Field("Content-Id"),
		Description: p.Field("Content-Description"),
		Encoding:    p.Encoding(),
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
			disposition = &imap.BodyStructureDisposition{Value: value, Params: params}
		}
	}
	for _, l := range strings.Split(p.Field("Content-Language"), ",") {
		if l = strings.TrimSpace(l); l != "" && len(language) < 100 {
			language = append(language, l)
		}
	}
	return disposition, language, p.Field("Content-Location")
}
