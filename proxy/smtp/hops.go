package smtp

// maxHops is how many Received lines a message may have (RFC 5321, 6.3: at least 100) before it counts as looping.
const maxHops = 100

// hopCounter counts the Received lines in a message's header, which may come in pieces.
type hopCounter struct {
	hops    int
	matched int  // bytes of the line that agree with "received:"; -1: they do not
	length  int  // bytes of the line so far, without its line end
	body    bool // behind the header
}

func (h *hopCounter) write(p []byte) {
	const name = "received:"
	for _, c := range p {
		if h.body {
			return
		}
		switch {
		case c == '\n':
			h.body = h.length == 0
			h.matched, h.length = 0, 0
			continue
		case c == '\r':
			continue
		case h.matched >= 0 && lower(c) == name[h.matched]:
			h.matched++
			if h.matched == len(name) {
				h.hops++
				h.matched = -1
			}
		default:
			h.matched = -1
		}
		h.length++
	}
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
