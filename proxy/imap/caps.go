package imap

import (
	"strconv"
	"strings"

	"github.com/emersion/go-imap/v2"
)

// libraryCaps are the extensions that the library carries for us.
var libraryCaps = imap.CapSet{
	imap.CapIMAP4rev1:    {},
	imap.CapIMAP4rev2:    {},
	imap.CapNamespace:    {}, // RFC 2342
	imap.CapUIDPlus:      {}, // RFC 4315
	imap.CapESearch:      {}, // RFC 4731
	imap.CapSearchRes:    {}, // RFC 5182
	imap.CapListExtended: {}, // RFC 5258
	imap.CapListStatus:   {}, // RFC 5819
	imap.CapMove:         {}, // RFC 6851
	imap.CapStatusSize:   {}, // RFC 8438
	imap.CapBinary:       {}, // RFC 3516
	imap.CapChildren:     {}, // RFC 3348
	imap.CapSpecialUse:   {}, // RFC 6154
	imap.CapLiteralPlus:  {}, // RFC 7888
	imap.CapAppendLimit:  {}, // RFC 7889
}

// capabilities lists what the connection can do in its present state, as it stands behind CAPABILITY.
func (c *conn) capabilities() string {
	caps := []string{"IMAP4rev2", "IMAP4rev1", "LITERAL+", "ID", "SASL-IR"}
	if c.session == nil {
		if c.tls == nil && c.server.cfg.TLSConfig != nil {
			caps = append(caps, "STARTTLS")
		}
		if c.mayLogIn() {
			for _, mechanism := range c.saslClient().Mechanisms() {
				caps = append(caps, "AUTH="+mechanism)
			}
		} else {
			caps = append(caps, "LOGINDISABLED")
		}
		return strings.Join(caps, " ")
	}
	caps = append(caps, "ENABLE", "IDLE", "UNSELECT", "NAMESPACE", "UIDPLUS", "MOVE", "CHILDREN", "SPECIAL-USE", "LIST-EXTENDED",
		"LIST-STATUS", "STATUS=SIZE", "ESEARCH", "SEARCHRES", "BINARY", "UTF8=ACCEPT",
		"APPENDLIMIT="+strconv.FormatUint(uint64(c.server.cfg.MaxAppend), 10))
	return strings.Join(caps, " ")
}
